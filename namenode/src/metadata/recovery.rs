//! [`Recovery`]: what is known to be missing after the metadata was loaded from a copy or rebuilt, and how it comes back.
//!
//! A copy is older than the datanodes. What happened after it is *lost*: an interval of generations that this database may
//! have handed out, and does not remember. A replica from there becomes a file again when it is reported, unless a datanode
//! remembers that the file was deleted: it is never taken for an orphan. The interval begins at the oldest write that was in
//! flight in the copy, since that may have been committed later, and ends where the leap of the counter ends: nothing that
//! is handed out from now on can be mistaken for something of then.

use redb::{ReadableTable, Table};
use richardstore_proto::{ContentHash, Generation, JournalEvent, RememberedDelete, Sequence};
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::codec;
use super::counters::Counters;
use super::tables::{DELETE_MARKERS, Frame, META, META_LOADED, META_RECOVERY, ViewError};
use super::view::{View, guarded};
use crate::mutation::{MutationError, Reply};
use crate::record::{FileRecord, NodeIndex, Replica};

/// How far counters of generations and commands leap: more than any namenode hands out between two copies.
pub(super) const LEAP: u64 = 1 << 40;
/// How far the epoch leaps: more than any namenode starts between two copies.
pub(super) const EPOCH_LEAP: u64 = 1 << 20;
/// What is handed out in a millisecond, at most. The same copy may be loaded twice: the second time everything has to begin
/// behind what the first one handed out, of which the copy knows nothing and only the clock does.
const HANDED_OUT_PER_MS: u64 = 256;

/// Generations that were handed out by a database that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LostGenerations {
    /// The first.
    pub from: Generation,
    /// The first that is not.
    pub to: Generation,
}

/// `meta` row `recovery`; there only after the metadata was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recovery {
    /// Replication target of files that come back from reports: nobody remembers theirs.
    pub replication: u32,
    /// Ascending; one for each time.
    pub lost: Vec<LostGenerations>,
    /// The next generation when a datanode last told of a delete that was not known. Copies older than this lack it.
    pub recalled_at: Option<Generation>,
}

impl Recovery {
    pub fn read(meta: &impl ReadableTable<&'static str, Frame>) -> Result<Option<Self>, ViewError> {
        meta.get(META_RECOVERY)?
            .map(|frame| codec::decode("meta recovery", frame.value()))
            .transpose()
    }

    pub fn write(&self, meta: &mut Table<'_, &'static str, Frame>) -> Result<(), ViewError> {
        let frame = codec::encode("meta recovery", self)?;
        meta.insert(META_RECOVERY, frame.as_slice())?;
        Ok(())
    }

    /// Whether what happened at this generation may be forgotten here.
    pub fn is_lost(&self, generation: Generation) -> bool {
        self.lost
            .iter()
            .any(|lost| lost.from <= generation && generation < lost.to)
    }
}

impl View {
    /// Whether this metadata was restored, and datanodes are to tell which deletes they remember.
    ///
    /// # Errors
    /// As all methods of this type.
    pub fn was_restored(&self) -> Result<bool, ViewError> {
        guarded(|| Ok(Recovery::read(&self.table(META)?)?.is_some()))
    }

    /// The smallest marker of a delete that somebody besides this database may still have to know of: its tombstone is open,
    /// or a copy that is kept does not know it. `oldest_copy` is up to where the oldest of those is settled; `None` where no
    /// copies are taken.
    ///
    /// # Errors
    /// As all methods of this type.
    pub fn forget_deletes_before(
        &self,
        oldest_copy: Option<Generation>,
    ) -> Result<Generation, ViewError> {
        let next = Generation(self.counters()?.next_generation);
        guarded(|| {
            let markers = self.table(DELETE_MARKERS)?;
            let open = markers.first()?.map(|(key, _)| Generation(key.value().0));
            let open = open.map_or(next, |open| open.min(next));
            let before = oldest_copy.map_or(open, |copy| copy.min(open));
            let Some(recovery) = Recovery::read(&self.table(META)?)? else {
                return Ok(before);
            };
            // Recalled deletes are old, and the copies from before they were recalled lack them all the same.
            let lacks = match (recovery.recalled_at, oldest_copy) {
                (Some(recalled_at), Some(copy)) => copy <= recalled_at,
                _ => false,
            };
            let lost = recovery.lost.iter().map(|lost| lost.from).min();
            Ok(match lost {
                Some(lost) if lacks => before.min(lost),
                _ => before,
            })
        })
    }
}

impl Batch<'_> {
    /// The first start on metadata that was loaded: it may be older than the datanodes, whatever whoever loaded it believes.
    pub fn recover_if_loaded(&mut self, now_ms: u64) -> Result<(), MutationError> {
        let replication: Option<u32> = self
            .tables
            .meta
            .get(META_LOADED)?
            .map(|frame| codec::decode("meta loaded", frame.value()))
            .transpose()?;
        match replication {
            Some(replication) => self.recover(replication, 0, Generation(0), now_ms),
            None => Ok(()),
        }
    }

    /// Opens the interval of what is lost, and leaps over everything that was handed out in it. `epoch` and `generation` are
    /// the newest that somebody has seen.
    pub fn recover(
        &mut self,
        replication: u32,
        epoch: u64,
        generation: Generation,
        now_ms: u64,
    ) -> Result<(), MutationError> {
        self.touch();
        self.tables.meta.remove(META_LOADED)?;
        let next = self.counters.next_generation;
        let from = match self.oldest_open_write()? {
            Some(oldest) => oldest,
            // Nothing at all is known: replicas whose generation nobody knows are of what is lost, too.
            None if next == Counters::default().next_generation => Generation(0),
            None => Generation(next),
        };
        let newest = self.counters.next_generation.max(generation.0);
        let leap = LEAP.saturating_add(now_ms.saturating_mul(HANDED_OUT_PER_MS));
        self.counters.next_generation = newest.saturating_add(leap);
        self.counters.next_command = self.counters.next_command.saturating_add(leap);
        let epoch = self.counters.epoch.max(epoch);
        self.counters.epoch = epoch.saturating_add(EPOCH_LEAP).saturating_add(now_ms);
        self.forget_writes()?;
        self.forget_repairs()?;
        self.forget_journals()?;
        let mut recovery = Recovery::read(&self.tables.meta)?.unwrap_or(Recovery {
            replication,
            lost: Vec::new(),
            recalled_at: None,
        });
        recovery.replication = replication;
        recovery.lost.push(LostGenerations {
            from,
            to: Generation(self.counters.next_generation),
        });
        recovery.write(&mut self.tables.meta)?;
        Ok(())
    }

    /// Those that were in flight then have ended since. What was parked under them is reported again.
    fn forget_writes(&mut self) -> Result<(), MutationError> {
        self.tables.writes.retain(|_, _| false)?;
        self.counters.writes = 0;
        Ok(())
    }

    /// Copies, trims and quarantines rely on who held what; they are planned anew once that is known.
    fn forget_repairs(&mut self) -> Result<(), MutationError> {
        loop {
            let first = self.tables.repairs.first()?.map(|(hash, command)| {
                let (node, id) = command.value();
                (ContentHash::new(*hash.value()), NodeIndex(node), id)
            });
            let Some((hash, node, id)) = first else {
                return Ok(());
            };
            self.remove_command(node, richardstore_proto::CommandId(id))?;
            self.tables.repairs.remove(hash.as_bytes())?;
        }
    }

    /// What of a journal was applied after the copy is not known: only a full report says what a node holds.
    fn forget_journals(&mut self) -> Result<(), MutationError> {
        let mut indices = Vec::new();
        for row in self.tables.nodes.iter()? {
            indices.push(NodeIndex(row?.0.value()));
        }
        for index in indices {
            let node = self.node(index)?;
            node.journal_id = None;
            node.next_sequence = Sequence(1);
        }
        Ok(())
    }

    /// A datanode remembers deletes. Those of the time that was lost are done again: the file goes, if nothing newer of it is
    /// known, and replicas of it that come later are answered with a delete.
    pub fn recall_deletes(
        &mut self,
        deletes: &[RememberedDelete],
        now_ms: u64,
    ) -> Result<Reply, MutationError> {
        let Some(mut recovery) = Recovery::read(&self.tables.meta)? else {
            return Ok(Reply::Done);
        };
        let mut learned = false;
        for delete in deletes {
            if recovery.is_lost(delete.marker) {
                learned |= self.recall(&delete.hash, delete.generation)?;
                self.delete_again(delete, now_ms)?;
            }
        }
        if learned {
            self.touch();
            recovery.recalled_at = Some(Generation(self.counters.next_generation));
            recovery.write(&mut self.tables.meta)?;
        }
        Ok(Reply::Done)
    }

    /// A client deletes a file up to `generation`. Where metadata was restored, a node that is away may hold a replica of it from
    /// the time that was lost, perhaps a newer one than is on record: it would make the file anew once the tombstone is gone, and
    /// that waits only for the nodes on record. Returns up to where the delete reaches: to the end of what is lost at least.
    /// What was handed out since is newer (I4).
    pub fn remember_delete(
        &mut self,
        hash: &ContentHash,
        generation: Generation,
    ) -> Result<Generation, MutationError> {
        let Some(recovery) = Recovery::read(&self.tables.meta)? else {
            return Ok(generation);
        };
        let ends = recovery.lost.iter().map(|lost| lost.to.0);
        let last_lost = Generation(ends.max().unwrap_or(0).saturating_sub(1));
        let reaches = generation.max(last_lost);
        self.recall(hash, reaches)?;
        Ok(reaches)
    }

    fn recall(
        &mut self,
        hash: &ContentHash,
        generation: Generation,
    ) -> Result<bool, MutationError> {
        if self
            .recalled(hash)?
            .is_some_and(|known| known >= generation)
        {
            return Ok(false);
        }
        let frame = codec::encode("recalled delete", &generation)?;
        self.tables
            .recalled_deletes
            .insert(hash.as_bytes(), frame.as_slice())?;
        Ok(true)
    }

    fn delete_again(
        &mut self,
        delete: &RememberedDelete,
        now_ms: u64,
    ) -> Result<(), MutationError> {
        let Some(record) = self.file(&delete.hash)? else {
            return Ok(());
        };
        let newest = record
            .replicas
            .iter()
            .map(|replica| replica.generation)
            .fold(record.generation, Generation::max);
        if newest > delete.generation {
            return Ok(());
        }
        // Whether the delete meant a replica of an unknown generation nobody knows: that is left alone.
        let (known, unknown): (Vec<&Replica>, Vec<&Replica>) = record
            .replicas
            .iter()
            .partition(|replica| replica.generation.0 != 0);
        let holders: Vec<NodeIndex> = known.iter().map(|replica| replica.node).collect();
        self.counters.foreign_replicas += u64::try_from(unknown.len()).unwrap_or(0);
        self.replace_file(&delete.hash, Some(&record), None)?;
        self.bury(&delete.hash, delete.generation, &holders, now_ms)
    }

    /// Up to which generation datanodes remember this file as deleted.
    fn recalled(&self, hash: &ContentHash) -> Result<Option<Generation>, MutationError> {
        let row = self.tables.recalled_deletes.get(hash.as_bytes())?;
        let decode = |frame: redb::AccessGuard<'_, Frame>| {
            codec::decode(format_args!("recalled delete {hash}"), frame.value())
        };
        Ok(row.map(decode).transpose()?)
    }

    /// A node has a replica of a file that is not known, from no write in flight. `false`: it is not from the time that was
    /// lost, and other rules decide.
    pub fn take_back(
        &mut self,
        node: NodeIndex,
        event: &JournalEvent,
        now_ms: u64,
    ) -> Result<bool, MutationError> {
        let hash = event.replica.hash;
        let generation = event.replica.generation;
        let Some(recovery) = Recovery::read(&self.tables.meta)? else {
            return Ok(false);
        };
        if !recovery.is_lost(generation) {
            return Ok(false);
        }
        if let Some(deleted) = self.recalled(&hash)?
            && deleted >= generation
        {
            if generation.0 == 0 {
                return Ok(false);
            }
            self.bury(&hash, deleted, &[node], now_ms)?;
            return Ok(true);
        }
        let Some(blake3_root) = event.blake3_root else {
            return Ok(false);
        };
        let record = FileRecord {
            size: event.size,
            blake3_root,
            replication: recovery.replication,
            generation,
            created_ms: now_ms,
            replicas: vec![Replica { node, generation }],
        };
        self.replace_file(&hash, None, Some(&record))?;
        Ok(true)
    }
}
