//! Writing a file: allocate, stream to a chain of datanodes, mend the chain, commit (I1), or leave nothing behind (I2).

mod ahead;
mod chunker;
mod feed;
mod lease;
mod ledger;
mod pipeline;
mod replacement;
mod whole;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use richardstore_proto::{
    ContentHash, DataNodeInfo, ErrorCode, FileInfo, MAX_WHOLE_BYTES, NodeId, PipelineResult,
    StoreError, WireError, WriteTrailer,
};

use self::feed::{Fed, Feed};
use self::lease::Lease;
use self::ledger::Held;
pub(crate) use self::ledger::Ledger;
use self::pipeline::{PipelineWrite, WriteDescription};
use self::replacement::{acknowledged_of, are_full, failures};
use self::whole::WholeWrite;
pub(crate) use self::whole::WholeWrites;
use crate::client::Shared;
use crate::content_hasher::ContentDigest;
use crate::error::{ClientError, SourceError};
use crate::namenode::{AllocationWish, Commit, Granted};

/// Pipelines that one upload tries before it gives up.
const MAX_PIPELINES: usize = 3;

/// A file up to this size is taken from its source as a whole before a datanode hears of it: it costs one message along the
/// chain, and a source that is slow holds nothing there.
const WHOLE_BYTES: u64 = MAX_WHOLE_BYTES as u64;

/// Called with the number of bytes taken from the source so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What is known about an upload before its bytes.
#[derive(Clone, Default)]
pub struct PutOptions {
    /// The hash the bytes are said to have. A file that is stored already is not sent again, and its source not read; bytes
    /// with another hash are refused.
    pub declared_hash: Option<ContentHash>,
    /// How many bytes will come, to reserve room for them.
    pub size_hint: Option<u64>,
    /// Replicas wanted; `None` is the namenode's default.
    pub replication: Option<u32>,
    /// Appears in the logs of every node that takes part.
    pub request_id: String,
    /// Told how far the upload is.
    pub progress: Option<Progress>,
}

/// A stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOutcome {
    /// The file. `replication` is what the upload asked for; with no wish, the number of datanodes it was sent to.
    pub file: FileInfo,
    /// How many replicas it has now.
    pub replicas: u32,
    /// `false`: it was there already.
    pub created: bool,
}

/// Why one pipeline did not take the file.
enum PipelineError {
    /// The upload is over.
    Final(ClientError),
    /// The head failed; another chain may do better.
    Head(DataNodeInfo, StoreError),
}

impl From<ClientError> for PipelineError {
    fn from(error: ClientError) -> Self {
        Self::Final(error)
    }
}

/// A file that is on the disks of some nodes and not committed yet.
struct Written {
    digest: ContentDigest,
    result: PipelineResult,
    write: WriteDescription,
}

struct Upload<'a, S> {
    shared: &'a Arc<Shared>,
    options: &'a PutOptions,
    feed: Feed<S>,
    /// What a small file is, once its source has ended.
    whole: Option<ContentDigest>,
}

pub(crate) async fn put<S>(
    shared: &Arc<Shared>,
    source: S,
    options: PutOptions,
) -> Result<PutOutcome, ClientError>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
{
    let offload = shared.environment.offload;
    let mut upload = Upload {
        shared,
        options: &options,
        feed: Feed::new(source, offload, options.progress.clone()),
        whole: None,
    };
    let mut wish = AllocationWish {
        size_hint: options.size_hint,
        replication: options.replication,
        declared_hash: options.declared_hash,
        excluded: Vec::new(),
    };
    let mut tried = 0;
    let mut broken = None;
    // A source with a declared hash may not have to be read at all: it comes after the allocation.
    if options.declared_hash.is_none() {
        upload.gather().await?;
    }
    loop {
        let held = shared.ledger.allocate(&wish, tried > 0).await;
        let (granted, lease) = match (held, broken.take()) {
            (Ok(Held::New(granted, lease)), _) => (granted, lease),
            (Ok(Held::Existing(existing)), _) => return Ok(already_stored(&existing)),
            // Without the heads that failed there are too few nodes: why they failed says more, a full disk above all.
            (Err(error), Some(broken)) if error.code() == ErrorCode::InsufficientReplicas => {
                return Err(broken);
            }
            (Err(error), _) => return Err(error),
        };
        let generation = lease.generation();
        tried += 1;
        match upload.send(&granted, &lease).await {
            Ok(written) => match upload.complete(&granted, written, lease).await {
                // This write was allocated before the delete, perhaps before the upload began. One from after it may stay.
                Err(error)
                    if error.code() == ErrorCode::DeletedMeanwhile
                        && tried < MAX_PIPELINES
                        && upload.feed.replay().is_some() => {}
                ended => return ended,
            },
            Err(PipelineError::Final(error)) => return Err(error),
            Err(PipelineError::Head(node, answer)) => {
                tracing::warn!(node = %node.name, %answer, %generation, request_id = %options.request_id,
                    "the head of a pipeline failed");
                upload.avoid(&mut wish, &node, &answer);
                let error = ClientError::PipelineBroken {
                    node: describe(&node),
                    answer,
                };
                if tried >= MAX_PIPELINES || upload.feed.replay().is_none() {
                    return Err(error);
                }
                broken = Some(error);
            }
        }
    }
}

impl<S> Upload<'_, S>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
{
    /// Streams the whole file through one chain.
    async fn send(&mut self, granted: &Granted, lease: &Lease) -> Result<Written, PipelineError> {
        let (head, rest) = granted
            .allocation
            .targets
            .split_first()
            .ok_or_else(|| self.empty_chain())?;
        let write = WriteDescription {
            generation: lease.generation(),
            size_hint: self.options.size_hint,
            replication: self.options.replication,
            cluster_id: self.shared.cluster_id().await?,
            request_id: self.options.request_id.clone(),
        };
        self.gather().await?;
        let by_head = |answer| PipelineError::Head(head.clone(), answer);
        let channels = &self.shared.environment.channels;
        if let (Some(digest), Some(chunks)) = (self.whole, self.feed.replay()) {
            self.check_declared(&digest)?;
            let sent = self.shared.whole_writes.write(WholeWrite {
                head: head.clone(),
                rest: rest.to_vec(),
                write: write.clone(),
                data: in_one_piece(chunks),
                trailer: trailer(&digest),
            });
            let result = sent.await.map_err(by_head)?;
            return Ok(Written {
                digest,
                result,
                write,
            });
        }
        let timeout = self.shared.write_progress_timeout;
        let mut pipeline = PipelineWrite::open(channels, head, rest, &write, timeout)
            .await
            .map_err(by_head)?;
        for chunk in self.feed.replay().unwrap_or_default() {
            pipeline.send(chunk).await.map_err(by_head)?;
        }
        let digest = loop {
            match self.feed.next().await? {
                Fed::Chunk(chunk) => pipeline.send(chunk).await.map_err(by_head)?,
                Fed::End(digest) => break digest,
            }
            if lease.is_lost() {
                let generation = lease.generation().0;
                return Err(ClientError::LeaseLost { generation }.into());
            }
        };
        self.check_declared(&digest)?;
        let result = pipeline.finish(trailer(&digest)).await.map_err(by_head)?;
        Ok(Written {
            digest,
            result,
            write,
        })
    }

    /// Reads a small file to its end. One that turns out to be larger than it was said to be goes on as a stream.
    async fn gather(&mut self) -> Result<(), ClientError> {
        let small = self
            .options
            .size_hint
            .is_some_and(|bytes| bytes <= WHOLE_BYTES);
        if small && self.whole.is_none() {
            self.whole = self.feed.gather(WHOLE_BYTES).await?;
        }
        Ok(())
    }

    /// Before the trailer: a pipeline that is dropped without one publishes nowhere.
    fn check_declared(&self, digest: &ContentDigest) -> Result<(), ClientError> {
        match self.options.declared_hash {
            Some(declared) if declared != digest.hash => Err(ClientError::HashMismatch {
                declared,
                computed: digest.hash,
            }),
            _ => Ok(()),
        }
    }

    /// Mends what the chain did not do, and commits.
    async fn complete(
        &self,
        granted: &Granted,
        written: Written,
        lease: Lease,
    ) -> Result<PutOutcome, ClientError> {
        let mut file = FileInfo {
            hash: written.digest.hash,
            size: written.digest.size,
            blake3_root: written.digest.blake3_root,
            generation: lease.generation(),
            replication: self.options.replication.unwrap_or(0),
            created_ms: 0,
        };
        let mut holders = acknowledged_of(&granted.allocation.targets, &written.result);
        if holders.len() < granted.allocation.targets.len() {
            self.replace_failed(granted, &written, &file, &mut holders)
                .await;
        }
        if holders.len() < granted.min_replication {
            return Err(ClientError::InsufficientReplicas {
                hash: file.hash,
                acknowledged: holders.len(),
                required: granted.min_replication,
                full: are_full(&written.result),
                detail: failures(&granted.allocation.targets, &written.result),
            });
        }
        let nodes: Vec<NodeId> = holders.iter().map(|node| node.node_id).collect();
        let committed = self.shared.ledger.commit(Commit { file, nodes }).await?;
        lease.committed();
        file.created_ms = committed.created_ms;
        if file.replication == 0 {
            file.replication = u32::try_from(granted.allocation.targets.len()).unwrap_or(u32::MAX);
        }
        Ok(PutOutcome {
            file,
            replicas: committed.replicas,
            created: committed.created,
        })
    }

    /// What to do differently with the next pipeline.
    fn avoid(&self, wish: &mut AllocationWish, node: &DataNodeInfo, answer: &StoreError) {
        if answer.code == ErrorCode::WrongCluster {
            // Not the node's fault: this client learned the cluster's id before the cluster was replaced.
            self.shared.forget_cluster_id();
        } else {
            wish.excluded.push(node.node_id);
        }
    }

    fn empty_chain(&self) -> ClientError {
        ClientError::Malformed {
            peer: format!("namenode {}", self.shared.namenode.address()),
            operation: "WriteFile",
            problem: WireError::Missing("targets"),
        }
    }
}

fn in_one_piece(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        0 | 1 => chunks.pop().unwrap_or_default(),
        _ => chunks.concat().into(),
    }
}

fn trailer(digest: &ContentDigest) -> WriteTrailer {
    WriteTrailer {
        hash: digest.hash,
        blake3_root: digest.blake3_root,
        size: digest.size,
    }
}

fn already_stored(existing: &richardstore_proto::FileLocations) -> PutOutcome {
    PutOutcome {
        file: existing.file,
        replicas: u32::try_from(existing.nodes.len()).unwrap_or(u32::MAX),
        created: false,
    }
}

fn describe(node: &DataNodeInfo) -> String {
    format!("{} ({})", node.name, node.address)
}
