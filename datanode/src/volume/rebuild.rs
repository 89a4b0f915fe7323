//! Rebuilding the index from the directory, while everything else goes on (I9).

use std::ops::ControlFlow;

use richardstore_proto::ContentHash;
use tokio_util::sync::CancellationToken;

use super::{Volume, VolumeError};

/// How a rebuild ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RebuildEnd {
    /// The index says what the directory holds.
    Complete {
        /// Replicas found.
        replicas: u64,
    },
    /// The datanode is stopping.
    Stopped,
}

impl Volume {
    /// Fills the index from the directory; first a new index where the one in use has failed. Everything else goes on
    /// meanwhile.
    pub(crate) fn rebuild(&self, stopping: &CancellationToken) -> Result<RebuildEnd, VolumeError> {
        // An index that was put up behind a close would take the clean mark away again.
        let _open = self.enter()?;
        if !self.slot.is_usable() {
            self.slot.clear();
            self.slot.open()?;
        }
        let mut replicas = 0;
        let mut failure = None;
        // Changes made from here on enter this index themselves, and changes made before are on the disk already.
        self.store.walk(&mut |found| {
            if stopping.is_cancelled() {
                return ControlFlow::Break(());
            }
            match self.restore(&found.hash) {
                Ok(()) => {
                    replicas += 1;
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if stopping.is_cancelled() {
            return Ok(RebuildEnd::Stopped);
        }
        self.with_index(|index| {
            index.finish_rebuild();
            Ok(())
        })?;
        self.changed.notify_one();
        Ok(RebuildEnd::Complete { replicas })
    }

    /// Runs under the hash's lock: what is entered is what is there at this moment, not what the walk saw a while ago.
    fn restore(&self, hash: &ContentHash) -> Result<(), VolumeError> {
        self.store.with_lock(hash, || match self.store.meta(hash) {
            Ok(Some(meta)) => self.with_index(|index| index.restore(&meta)),
            Ok(None) => Ok(()),
            // One bad file must not keep all others out of the index. Reports and scrubs find it by its absence.
            Err(error) => {
                tracing::warn!(%hash, %error, "not entered into the index");
                Ok(())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatanodeConfig;
    use richardstore_proto::{Generation, ReplicaEntry, Sequence};
    use richardstore_runtime::SystemEntropy;
    use richardstore_store::ReplicaMeta;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::thread;

    fn open(directory: &std::path::Path) -> Volume {
        let config = DatanodeConfig {
            headroom_bytes: 0,
            ..DatanodeConfig::new(directory, "127.0.0.1:0", "127.0.0.1:1")
        };
        let volume = Volume::open(&config, Arc::new(SystemEntropy)).unwrap();
        volume.rebuild(&CancellationToken::new()).unwrap();
        volume
    }

    fn put(volume: &Volume, bytes: &[u8], generation: u64) -> ContentHash {
        let mut writer = volume.writer(0).unwrap();
        writer.write(bytes).unwrap();
        let prepared = writer.finish().unwrap();
        volume
            .publish(prepared, Generation(generation))
            .unwrap()
            .hash
    }

    fn delete(volume: &Volume, hash: ContentHash, generation: u64) {
        let generation = Generation(generation);
        volume.delete(&ReplicaEntry { hash, generation }).unwrap();
    }

    fn in_index(volume: &Volume) -> BTreeMap<ContentHash, Generation> {
        let entries = volume.with_index(|index| index.entries(None, ContentHash::MAX, 10_000));
        let entries = entries.unwrap().into_iter();
        entries
            .map(|entry| (entry.hash, entry.generation))
            .collect()
    }

    fn in_directory(volume: &Volume) -> BTreeMap<ContentHash, Generation> {
        let mut found = BTreeMap::new();
        let mut visit = |meta: ReplicaMeta| {
            found.insert(meta.hash, meta.generation);
            ControlFlow::Continue(())
        };
        volume.store.walk(&mut visit).unwrap();
        found
    }

    #[test]
    fn i09_changes_while_the_index_is_away_are_in_the_rebuilt_one() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        let journal = *volume.journal().borrow();
        let gone = put(&volume, b"gone", 1);
        volume.discard_index("the test says so");
        volume.slot.clear();
        assert!(!volume.is_indexed());
        let kept = put(&volume, b"kept", 2);
        delete(&volume, gone, 1);
        let end = volume.rebuild(&CancellationToken::new()).unwrap();
        assert_eq!(end, RebuildEnd::Complete { replicas: 1 });
        assert!(volume.is_indexed());
        assert_eq!(in_index(&volume), BTreeMap::from([(kept, Generation(2))]));
        assert_ne!(*volume.journal().borrow(), journal);
    }

    #[test]
    fn i09_a_rebuild_under_load_ends_with_what_the_directory_holds() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        thread::scope(|scope| {
            for lane in 0..4u64 {
                let volume = &volume;
                scope.spawn(move || {
                    for round in 1..=60u64 {
                        // Lanes share their files, so that they meet at the same hashes.
                        let hash = put(volume, &[(round % 7) as u8], round * 4 + lane);
                        if round % 3 == 0 {
                            delete(volume, hash, round * 4);
                        }
                    }
                });
            }
            for _ in 0..5 {
                volume.discard_index("the test says so");
                volume.rebuild(&CancellationToken::new()).unwrap();
            }
        });
        assert_eq!(in_index(&volume), in_directory(&volume));
    }

    #[test]
    fn a_clean_close_keeps_the_index_and_refuses_changes_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        let hash = put(&volume, b"kept", 2);
        let journal = *volume.journal().borrow();
        volume.close().unwrap();
        assert!(matches!(volume.writer(0), Err(VolumeError::Closing)));
        let stopping = CancellationToken::new();
        assert!(matches!(
            volume.rebuild(&stopping),
            Err(VolumeError::Closing)
        ));
        drop(volume);
        let config = DatanodeConfig::new(directory.path(), "127.0.0.1:0", "127.0.0.1:1");
        let volume = Volume::open(&config, Arc::new(SystemEntropy)).unwrap();
        assert_eq!(*volume.journal().borrow(), journal);
        assert_eq!(in_index(&volume), BTreeMap::from([(hash, Generation(2))]));
        assert_eq!(volume.stats().used_bytes, 4);
    }

    #[test]
    fn i09_a_close_in_the_middle_of_a_rebuild_leaves_no_clean_mark() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        put(&volume, b"kept", 2);
        volume.discard_index("the test says so");
        let stopping = CancellationToken::new();
        stopping.cancel();
        assert_eq!(volume.rebuild(&stopping).unwrap(), RebuildEnd::Stopped);
        volume.close().unwrap();
        assert!(!directory.path().join("index.clean").exists());
    }

    #[test]
    fn i09_a_namenode_ahead_of_the_journal_gets_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        let hash = put(&volume, b"kept", 2);
        let journal = *volume.journal().borrow();
        let ahead = volume.with_index(|index| index.events(Sequence(99), 10));
        assert!(ahead.is_err() && !volume.is_indexed());
        volume.rebuild(&CancellationToken::new()).unwrap();
        assert_ne!(*volume.journal().borrow(), journal);
        assert_eq!(in_index(&volume), BTreeMap::from([(hash, Generation(2))]));
    }
}
