//! [`admit`]: who has to go when every place is taken. Pure.
//!
//! A connection in the middle of a request keeps its place. One that idles, or has sent only part of its headers, loses it
//! to a newcomer once it has had a moment to show what it wants. So sockets that trickle headers never keep others out,
//! however many they are: each newcomer takes the place of the oldest of them.

use std::time::Duration;

/// How long a connection without a request keeps its place for certain. Honest clients send their headers within it;
/// without it, a burst of newcomers would throw each other out.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What to do with a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is a free place.
    Admit,
    /// Close this connection and look again when it is gone.
    Evict(u64),
    /// Look again when a connection ends, or after so long.
    Wait(Duration),
}

/// Decides over a newcomer. `idle` has, for each open connection, how long it has been without a request; `None` is in
/// the middle of one, or told to go already.
pub(crate) fn admit(
    max: usize,
    open: usize,
    idle: impl Iterator<Item = (u64, Option<Duration>)>,
) -> Admission {
    if open < max {
        return Admission::Admit;
    }
    let longest = idle
        .filter_map(|(id, idle)| idle.map(|idle| (idle, std::cmp::Reverse(id))))
        .max();
    match longest {
        Some((idle, std::cmp::Reverse(id))) if idle >= GRACE => Admission::Evict(id),
        Some((idle, _)) => Admission::Wait(GRACE.saturating_sub(idle)),
        None => Admission::Wait(GRACE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3);

    #[test]
    fn a_free_place_is_taken_and_nobody_goes() {
        assert_eq!(admit(2, 1, [(1, Some(LONG))].into_iter()), Admission::Admit);
    }

    #[test]
    fn the_longest_idle_connection_goes_first() {
        let idle = [
            (1, Some(GRACE)),
            (2, Some(LONG)),
            (3, Some(LONG)),
            (4, None),
        ];
        assert_eq!(admit(4, 4, idle.into_iter()), Admission::Evict(2));
    }

    #[test]
    fn nobody_goes_within_the_grace_period() {
        let almost = GRACE - Duration::from_millis(1);
        let idle = [(1, Some(Duration::ZERO)), (2, Some(almost))];
        assert_eq!(
            admit(2, 2, idle.into_iter()),
            Admission::Wait(Duration::from_millis(1))
        );
    }

    #[test]
    fn nobody_goes_in_the_middle_of_a_request() {
        let busy = [(1, None), (2, None)];
        assert_eq!(admit(2, 2, busy.into_iter()), Admission::Wait(GRACE));
    }
}
