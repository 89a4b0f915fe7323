//! [`JointCalls`]: what is wanted while a call is under way goes together in the next one.
//!
//! Nobody waits for others to come: what is wanted on a quiet client goes at once, alone. Under load one call carries what
//! came during the one before it, so that the load itself sets the size of the batches. One call is under way at a time, unless
//! they are [`JointCalls::independent`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::oneshot;

use crate::Tasks;

/// An independent call that takes longer than this has others begin beside it, one in each such time.
const LONG: Duration = Duration::from_secs(1);

type Call<W, A> = Arc<dyn Fn(Vec<W>) -> BoxFuture<'static, Vec<A>> + Send + Sync>;

/// Carries out wishes `W` and answers each with an `A`. Cheap to clone.
pub struct JointCalls<W, A> {
    tasks: Tasks,
    most: usize,
    independent: bool,
    call: Call<W, A>,
    queue: Arc<Mutex<Queue<W, A>>>,
}

struct Queue<W, A> {
    waiting: VecDeque<(W, oneshot::Sender<A>)>,
    calling: bool,
}

impl<W: Send + 'static, A: Send + 'static> JointCalls<W, A> {
    /// Wishes are carried out by `call`, at most `most` at a time, in tasks of `tasks`. It gives one answer for each, in the same
    /// order.
    pub fn new(
        tasks: &Tasks,
        most: usize,
        call: impl Fn(Vec<W>) -> BoxFuture<'static, Vec<A>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            tasks: tasks.clone(),
            most,
            independent: false,
            call: Arc::new(call),
            queue: Arc::new(Mutex::new(Queue {
                waiting: VecDeque::new(),
                calling: false,
            })),
        }
    }

    /// For calls that have a limit of their own, and of which one says nothing about another: one that takes long does not hold
    /// up what comes after it, and one whose answer nobody waits for any more is cut off.
    pub fn independent(self) -> Self {
        Self {
            independent: true,
            ..self
        }
    }

    /// Whether nobody waits for anything, now.
    pub fn is_idle(&self) -> bool {
        !lock(&self.queue).calling
    }

    /// Has `wish` carried out. `None` where the call was cut off. Dropped before the answer is there, it does not cut the
    /// call off as long as others share it: the answer is dropped in its turn.
    pub async fn answer(&self, wish: W) -> Option<A> {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut queue = lock(&self.queue);
            if queue.waiting.len() >= self.most {
                // Behind a call that hangs, those who went away would pile up (I11).
                queue.waiting.retain(|(_, sender)| !sender.is_closed());
            }
            queue.waiting.push_back((wish, sender));
            !std::mem::replace(&mut queue.calling, true)
        };
        if begins {
            self.begin();
        }
        answer.await.ok()
    }

    fn begin(&self) {
        let calling = Calling {
            calls: self.clone(),
            leads: true,
        };
        self.tasks.spawn(calling.run());
    }
}

impl<W, A> Clone for JointCalls<W, A> {
    fn clone(&self) -> Self {
        Self {
            tasks: self.tasks.clone(),
            most: self.most,
            independent: self.independent,
            call: self.call.clone(),
            queue: self.queue.clone(),
        }
    }
}

/// The task that calls as long as somebody waits.
struct Calling<W: Send + 'static, A: Send + 'static> {
    calls: JointCalls<W, A>,
    /// It is the one that makes the next call.
    leads: bool,
}

impl<W: Send + 'static, A: Send + 'static> Calling<W, A> {
    async fn run(mut self) {
        // Those who were woken together want something together: the first of them does not go alone.
        tokio::task::yield_now().await;
        while self.leads
            && let Some((wishes, mut senders)) = self.next()
        {
            let call = (self.calls.call)(wishes);
            let answers = match self.calls.independent {
                true => self.beside_others(call, &mut senders).await,
                false => Some(call.await),
            };
            for (sender, answer) in senders.into_iter().zip(answers.into_iter().flatten()) {
                // Who has gone away meanwhile gets none, and the answer is dropped here.
                drop(sender.send(answer));
            }
        }
    }

    /// The answers of `call`, which leads no longer when it takes long. `None` where all have gone away who wait for it.
    async fn beside_others(
        &mut self,
        mut call: BoxFuture<'static, Vec<A>>,
        senders: &mut [oneshot::Sender<A>],
    ) -> Option<Vec<A>> {
        let abandoned = join_all(senders.iter_mut().map(oneshot::Sender::closed));
        let mut abandoned = std::pin::pin!(abandoned);
        let mut long = std::pin::pin!(tokio::time::sleep(LONG));
        loop {
            tokio::select! {
                biased;
                answers = &mut call => return Some(answers),
                _ = &mut abandoned => return None,
                () = &mut long, if self.leads => {
                    self.leads = false;
                    self.calls.begin();
                }
            }
        }
    }

    /// What waits now; `None` ends this task, and the next who wants something begins another.
    fn next(&mut self) -> Option<(Vec<W>, Vec<oneshot::Sender<A>>)> {
        let mut queue = lock(&self.calls.queue);
        queue.waiting.retain(|(_, sender)| !sender.is_closed());
        let count = queue.waiting.len().min(self.calls.most);
        if count == 0 {
            queue.calling = false;
            self.leads = false;
            return None;
        }
        Some(queue.waiting.drain(..count).unzip())
    }
}

/// A call that panicked, or was cut off with its runtime, leaves nobody waiting.
impl<W: Send + 'static, A: Send + 'static> Drop for Calling<W, A> {
    fn drop(&mut self) {
        if self.leads {
            let mut queue = lock(&self.calls.queue);
            queue.calling = false;
            queue.waiting.clear();
        }
    }
}

fn lock<W, A>(queue: &Mutex<Queue<W, A>>) -> MutexGuard<'_, Queue<W, A>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    const MOST: usize = 64;

    /// The calls, what lets one of them end, and how many wishes each carried.
    type Doubling = (JointCalls<u32, u32>, Arc<Semaphore>, Arc<Mutex<Vec<usize>>>);

    /// Calls that double their wishes, each when it is let.
    fn doubling() -> Doubling {
        let (may_end, sizes) = (
            Arc::new(Semaphore::new(0)),
            Arc::<Mutex<Vec<usize>>>::default(),
        );
        let (let_end, told) = (may_end.clone(), sizes.clone());
        let calls = JointCalls::new(&Tasks::new(), MOST, move |wishes: Vec<u32>| {
            told.lock().unwrap().push(wishes.len());
            let let_end = let_end.clone();
            Box::pin(async move {
                let_end.acquire().await.unwrap().forget();
                wishes.into_iter().map(|wish| wish * 2).collect()
            })
        });
        (calls, may_end, sizes)
    }

    #[tokio::test]
    async fn what_is_wanted_during_a_call_goes_in_the_next_and_each_gets_its_own_answer() {
        let (calls, may_end, sizes) = doubling();
        let wait = |wish| {
            let calls = calls.clone();
            tokio::spawn(async move { calls.answer(wish).await })
        };
        let first = wait(0);
        while sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (1..=100).map(wait).collect();
        while lock(&calls.queue).waiting.len() < 100 {
            tokio::task::yield_now().await;
        }
        may_end.add_permits(3);
        assert_eq!(first.await.unwrap(), Some(0));
        for (wish, other) in (1..).zip(others) {
            assert_eq!(other.await.unwrap(), Some(wish * 2));
        }
        assert_eq!(*sizes.lock().unwrap(), [1, MOST, 100 - MOST]);
        assert!(!lock(&calls.queue).calling);
    }

    #[tokio::test]
    async fn who_goes_away_does_not_cut_off_the_others() {
        let (calls, may_end, sizes) = doubling();
        {
            let gone = calls.answer(1);
            tokio::pin!(gone);
            while sizes.lock().unwrap().is_empty() {
                tokio::select! {
                    biased;
                    _ = &mut gone => panic!("nothing has been let end"),
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        may_end.add_permits(2);
        assert_eq!(calls.answer(2).await, Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn i11_an_independent_call_that_hangs_holds_up_nobody_for_long() {
        let (calls, may_end, sizes) = doubling();
        let calls = calls.independent();
        let wait = |wish| {
            let calls = calls.clone();
            tokio::spawn(async move { calls.answer(wish).await })
        };
        let hangs = wait(1);
        tokio::time::sleep(LONG / 2).await;
        let others = [wait(2), wait(3)];
        tokio::time::sleep(LONG / 4).await;
        assert_eq!(*sizes.lock().unwrap(), [1]);
        tokio::time::sleep(LONG / 2).await;
        assert_eq!(*sizes.lock().unwrap(), [1, 2]);
        // In the order in which they asked, so the first call ends first here.
        may_end.add_permits(2);
        assert_eq!(hangs.await.unwrap(), Some(2));
        for (wish, other) in (2..).zip(others) {
            assert_eq!(other.await.unwrap(), Some(wish * 2));
        }
        tokio::time::sleep(LONG).await;
        assert!(calls.is_idle());
        may_end.add_permits(1);
        assert_eq!(calls.answer(4).await, Some(8));
    }

    #[tokio::test(start_paused = true)]
    async fn i11_an_independent_call_that_nobody_waits_for_is_cut_off() {
        let (calls, may_end, sizes) = doubling();
        let calls = calls.independent();
        let gone: Vec<_> = (1..4)
            .map(|wish| {
                let calls = calls.clone();
                tokio::spawn(async move { calls.answer(wish).await })
            })
            .collect();
        tokio::time::sleep(LONG / 2).await;
        assert_eq!(*sizes.lock().unwrap(), [3]);
        for waiting in &gone[1..] {
            waiting.abort();
        }
        tokio::time::sleep(LONG / 4).await;
        assert!(!calls.is_idle(), "one still waits");
        gone[0].abort();
        tokio::time::sleep(LONG / 8).await;
        assert!(calls.is_idle());
        may_end.add_permits(1);
        assert_eq!(calls.answer(4).await, Some(8));
    }

    #[tokio::test]
    async fn a_call_that_panics_leaves_nobody_waiting() {
        let calls = JointCalls::new(&Tasks::new(), MOST, |wishes: Vec<u32>| {
            Box::pin(async move {
                assert_ne!(wishes, [1], "as it should");
                wishes
            })
        });
        assert_eq!(calls.answer(1).await, None);
        assert_eq!(calls.answer(2).await, Some(2));
    }
}
