//! Changing a file's record together with everything that is derived from it: the reverse index, the digests, what is
//! under-replicated, the counters.
//!
//! [`Batch::replace_file`] is the only way to change a file. It is given the record before and after and works out the
//! rest, so that no rule can forget a part of it.

use richardstore_proto::ContentHash;

use super::batch::Batch;
use super::codec;
use super::tables::{ViewError, node_file_key};
use crate::mutation::MutationError;
use crate::record::{FileRecord, Replica};

impl Batch<'_> {
    /// Sets the record of a file, or removes it, with everything that is derived from it: what each node holds, its
    /// digests, what is under-replicated, the counters.
    pub fn replace_file(
        &mut self,
        hash: &ContentHash,
        before: Option<&FileRecord>,
        after: Option<&FileRecord>,
    ) -> Result<(), MutationError> {
        self.touch();
        match after {
            Some(record) => {
                let frame = codec::encode_file(hash, record)?;
                self.tables
                    .files
                    .insert(hash.as_bytes(), frame.as_slice())?;
            }
            None => {
                self.tables.files.remove(hash.as_bytes())?;
            }
        }
        self.counters.files += u64::from(after.is_some());
        self.counters.files -= u64::from(before.is_some());
        self.counters.bytes += after.map_or(0, |record| record.size);
        self.counters.bytes -= before.map_or(0, |record| record.size);
        self.replace_shortage(hash, before, after)?;
        self.replace_surplus(hash, before, after)?;

        let (held, holds) = (replicas(before), replicas(after));
        for replica in held.iter().filter(|replica| !holds.contains(replica)) {
            let size = before.map_or(0, |record| record.size);
            self.forget_replica(hash, *replica, size)?;
        }
        for replica in holds.iter().filter(|replica| !held.contains(replica)) {
            let size = after.map_or(0, |record| record.size);
            self.learn_replica(hash, *replica, size)?;
        }
        Ok(())
    }

    fn replace_shortage(
        &mut self,
        hash: &ContentHash,
        before: Option<&FileRecord>,
        after: Option<&FileRecord>,
    ) -> Result<(), ViewError> {
        let was_short = before.is_some_and(|record| record.missing() > 0);
        let short = after.filter(|record| record.missing() > 0);
        match short {
            Some(record) => {
                let recorded = record.replication - record.missing();
                self.tables
                    .under_replicated
                    .insert(hash.as_bytes(), recorded)?;
            }
            None if was_short => {
                self.tables.under_replicated.remove(hash.as_bytes())?;
            }
            None => {}
        }
        self.counters.under_replicated += u64::from(short.is_some());
        self.counters.under_replicated -= u64::from(was_short);
        Ok(())
    }

    fn replace_surplus(
        &mut self,
        hash: &ContentHash,
        before: Option<&FileRecord>,
        after: Option<&FileRecord>,
    ) -> Result<(), ViewError> {
        if let Some(record) = after.filter(|record| record.surplus() > 0) {
            let recorded = record.replication + record.surplus();
            self.tables
                .over_replicated
                .insert(hash.as_bytes(), recorded)?;
        } else if before.is_some_and(|record| record.surplus() > 0) {
            self.tables.over_replicated.remove(hash.as_bytes())?;
        }
        Ok(())
    }

    fn learn_replica(
        &mut self,
        hash: &ContentHash,
        replica: Replica,
        size: u64,
    ) -> Result<(), MutationError> {
        let key = node_file_key(replica.node, replica.generation, hash);
        self.tables.node_files.insert(&key, ())?;
        let node = self.recorded_node(replica.node)?;
        node.replicas += 1;
        node.bytes = node.bytes.saturating_add(size);
        self.digest(replica.node, hash)?
            .add(hash, replica.generation);
        Ok(())
    }

    fn forget_replica(
        &mut self,
        hash: &ContentHash,
        replica: Replica,
        size: u64,
    ) -> Result<(), MutationError> {
        let key = node_file_key(replica.node, replica.generation, hash);
        self.tables.node_files.remove(&key)?;
        let node = self.recorded_node(replica.node)?;
        node.replicas = node.replicas.saturating_sub(1);
        node.bytes = node.bytes.saturating_sub(size);
        self.digest(replica.node, hash)?
            .remove(hash, replica.generation);
        Ok(())
    }
}

fn replicas(record: Option<&FileRecord>) -> &[Replica] {
    record.map_or(&[], |record| &record.replicas)
}
