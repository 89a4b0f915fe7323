//! The index against the directory it caches: what it must hold, and what must become of it when it is damaged.

mod journal;
mod model;
mod noise;
mod opening;
mod rate;

use std::fs;
use std::path::{Path, PathBuf};

use richardstore_proto::{
    Blake3Root, ContentHash, Generation, JournalId, RangeDigests, ReplicaEntry, Sequence,
};
use richardstore_store::ReplicaMeta;
use tempfile::TempDir;

use super::{Index, IndexOptions, OpenedIndex, RebuildReason};

/// A place for an index, as a datanode has it.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("index")
    }

    fn mark(&self) -> PathBuf {
        self.root.path().join("index.clean")
    }

    fn open(&self) -> OpenedIndex {
        let options = IndexOptions {
            cache_bytes: 1 << 20,
            ..IndexOptions::default()
        };
        Index::open(&self.dir(), &self.mark(), &options).unwrap()
    }

    /// Opens an index that has to be begun anew for `reason`, and ends its rebuild with nothing in the directory.
    fn begin(&self, reason: &RebuildReason) -> Index {
        let opened = self.open();
        assert_eq!(opened.rebuild.as_ref(), Some(reason));
        opened.index.finish_rebuild();
        opened.index
    }

    /// Opens an index that has to be the one that was closed.
    fn reopen(&self) -> Index {
        let opened = self.open();
        assert_eq!(opened.rebuild, None);
        opened.index
    }

    /// The files of sled.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.dir(), &mut files);
        files.sort();
        files
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Everything a report is made from.
#[derive(Debug, PartialEq)]
struct Holdings {
    digests: RangeDigests,
    entries: Vec<ReplicaEntry>,
    count: u64,
    bytes: u64,
}

fn holdings(index: &Index) -> Holdings {
    Holdings {
        digests: index.digests(),
        entries: index.entries(None, ContentHash::MAX, usize::MAX).unwrap(),
        count: index.count(),
        bytes: index.bytes(),
    }
}

/// The `number`th of many hashes that are spread over all ranges.
fn hash(number: u64) -> ContentHash {
    ContentHash::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn meta(number: u64, generation: u64) -> ReplicaMeta {
    ReplicaMeta {
        hash: hash(number),
        size: number * 10,
        blake3_root: Blake3Root::new([7; 32]),
        generation: Generation(generation),
    }
}

fn close(index: &Index) -> (JournalId, Sequence) {
    index.close(|| Ok(())).unwrap();
    (index.journal_id(), index.next_sequence())
}
