//! Calls into code that may panic or hang. sled 0.34 does both when its files are damaged: a panic in its flush thread, for
//! one, leaves the drop of its database waiting for ever.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use super::IndexError;

/// Runs `work` here; a panic in it becomes [`IndexError::Stopped`]. The panic hook still reports it.
///
/// What `work` shares with others must be given up after a panic: it may be half changed.
pub(super) fn catching<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(IndexError::Stopped(panic_words(payload.as_ref()))))
}

/// Runs `work` on a thread of its own and waits at most `limit`. After that the thread is left to itself: it holds on to
/// what it was given, which therefore must not be used for anything else.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    let (done, outcome) = sync_channel(1);
    Builder::new()
        .name("index".to_owned())
        .spawn(move || {
            // Nobody listens any more if the limit has passed; the result is dropped here then.
            let _ = done.send(catching(work));
        })
        .map_err(|error| IndexError::Stopped(format!("no thread: {error}")))?;
    match outcome.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(IndexError::Stopped(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
        Err(RecvTimeoutError::Disconnected) => {
            Err(IndexError::Stopped("its thread ended".to_owned()))
        }
    }
}

fn panic_words(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let here = catching::<()>(|| panic!("page {} lost", 7)).unwrap_err();
        assert!(matches!(here, IndexError::Stopped(words) if words == "page 7 lost"));
        let there = within::<()>(Duration::from_secs(60), || panic!("boom")).unwrap_err();
        assert!(matches!(there, IndexError::Stopped(words) if words == "boom"));
    }

    #[test]
    fn work_that_hangs_is_left_behind() {
        let (release, held) = channel::<()>();
        let hung = within(Duration::from_millis(1), move || {
            let _ = held.recv();
            Ok(())
        });
        assert!(matches!(hung, Err(IndexError::Stopped(_))));
        drop(release);
    }
}
