//! [`KeyedCalls`]: [`JointCalls`] for each of many peers. What is wanted of one waits for no other.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::{JointCalls, Tasks};

/// Keys that are remembered, as long as not more of them are in use.
const MOST_KEYS: usize = 1024;

type Call<W, A> = Arc<dyn Fn(Vec<W>) -> BoxFuture<'static, Vec<A>> + Send + Sync>;

/// Independent calls, apart by a key `K`.
pub struct KeyedCalls<K, W, A> {
    tasks: Tasks,
    most: usize,
    call: Call<W, A>,
    keys: Mutex<HashMap<K, JointCalls<W, A>>>,
}

impl<K, W, A> KeyedCalls<K, W, A>
where
    K: Eq + Hash,
    W: Send + 'static,
    A: Send + 'static,
{
    /// Wishes of one key are carried out by `call`, at most `most` at a time. It gives one answer for each, in the same order.
    pub fn new(
        tasks: &Tasks,
        most: usize,
        call: impl Fn(Vec<W>) -> BoxFuture<'static, Vec<A>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            tasks: tasks.clone(),
            most,
            call: Arc::new(call),
            keys: Mutex::default(),
        }
    }

    /// Has `wish` carried out with others of `key`. `None` where the call was cut off.
    pub async fn answer(&self, key: K, wish: W) -> Option<A> {
        let calls = self.of(key);
        calls.answer(wish).await
    }

    fn of(&self, key: K) -> JointCalls<W, A> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = keys.get(&key) {
            return calls.clone();
        }
        if keys.len() >= MOST_KEYS {
            keys.retain(|_, calls| !calls.is_idle());
        }
        let call = self.call.clone();
        let calls = JointCalls::new(&self.tasks, self.most, move |wishes| call(wishes));
        let calls = calls.independent();
        keys.insert(key, calls.clone());
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    #[tokio::test]
    async fn what_has_one_key_goes_together_and_other_keys_wait_for_none_of_it() {
        let tasks = Tasks::new();
        let calls = KeyedCalls::new(&tasks, 8, |wishes: Vec<u32>| {
            Box::pin(async move {
                if wishes.contains(&0) {
                    std::future::pending::<()>().await;
                }
                vec![wishes.len(); wishes.len()]
            })
        });
        let stuck = calls.answer("a", 0);
        let others = join_all((1..=3).map(|wish| calls.answer("b", wish)));
        tokio::select! {
            biased;
            _ = stuck => unreachable!("nobody answers"),
            sizes = others => assert_eq!(sizes, [Some(3); 3]),
        }
    }

    #[tokio::test]
    async fn i11_keys_that_are_not_in_use_are_forgotten() {
        let tasks = Tasks::new();
        let calls = KeyedCalls::new(&tasks, 8, |wishes: Vec<()>| Box::pin(async move { wishes }));
        for key in 0..3 * MOST_KEYS {
            assert_eq!(calls.answer(key, ()).await, Some(()));
            // The task that called says that it is idle in its next turn.
            tokio::task::yield_now().await;
        }
        assert!(calls.keys.lock().unwrap().len() <= MOST_KEYS);
    }
}
