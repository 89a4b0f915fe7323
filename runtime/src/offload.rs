//! [`Offload`]: where blocking work runs, so that no disk call holds up an async thread.

/// Blocking work that did not come back.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// It panicked.
    #[error("blocking work panicked: {0}")]
    Panicked(String),
    /// The runtime is shutting down.
    #[error("blocking work was cancelled by shutdown")]
    Cancelled,
}

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Offload {
    /// On tokio's blocking threads.
    #[default]
    Threads,
    /// In place. For simulations, where the order of events must not depend on threads.
    Inline,
}

impl Offload {
    /// Runs `work` to its end and returns what it returns. A panic in it becomes an error, so that one damaged file
    /// cannot take the process down.
    pub async fn run<T, F>(self, work: F) -> Result<T, OffloadError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self {
            Self::Inline => Ok(work()),
            Self::Threads => tokio::task::spawn_blocking(work).await.map_err(|error| {
                if error.is_panic() {
                    OffloadError::Panicked(panic_words(error.into_panic().as_ref()))
                } else {
                    OffloadError::Cancelled
                }
            }),
        }
    }
}

fn panic_words(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_blocking_work_is_an_error() {
        let result = Offload::Threads.run(|| panic!("boom")).await;
        assert!(matches!(result, Err(OffloadError::Panicked(words)) if words == "boom"));
    }

    #[tokio::test]
    async fn inline_work_runs_on_the_calling_thread() {
        let here = std::thread::current().id();
        let there = Offload::Inline.run(|| std::thread::current().id()).await;
        assert_eq!(there.unwrap(), here);
    }
}
