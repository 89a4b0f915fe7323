//! [`Outages`]: for how long something did not work, however many noticed it at once. Pure.

use std::time::Duration;

/// Spans of time, measured from one common start.
#[derive(Debug, Clone, Default)]
pub struct Outages(Vec<(Duration, Duration)>);

impl Outages {
    /// It did not work from `from` until `until`.
    pub fn add(&mut self, from: Duration, until: Duration) {
        self.0.push((from, until));
    }

    /// The time in which at least one span was open.
    pub fn total(&self) -> Duration {
        let mut spans = self.0.clone();
        spans.sort_unstable();
        let (mut total, mut counted_until) = (Duration::ZERO, Duration::ZERO);
        for (from, until) in spans {
            total += until.saturating_sub(from.max(counted_until));
            counted_until = counted_until.max(until);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_that_two_saw_counts_once() {
        let mut outages = Outages::default();
        let seconds = Duration::from_secs;
        for (from, until) in [(10, 14), (1, 3), (2, 5), (11, 12), (14, 15)] {
            outages.add(seconds(from), seconds(until));
        }
        assert_eq!(outages.total(), seconds(4 + 5));
        assert_eq!(Outages::default().total(), seconds(0));
    }
}
