//! [`Host`]: what can go wrong with one host beside its network: it is killed, its clock is set, it loses answers.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use richardstore_runtime::Clock;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpStream;

/// A connection, until one of its ends takes it away.
pub type Line = Arc<Mutex<Option<TcpStream>>>;

/// One host through all of its starts.
#[derive(Default)]
pub struct Host {
    clock_step_ms: AtomicI64,
    loses_answers: AtomicBool,
    answers_lost: AtomicU64,
    life: Mutex<Life>,
}

/// One start of a host.
#[derive(Default)]
struct Life {
    killed: CancellationToken,
    lines: Vec<Weak<Mutex<Option<TcpStream>>>>,
}

impl Host {
    /// A new process. The token is cancelled when it is killed.
    pub fn begin(&self) -> CancellationToken {
        *self.life() = Life::default();
        self.life().killed.clone()
    }

    /// Asks the process that runs to [`Host::hang_up`] and do nothing more.
    pub fn kill(&self) {
        self.life().killed.cancel();
    }

    /// Ends all connections, as a kernel does for a process that died. In the order in which they were opened: dropped with
    /// their tasks they would end in tokio's order, which depends on task ids that are counted through the process.
    pub fn hang_up(&self) {
        let lines = std::mem::take(&mut self.life().lines);
        for line in lines.iter().filter_map(Weak::upgrade) {
            drop(line.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Takes note of a connection.
    pub fn line(&self, stream: TcpStream) -> Line {
        let mut life = self.life();
        let stream = (!life.killed.is_cancelled()).then_some(stream);
        let line = Arc::new(Mutex::new(stream));
        life.lines.retain(|line| line.strong_count() > 0);
        life.lines.push(Arc::downgrade(&line));
        line
    }

    /// From now on, whether what is answered to this host gets lost with its connection, after it was asked for.
    pub fn lose_answers(&self, lose: bool) {
        self.loses_answers.store(lose, Ordering::SeqCst);
    }

    /// Whether an answer that just came in is lost.
    pub fn loses_this_answer(&self) -> bool {
        let loses = self.loses_answers.load(Ordering::SeqCst);
        self.answers_lost
            .fetch_add(u64::from(loses), Ordering::SeqCst);
        loses
    }

    /// Answers that were lost.
    pub fn answers_lost(&self) -> u64 {
        self.answers_lost.load(Ordering::SeqCst)
    }

    /// Sets its wall clock, so many milliseconds from the right time.
    pub fn set_clock(&self, step_ms: i64) {
        self.clock_step_ms.store(step_ms, Ordering::SeqCst);
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Host {
    fn now_ms(&self) -> u64 {
        let since = turmoil::since_epoch().unwrap_or_default();
        let step = self.clock_step_ms.load(Ordering::SeqCst);
        u64::try_from(since.as_millis())
            .unwrap()
            .saturating_add_signed(step)
    }
}
