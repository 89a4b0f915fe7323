//! [`InventoryService`]: everything a datanode has to tell a namenode that lost its metadata, streamed and read only.
//!
//! It is read from the directory and not from the index: the directory is the truth (I9).

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use richardstore_proto::wire::data_node_inventory_server::DataNodeInventory;
use richardstore_proto::wire::inventory_part::Part;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ErrorCode, Generation, StoreError};
use richardstore_runtime::Offload;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::node::Node;

/// Records in one message.
const PAGE: usize = 4096;
/// Replicas walked between two messages, at most: a reader must see that the walk gets on, where there is little to tell, too.
const WALKED_UNHEARD: usize = 256;
/// The longest time between two messages while the walk gets on.
const SILENCE: Duration = Duration::from_secs(5);
/// Messages that wait for the reader.
const PAGES_AHEAD: usize = 2;

type Answer = Result<wire::InventoryPart, Status>;

/// The calls of a rebuild.
pub(crate) struct InventoryService {
    node: Arc<Node>,
}

impl InventoryService {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl DataNodeInventory for InventoryService {
    type InventoryStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn inventory(
        &self,
        request: Request<wire::InventoryRequest>,
    ) -> Result<Response<Self::InventoryStream>, Status> {
        let node = self.node.clone();
        let room = node.admit_read()?;
        let contents = request.into_inner().contents;
        let offload = node.environment.offload;
        let ahead = match offload {
            Offload::Threads => PAGES_AHEAD,
            // Nothing could read while the walk holds the only thread.
            Offload::Inline => Semaphore::MAX_PERMITS,
        };
        let (parts, received) = mpsc::channel(ahead);
        let teller = Teller {
            node: node.clone(),
            parts: parts.clone(),
            contents,
            newest: Generation(0),
            replicas: 0,
            deletes: 0,
            heard_at: Instant::now(),
        };
        node.tasks.spawn(async move {
            let told = offload.run(move || teller.tell()).await;
            let failure = match told {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure),
                Err(error) => Some(StoreError::new(ErrorCode::Internal, error.to_string())),
            };
            if let Some(failure) = failure {
                // A reader that went away does not need to know.
                let _ = parts.send(Err(failure.into())).await;
            }
            drop(room);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(received))))
    }
}

/// One inventory on its way out, on a thread that may block.
struct Teller {
    node: Arc<Node>,
    parts: mpsc::Sender<Answer>,
    contents: bool,
    newest: Generation,
    replicas: u64,
    deletes: u64,
    /// When the reader was told something last.
    heard_at: Instant,
}

impl Teller {
    fn tell(mut self) -> Result<(), StoreError> {
        let identity = self.identity();
        // After a part that did not get away there is no end: a list with a gap must not look whole.
        if self.send(Part::Identity(identity)).is_break()
            || self.tell_deletes()?.is_break()
            || self.tell_replicas()?.is_break()
        {
            return Err(StoreError::new(
                ErrorCode::Unavailable,
                "the list was broken off",
            ));
        }
        let _ = self.send(Part::End(wire::InventoryEnd {
            newest_generation: self.newest.0,
            replicas: self.replicas,
            deletes: self.deletes,
            damaged_deletes: u64::try_from(self.node.memory.damaged_deletes()).unwrap_or(u64::MAX),
        }));
        Ok(())
    }

    fn identity(&self) -> wire::InventoryIdentity {
        let identity = self.node.membership.identity();
        let copy = self.node.memory.newest_copy();
        wire::InventoryIdentity {
            node: Some(self.node.info(Generation(0)).into()),
            cluster_id: identity
                .cluster_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            session_epoch: identity.session_epoch.0,
            namenode_epoch: identity.namenode_epoch.0,
            namenode: self.node.config.namenode.clone(),
            newest_copy: copy.map(Into::into),
        }
    }

    fn tell_deletes(&mut self) -> Result<ControlFlow<()>, StoreError> {
        let node = self.node.clone();
        let mut page = Vec::new();
        let mut flow = ControlFlow::Continue(());
        let read = node.memory.visit_deletes(&mut |delete| {
            self.newest = self.newest.max(delete.generation).max(delete.marker);
            self.deletes += 1;
            if self.contents {
                page.push(delete.into());
            }
            if page.len() < PAGE {
                return ControlFlow::Continue(());
            }
            let deletes = std::mem::take(&mut page);
            flow = self.send(Part::Deletes(wire::RememberedDeletes { deletes }));
            flow
        });
        read.map_err(|error| StoreError::new(ErrorCode::Internal, error.to_string()))?;
        if flow.is_continue() && !page.is_empty() {
            flow = self.send(Part::Deletes(wire::RememberedDeletes { deletes: page }));
        }
        Ok(flow)
    }

    fn tell_replicas(&mut self) -> Result<ControlFlow<()>, StoreError> {
        let node = self.node.clone();
        let (mut page, mut walked) = (Vec::new(), 0);
        let mut flow = ControlFlow::Continue(());
        node.volume.walk(&mut |meta| {
            self.newest = self.newest.max(meta.generation);
            self.replicas += 1;
            walked += 1;
            if self.contents {
                page.push(wire::HeldReplica {
                    hash: to_bytes(meta.hash.as_bytes()),
                    size: meta.size,
                    blake3_root: to_bytes(meta.blake3_root.as_bytes()),
                    generation: meta.generation.0,
                });
            }
            let unheard = !self.contents && walked >= WALKED_UNHEARD;
            if page.len() < PAGE && !unheard && self.heard_at.elapsed() < SILENCE {
                return ControlFlow::Continue(());
            }
            (walked, self.heard_at) = (0, Instant::now());
            // Where the reader wants no contents it is an empty one.
            let replicas = std::mem::take(&mut page);
            flow = self.send(Part::Replicas(wire::HeldReplicas { replicas }));
            flow
        })?;
        if flow.is_continue() && !page.is_empty() {
            flow = self.send(Part::Replicas(wire::HeldReplicas { replicas: page }));
        }
        Ok(flow)
    }

    /// Waits until there is room. Breaks when the reader is gone or the datanode stops.
    fn send(&self, part: Part) -> ControlFlow<()> {
        let part = Ok(wire::InventoryPart { part: Some(part) });
        let part = match self.parts.try_send(part) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return ControlFlow::Break(()),
            Err(mpsc::error::TrySendError::Full(part)) => part,
        };
        let stopping = self.node.tasks.stopping();
        let sent = tokio::runtime::Handle::current().block_on(async {
            tokio::select! {
                () = stopping.cancelled() => false,
                sent = self.parts.send(part) => sent.is_ok(),
            }
        });
        match sent {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::start;
    use richardstore_runtime::ManualClock;

    /// How a list ends and what a reader gets, who begins to read too late where the datanode stops.
    async fn told(stops: bool) -> (Result<(), StoreError>, Vec<Part>) {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), &ManualClock::at(1));
        let mut writer = node.volume.writer(0).unwrap();
        writer.write(b"one").unwrap();
        let prepared = writer.finish().unwrap();
        node.volume.publish(prepared, Generation(1)).unwrap();
        if stops {
            node.tasks.stopping().cancel();
        }
        let (parts, mut received) = mpsc::channel(1);
        let teller = Teller {
            node,
            parts,
            contents: true,
            newest: Generation(0),
            replicas: 0,
            deletes: 0,
            heard_at: Instant::now(),
        };
        let telling = tokio::task::spawn_blocking(move || teller.tell());
        if stops {
            // Only now there is room again.
            let ended = telling.await.unwrap();
            let mut parts = Vec::new();
            while let Some(part) = received.recv().await {
                parts.extend(part.unwrap().part);
            }
            return (ended, parts);
        }
        let mut parts = Vec::new();
        while let Some(part) = received.recv().await {
            parts.extend(part.unwrap().part);
        }
        (telling.await.unwrap(), parts)
    }

    #[tokio::test]
    async fn i08_a_list_that_was_broken_off_has_no_end_and_ends_with_an_error() {
        let (ended, parts) = told(false).await;
        ended.unwrap();
        assert!(matches!(
            &parts[..],
            [Part::Identity(_), Part::Replicas(_), Part::End(end)] if end.replicas == 1
        ));
        let (ended, parts) = told(true).await;
        assert_eq!(ended.unwrap_err().code, ErrorCode::Unavailable);
        assert!(matches!(&parts[..], [Part::Identity(_)]));
    }
}
