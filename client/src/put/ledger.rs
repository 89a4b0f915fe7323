//! [`Ledger`]: allocations and commits of all uploads of one client, those of small files several in a call.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use richardstore_proto::{ErrorCode, FileLocations, StoreError};
use richardstore_runtime::{JointCalls, Tasks};
use tokio::time::Instant;

use super::ahead::Ahead;
use super::lease::Lease;
use crate::error::ClientError;
use crate::namenode::{Allocated, AllocationWish, Commit, Committed, Granted, NameNode};
use crate::retry::{INTERACTIVE, PATIENT};

/// Files up to this size are small: that the room of the largest of them is reserved for each does not matter then.
const SMALL_BYTES: u64 = super::WHOLE_BYTES;

/// Allocations or commits of one call at most; the namenode takes no more.
const MOST_JOINT: usize = 64;

/// An allocation, or the file that is there already.
pub(crate) enum Held {
    /// Write it.
    New(Granted, Lease),
    /// The declared hash is stored already.
    Existing(FileLocations),
}

type Allocations = JointCalls<AllocationWish, Result<(Granted, Lease), ClientError>>;

/// What a client asks the namenode for its uploads.
pub(crate) struct Ledger {
    namenode: NameNode,
    tasks: Tasks,
    ahead: Arc<Ahead>,
    allocations: Allocations,
    commits: JointCalls<Commit, Result<Committed, ClientError>>,
}

impl Ledger {
    pub(crate) fn new(namenode: &NameNode, tasks: &Tasks) -> Self {
        let ahead = Ahead::new(namenode, tasks);
        let allocations = JointCalls::new(tasks, MOST_JOINT, {
            let (namenode, tasks, ahead) = (namenode.clone(), tasks.clone(), ahead.clone());
            move |wishes| {
                let (namenode, tasks, ahead) = (namenode.clone(), tasks.clone(), ahead.clone());
                Box::pin(async move { allocate_all(&namenode, &tasks, &ahead, wishes).await })
            }
        });
        let commits = JointCalls::new(tasks, MOST_JOINT, {
            let namenode = namenode.clone();
            move |commits| {
                let namenode = namenode.clone();
                Box::pin(async move { namenode.commit_all(commits).await })
            }
        });
        Self {
            namenode: namenode.clone(),
            tasks: tasks.clone(),
            ahead,
            allocations,
            commits,
        }
    }

    /// What `wish` asks for; `anew`: an allocation that is not older than this call.
    ///
    /// # Errors
    /// The namenode's refusal, or that it is away.
    pub(crate) async fn allocate(
        &self,
        wish: &AllocationWish,
        anew: bool,
    ) -> Result<Held, ClientError> {
        if is_joint(wish) {
            if !anew && let Some(granted) = self.ahead.take(wish.replication) {
                let lease = held(&self.namenode, &self.tasks, &granted);
                return Ok(Held::New(granted, lease));
            }
            let answer = self.allocations.answer(wish.clone());
            let limit = INTERACTIVE.longest();
            match self.within(limit, "WriteFile", answer).await {
                Ok((granted, lease)) if granted.has_targets() => {
                    return Ok(Held::New(granted, lease));
                }
                // There may be no room for as many as asked at once, and still for this one: it asks alone.
                Ok(_) => {}
                Err(error) if error.code() == ErrorCode::StorageFull => {}
                Err(error) => return Err(error),
            }
        }
        match self.namenode.allocate(wish, 1).await? {
            Allocated::Existing(existing) => Ok(Held::Existing(existing)),
            Allocated::New(granted) => {
                let mut held = hold(&self.namenode, &self.tasks, granted).into_iter();
                let first = held.next().ok_or_else(|| self.cut_off("WriteFile"))?;
                Ok(Held::New(first.0, first.1))
            }
        }
    }

    /// Makes a file readable; when this returns `Ok`, the namenode has it on its disk.
    ///
    /// # Errors
    /// The namenode's refusal. Where it is away it is not known whether the file is committed.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, ClientError> {
        let begun = Instant::now();
        let answer = self.commits.answer(commit.clone());
        let committed = self.within(PATIENT.longest(), "CommitFiles", answer).await;
        match committed {
            // So soon it is the trouble of this file alone: it is tried again by itself.
            Err(error)
                if error.code() == ErrorCode::Unavailable
                    && begun.elapsed() < PATIENT.give_up_after / 2 =>
            {
                self.namenode.commit(commit).await
            }
            committed => committed,
        }
    }

    /// What waits for a call that hangs does not wait for it and for its own call.
    async fn within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        answer: impl Future<Output = Option<Result<T, ClientError>>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(self.cut_off(operation)),
            Err(_) => Err(self.namenode.failed(operation)(StoreError::new(
                ErrorCode::Unavailable,
                format!("no answer within {} s", limit.as_secs()),
            ))),
        }
    }

    fn cut_off(&self, operation: &'static str) -> ClientError {
        ClientError::Internal(format!("{operation} was cut off"))
    }
}

/// Whether an allocation may come out of a call with others.
fn is_joint(wish: &AllocationWish) -> bool {
    wish.declared_hash.is_none()
        && wish.excluded.is_empty()
        && wish.size_hint.is_some_and(|bytes| bytes <= SMALL_BYTES)
}

/// One call for each replication target that is wished, which is one call but for rare cases.
async fn allocate_all(
    namenode: &NameNode,
    tasks: &Tasks,
    ahead: &Arc<Ahead>,
    wishes: Vec<AllocationWish>,
) -> Vec<Result<(Granted, Lease), ClientError>> {
    let mut targets: Vec<Option<u32>> = wishes.iter().map(|wish| wish.replication).collect();
    targets.sort_unstable();
    targets.dedup();
    let calls = targets.iter().map(|&replication| {
        let alike = || {
            wishes
                .iter()
                .filter(move |wish| wish.replication == replication)
        };
        let count = alike().count();
        let besides = ahead.besides(replication, count, MOST_JOINT);
        let largest = alike().filter_map(|wish| wish.size_hint).max();
        let wish = AllocationWish {
            // How large the files are that will come is not known.
            size_hint: if besides > 0 {
                Some(SMALL_BYTES)
            } else {
                largest
            },
            replication,
            ..AllocationWish::default()
        };
        async move {
            match namenode.allocate(&wish, count + besides).await {
                Ok(Allocated::New(mut granted)) => {
                    let more = granted.split_off(count.min(granted.len()));
                    ahead.keep(replication, more);
                    Ok(hold(namenode, tasks, granted))
                }
                Ok(Allocated::Existing(_)) => Err(ClientError::Internal(
                    "the namenode named a file that nobody asked for".into(),
                )),
                Err(error) => Err(error),
            }
        }
    });
    let mut answers = join_all(calls).await;
    let taken = wishes.iter().map(|wish| {
        let place = targets.binary_search(&wish.replication);
        let answer = place.ok().and_then(|place| answers.get_mut(place));
        match answer {
            Some(Ok(held)) => held.pop(),
            Some(Err(error)) => return Err(error.clone()),
            None => None,
        }
        .ok_or_else(|| ClientError::Internal("an allocation is missing".into()))
    });
    taken.collect()
}

fn hold(namenode: &NameNode, tasks: &Tasks, granted: Vec<Granted>) -> Vec<(Granted, Lease)> {
    let all = granted.into_iter().map(|granted| {
        let lease = held(namenode, tasks, &granted);
        (granted, lease)
    });
    all.collect()
}

fn held(namenode: &NameNode, tasks: &Tasks, granted: &Granted) -> Lease {
    let generation = granted.allocation.generation;
    Lease::hold(namenode, tasks, generation, granted.expires_in_ms)
}
