//! The hedged opening of a range: the best replica is asked, a second one when the first is slow, and the first to answer
//! wins. A replica that fails is followed by the next at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use richardstore_proto::{DataNodeInfo, StoreError};
use tokio::time::Instant;

use super::replica::{ReplicaRead, WantedRange};
use super::whole::WholeReads;
use crate::client::Shared;

/// Replicas that are asked at the same time.
const MAX_ASKED: usize = 2;

/// A replica that did not deliver, and why.
#[derive(Debug, Clone)]
pub(super) struct ReplicaFailure {
    pub(super) node: DataNodeInfo,
    pub(super) error: StoreError,
}

type Opening = BoxFuture<'static, Result<(ReplicaRead, Duration), ReplicaFailure>>;

/// Opens `wanted` at the first of `candidates` that answers. Candidates that were asked are removed from the list, except
/// for one that was still silent when another won; those that failed are appended to `failures`. `None`: all failed.
pub(super) async fn open_first(
    shared: &Arc<Shared>,
    wanted: &WantedRange,
    candidates: &mut Vec<DataNodeInfo>,
    failures: &mut Vec<ReplicaFailure>,
) -> Option<ReplicaRead> {
    let delay = shared.first_byte_times.hedge_delay();
    let mut waiting = candidates.clone().into_iter();
    let mut asked: FuturesUnordered<Opening> = FuturesUnordered::new();
    let together = failures.is_empty() && WholeReads::take(wanted);
    asked.extend(waiting.next().map(|node| match together {
        true => open_together(shared, node, wanted),
        false => open(shared, node, wanted),
    }));
    loop {
        let may_hedge = asked.len() < MAX_ASKED && waiting.len() > 0;
        let answer = tokio::select! {
            biased;
            answer = asked.next() => answer?,
            () = tokio::time::sleep(delay), if may_hedge => {
                asked.extend(waiting.next().map(|node| open(shared, node, wanted)));
                continue;
            }
        };
        match answer {
            Ok((read, time)) => {
                shared.first_byte_times.record(time);
                candidates.retain(|node| node.node_id != read.node.node_id);
                return Some(read);
            }
            Err(failure) => {
                candidates.retain(|node| node.node_id != failure.node.node_id);
                failures.push(failure);
                asked.extend(waiting.next().map(|node| open(shared, node, wanted)));
            }
        }
    }
}

fn open(shared: &Arc<Shared>, node: DataNodeInfo, wanted: &WantedRange) -> Opening {
    let shared = shared.clone();
    let wanted = wanted.clone();
    Box::pin(async move {
        let channels = &shared.environment.channels;
        let timeout = shared.read_progress_timeout;
        timed(
            node.clone(),
            ReplicaRead::open(channels, node, wanted, timeout),
        )
        .await
    })
}

/// The same with others, of a small file.
fn open_together(shared: &Arc<Shared>, node: DataNodeInfo, wanted: &WantedRange) -> Opening {
    let shared = shared.clone();
    let wanted = wanted.clone();
    Box::pin(async move {
        let timeout = shared.read_progress_timeout;
        timed(node.clone(), shared.whole_reads.read(node, wanted, timeout)).await
    })
}

async fn timed(
    node: DataNodeInfo,
    opening: impl Future<Output = Result<ReplicaRead, StoreError>>,
) -> Result<(ReplicaRead, Duration), ReplicaFailure> {
    let start = Instant::now();
    match opening.await {
        Ok(read) => Ok((read, start.elapsed())),
        Err(error) => Err(ReplicaFailure { node, error }),
    }
}
