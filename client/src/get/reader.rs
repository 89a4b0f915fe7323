//! [`Reader`]: the state of one read across the replicas it takes to finish it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use blake3::Hasher as Blake3;
use bytes::Bytes;
use richardstore_proto::{DataNodeInfo, ErrorCode, FileLocations, StoreError};

use super::hedge::{ReplicaFailure, open_first};
use super::replica::{ReplicaRead, WantedRange};
use crate::client::Shared;
use crate::error::ClientError;

/// The namenode is asked anew this often, without a new byte in between, when every replica it named has failed. Bytes pay
/// for more: a long read over a slow link, or while nodes restart one after the other, breaks often and gets on.
const MAX_RELOCATIONS: u32 = 1;
/// Before that: what made all of them fail may be a restart.
const RELOCATION_PAUSE: Duration = Duration::from_millis(200);

/// Reads a range from one replica after the other, resuming where the last one broke.
pub(super) struct Reader {
    shared: Arc<Shared>,
    /// What is still to come.
    wanted: WantedRange,
    candidates: Vec<DataNodeInfo>,
    /// They come from memory: the namenode was not asked for this read.
    remembered: bool,
    /// Those since the last new byte.
    failures: Vec<ReplicaFailure>,
    relocations: u32,
    /// The end of what was ever received; a read that starts over has to pass it to have got on.
    furthest: u64,
    open: Option<ReplicaRead>,
    /// Hashes the file where all of it is read, to compare it at the end with the root that the namenode has on record beside
    /// the name. Not SHA-256 once more: the datanodes compared both with the bytes before the file was committed, and BLAKE3
    /// takes a quarter of the time.
    hasher: Option<Box<Blake3>>,
    /// With a hasher: the bytes that came last, which are handed out when it is known that they are not the end.
    held: VecDeque<Bytes>,
    handed_out: bool,
    /// Nodes whose bytes are part of what was read.
    sources: Vec<DataNodeInfo>,
}

impl Reader {
    pub(super) fn new(
        shared: &Arc<Shared>,
        located: FileLocations,
        remembered: bool,
        wanted: WantedRange,
    ) -> Self {
        let whole = wanted.offset == 0 && wanted.end == wanted.file.size;
        Self {
            shared: shared.clone(),
            furthest: wanted.offset,
            wanted,
            candidates: located.nodes,
            remembered,
            failures: Vec::new(),
            relocations: 0,
            open: None,
            hasher: whole.then(Box::default),
            held: VecDeque::new(),
            handed_out: false,
            sources: Vec::new(),
        }
    }

    /// Opens the first replica, so that a file that cannot be read at all is an error before anything was promised.
    pub(super) async fn open(&mut self) -> Result<(), ClientError> {
        while self.open.is_none() && self.wanted.offset < self.wanted.end {
            self.open_next().await?;
        }
        Ok(())
    }

    /// The next bytes, or `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while self.wanted.offset < self.wanted.end {
            let Some(chunk) = self.receive().await? else {
                continue;
            };
            if let Some(ready) = self.take(chunk)? {
                self.handed_out = true;
                return Ok(Some(ready));
            }
        }
        Ok(self.held.pop_front())
    }

    /// Bytes from the open replica; `None` where it failed and another was put in its place.
    async fn receive(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.open().await?;
        let Some(read) = &mut self.open else {
            return Ok(None);
        };
        let error = match read.next().await {
            Ok(Some(chunk)) => return Ok(Some(chunk)),
            Ok(None) => StoreError::new(ErrorCode::Internal, "ended before the range did"),
            Err(error) => error,
        };
        if let Some(read) = self.open.take() {
            self.note(ReplicaFailure {
                node: read.node,
                error,
            });
        }
        Ok(None)
    }

    /// Counts and hashes `chunk`, and returns what may be handed out now.
    fn take(&mut self, chunk: Bytes) -> Result<Option<Bytes>, ClientError> {
        self.wanted.offset += chunk.len() as u64;
        if self.wanted.offset > self.furthest {
            self.furthest = self.wanted.offset;
            self.relocations = 0;
            self.failures.clear();
        }
        let Some(hasher) = &mut self.hasher else {
            return Ok(Some(chunk));
        };
        // In place: a chunk takes 50 µs, not more than to hand it to another thread.
        hasher.update(&chunk);
        self.held.push_back(chunk);
        if self.wanted.offset == self.wanted.end && !self.is_what_was_committed() {
            return self.start_over();
        }
        match self.held.len() {
            1 => Ok(None),
            _ => Ok(self.held.pop_front()),
        }
    }

    /// Compares all that was read with what was committed under the name (I5).
    fn is_what_was_committed(&mut self) -> bool {
        let root = self.wanted.file.blake3_root;
        let hasher = self.hasher.take();
        hasher.is_none_or(|hasher| hasher.finalize().as_bytes() == root.as_bytes())
    }

    /// The bytes are wrong. As long as none of them was handed out, other replicas can be read from the beginning.
    fn start_over(&mut self) -> Result<Option<Bytes>, ClientError> {
        let hash = self.wanted.file.hash;
        self.open = None;
        self.held.clear();
        let sources = std::mem::take(&mut self.sources);
        let names: Vec<&str> = sources.iter().map(|node| node.name.as_str()).collect();
        let detail = format!("the bytes from {} have another hash", names.join(", "));
        if self.handed_out {
            return Err(ClientError::Corrupt { hash, detail });
        }
        // With more than one source nobody knows which of them it was.
        if let [node] = &sources[..] {
            self.note(ReplicaFailure {
                node: node.clone(),
                error: StoreError::new(ErrorCode::Corrupt, detail),
            });
        }
        self.wanted.offset = 0;
        self.hasher = Some(Box::default());
        Ok(None)
    }

    async fn open_next(&mut self) -> Result<(), ClientError> {
        let known = self.failures.len();
        let opened = open_first(
            &self.shared,
            &self.wanted,
            &mut self.candidates,
            &mut self.failures,
        )
        .await;
        for failure in self.failures.split_off(known) {
            self.note(failure);
        }
        match opened {
            Some(read) => {
                self.sources.push(read.node.clone());
                self.open = Some(read);
                Ok(())
            }
            None => self.relocate().await,
        }
    }

    /// Every replica failed: looks whether the file has others by now, or these ones again.
    async fn relocate(&mut self) -> Result<(), ClientError> {
        if !std::mem::take(&mut self.remembered) {
            if self.relocations >= MAX_RELOCATIONS {
                return Err(self.unreadable());
            }
            self.relocations += 1;
            tokio::time::sleep(RELOCATION_PAUSE).await;
        }
        let located = self.shared.look_ups.locate(&self.wanted.file.hash).await?;
        self.candidates = located.nodes;
        Ok(())
    }

    /// Remembers a failure, and tells the namenode of wrong bytes so that they are made again.
    fn note(&mut self, failure: ReplicaFailure) {
        let hash = self.wanted.file.hash;
        let ReplicaFailure { node, error } = &failure;
        tracing::warn!(%hash, node = %node.name, offset = self.wanted.offset, %error,
            request_id = %self.wanted.request_id, "a replica could not be read");
        self.shared.look_ups.forget(&hash);
        if error.code == ErrorCode::Corrupt {
            let (namenode, node_id) = (self.shared.namenode.clone(), node.node_id);
            let reason = error.message.clone();
            self.shared.tasks.spawn(async move {
                if let Err(error) = namenode.report_bad_replica(&hash, &node_id, &reason).await {
                    tracing::warn!(%hash, %error, "could not report a bad replica");
                }
            });
        }
        self.failures.push(failure);
    }

    fn unreadable(&self) -> ClientError {
        let hash = self.wanted.file.hash;
        let list: Vec<String> = self
            .failures
            .iter()
            .map(|failure| format!("{}: {}", failure.node.name, failure.error))
            .collect();
        let corrupt = |failure: &ReplicaFailure| failure.error.code == ErrorCode::Corrupt;
        if !list.is_empty() && self.failures.iter().all(corrupt) {
            return ClientError::Corrupt {
                hash,
                detail: list.join("; "),
            };
        }
        ClientError::Unreadable {
            hash,
            offset: self.wanted.offset,
            detail: match list.is_empty() {
                true => "no datanode has it".to_owned(),
                false => list.join("; "),
            },
        }
    }
}
