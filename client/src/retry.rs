//! [`Retry`]: when a call that is safe to repeat is repeated, and when enough is enough.
//!
//! Only calls whose second execution has no second effect come here: look-ups, commits (idempotent by generation),
//! abandons, allocations (one that was lost expires by itself). Bytes under way are never repeated by this.

use std::future::Future;
use std::time::Duration;

use richardstore_proto::{ErrorCode, StoreError};
use tokio::time::Instant;

/// Limits of the repetition of one kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// One try may take this long.
    pub(crate) deadline: Duration,
    /// No new try begins after this long.
    pub(crate) give_up_after: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A call somebody waits for, which should fail while they still care.
pub(crate) const INTERACTIVE: Retry = Retry {
    deadline: Duration::from_secs(5),
    give_up_after: Duration::from_secs(3),
};

/// A call at the end of an upload: worth waiting for a namenode that restarts, since all the bytes were sent already.
pub(crate) const PATIENT: Retry = Retry {
    deadline: Duration::from_secs(5),
    give_up_after: Duration::from_secs(10),
};

/// A call that is of use only if it succeeds at once.
pub(crate) const ONCE: Retry = Retry {
    deadline: Duration::from_secs(5),
    give_up_after: Duration::ZERO,
};

impl Retry {
    /// No call takes longer than this.
    pub(crate) fn longest(&self) -> Duration {
        self.give_up_after.saturating_add(self.deadline)
    }

    /// How long to pause before try number `tried + 1`, `elapsed` after the start of the first. `None`: give up.
    fn pause(&self, tried: u32, elapsed: Duration, code: ErrorCode) -> Option<Duration> {
        // Everything else that may help later (safe mode, too few nodes) takes longer than a caller should be held.
        if !matches!(code, ErrorCode::Unavailable | ErrorCode::RequestTimeout) {
            return None;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << tried.saturating_sub(1).min(10))
            .min(LONGEST_PAUSE);
        (elapsed + pause <= self.give_up_after).then_some(pause)
    }

    /// Makes `call` until it succeeds, fails for good, or the limits are reached. The call is told how many tries went
    /// before it.
    ///
    /// # Errors
    /// The last try's; [`ErrorCode::Unavailable`] where it took too long.
    pub(crate) async fn run<T, F, Fut>(&self, mut call: F) -> Result<T, StoreError>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, tonic::Status>>,
    {
        let start = Instant::now();
        let mut tried = 0;
        loop {
            let error = match tokio::time::timeout(self.deadline, call(tried)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => StoreError::from(status),
                Err(_) => StoreError::new(
                    ErrorCode::Unavailable,
                    format!("no answer within {} s", self.deadline.as_secs()),
                ),
            };
            tried += 1;
            let Some(pause) = self.pause(tried, start.elapsed(), error.code) else {
                return Err(error);
            };
            tracing::debug!(tried, %error, "trying again");
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_end() {
        let pause = |tried, elapsed| {
            PATIENT.pause(
                tried,
                Duration::from_millis(elapsed),
                ErrorCode::Unavailable,
            )
        };
        assert_eq!(pause(1, 0), Some(Duration::from_millis(50)));
        assert_eq!(pause(3, 150), Some(Duration::from_millis(200)));
        assert_eq!(pause(40, 150), Some(Duration::from_secs(1)));
        assert_eq!(pause(9, 9_001), None);
    }

    #[test]
    fn only_an_absent_peer_is_asked_again() {
        let first = |code| PATIENT.pause(1, Duration::ZERO, code);
        assert!(first(ErrorCode::Unavailable).is_some());
        for code in [
            ErrorCode::NotFound,
            ErrorCode::SafeMode,
            ErrorCode::Conflict,
            ErrorCode::InsufficientReplicas,
            ErrorCode::Internal,
        ] {
            assert_eq!(first(code), None, "{code:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up() {
        let error = ONCE
            .run(|_| std::future::pending::<Result<(), tonic::Status>>())
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_comes_back_answers() {
        let answer = PATIENT
            .run(|tried| async move {
                match tried {
                    0..=4 => Err(tonic::Status::unavailable("restarting")),
                    _ => Ok(tried),
                }
            })
            .await;
        assert_eq!(answer, Ok(5));
    }
}
