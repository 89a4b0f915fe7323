//! [`SmallFiles`]: files that are here as a whole, written and published several at a time.
//!
//! What comes while a batch is made durable is the next batch, by one thread: with a thread for each file, the threads cost more
//! than the files, and all of them wait for the one directory that new files begin in.

use std::sync::Arc;

use bytes::Bytes;
use richardstore_proto::{ErrorCode, Generation, StoreError, WriteTrailer};
use richardstore_runtime::{JointCalls, Offload, Tasks};
use richardstore_store::{PreparedReplica, Publication, ReplicaMeta};

use super::stage::{compared, offload_failed};
use crate::volume::Volume;

/// Files of one batch at most, which bounds its bytes to 8 MiB.
const MOST_JOINT: usize = 128;

/// A file, and what it is said to be.
pub(crate) struct SmallFile {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) trailer: WriteTrailer,
    pub(crate) generation: Generation,
}

/// What became of one.
enum Outcome {
    Ended(Result<ReplicaMeta, StoreError>),
    /// Somebody holds its hash: it must not keep the others waiting.
    Alone(Box<(PreparedReplica, Generation)>),
}

/// The small files of one datanode.
pub(crate) struct SmallFiles {
    volume: Arc<Volume>,
    offload: Offload,
    batches: JointCalls<SmallFile, Outcome>,
}

impl SmallFiles {
    /// Files on `volume`.
    pub(crate) fn new(tasks: &Tasks, volume: &Arc<Volume>, offload: Offload) -> Self {
        let batches = JointCalls::new(tasks, MOST_JOINT, {
            let volume = volume.clone();
            move |files: Vec<SmallFile>| {
                let (volume, count) = (volume.clone(), files.len());
                Box::pin(async move {
                    let published = offload.run(move || publish(&volume, files)).await;
                    published.unwrap_or_else(|error| {
                        let error = offload_failed(error);
                        let failed = || Outcome::Ended(Err(error.clone()));
                        std::iter::repeat_with(failed).take(count).collect()
                    })
                })
            }
        });
        Self {
            volume: volume.clone(),
            offload,
            batches,
        }
    }

    /// Compares a file with what it is said to be, and publishes it durably.
    ///
    /// # Errors
    /// [`ErrorCode::HashMismatch`] where it is something else; nothing is published then.
    pub(crate) async fn publish(&self, file: SmallFile) -> Result<ReplicaMeta, StoreError> {
        match self.batches.answer(file).await {
            Some(Outcome::Ended(published)) => published,
            Some(Outcome::Alone(file)) => {
                let volume = self.volume.clone();
                let (replica, generation) = *file;
                let published = self
                    .offload
                    .run(move || volume.publish(replica, generation));
                Ok(published.await.map_err(offload_failed)??)
            }
            None => Err(StoreError::new(
                ErrorCode::Unavailable,
                "publishing was cut off",
            )),
        }
    }
}

fn publish(volume: &Volume, files: Vec<SmallFile>) -> Vec<Outcome> {
    let (mut prepared, mut order) = (Vec::new(), Vec::new());
    for file in files {
        let generation = file.generation;
        order.push(prepare(volume, file).map(|replica| prepared.push((replica, generation))));
    }
    let mut published = match volume.publish_all(prepared) {
        Ok(published) => Ok(published.into_iter()),
        Err(error) => Err(StoreError::from(error)),
    };
    let mut next = || match &mut published {
        Ok(published) => match published.next() {
            Some(Publication::Ended(ended)) => Outcome::Ended(ended.map_err(StoreError::from)),
            Some(Publication::Busy(file)) => Outcome::Alone(file),
            None => Outcome::Ended(Err(StoreError::new(ErrorCode::Internal, "not published"))),
        },
        Err(error) => Outcome::Ended(Err(error.clone())),
    };
    let results = order.into_iter().map(|prepared| match prepared {
        Ok(()) => next(),
        Err(error) => Outcome::Ended(Err(error)),
    });
    results.collect()
}

fn prepare(volume: &Volume, file: SmallFile) -> Result<PreparedReplica, StoreError> {
    // Not what the trailer says, which may be wrong.
    let bytes: usize = file.chunks.iter().map(Bytes::len).sum();
    let mut writer = volume.writer(bytes as u64)?;
    for chunk in &file.chunks {
        writer.write(chunk)?;
    }
    compared(writer, &file.trailer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use richardstore_runtime::ManualClock;
    use richardstore_store::ContentHasher;

    use crate::fixture::start;

    fn file(text: &'static str, generation: u64) -> SmallFile {
        let mut hasher = ContentHasher::new();
        hasher.update(text.as_bytes());
        let digest = hasher.finish();
        SmallFile {
            chunks: vec![Bytes::from_static(text.as_bytes())],
            trailer: WriteTrailer {
                hash: digest.hash,
                blake3_root: digest.blake3_root,
                size: digest.size,
            },
            generation: Generation(generation),
        }
    }

    #[tokio::test]
    async fn i05_of_files_that_meet_the_wrong_ones_fail_alone() {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), &ManualClock::at(1));
        let wrong = SmallFile {
            chunks: vec![Bytes::from_static(b"else")],
            ..file("what it is said to be", 2)
        };
        let short = SmallFile {
            chunks: Vec::new(),
            ..file("too long", 3)
        };
        let files = vec![file("a", 1), wrong, file("b", 4), short, file("a", 5)];
        let hashes: Vec<_> = files.iter().map(|file| file.trailer.hash).collect();
        let published: Vec<_> = publish(&node.volume, files)
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Ended(ended) => ended,
                Outcome::Alone(_) => panic!("nobody else is here"),
            })
            .collect();
        let code = |place: usize| published[place].as_ref().unwrap_err().code;
        assert_eq!([code(1), code(3)], [ErrorCode::HashMismatch; 2]);
        for (place, generation) in [(0, 5), (2, 4), (4, 5)] {
            let meta = published[place].as_ref().unwrap();
            assert_eq!((meta.hash, meta.generation.0), (hashes[place], generation));
            assert!(node.volume.knows(&meta.hash).unwrap());
        }
        assert!(!node.volume.knows(&hashes[1]).unwrap());
    }

    #[tokio::test]
    async fn a_file_for_a_datanode_that_has_closed_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), &ManualClock::at(1));
        node.volume.close().unwrap();
        let refused = node.small_files.publish(file("late", 1));
        let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
        assert_eq!(refused.unwrap().unwrap_err().code, ErrorCode::Unavailable);
    }
}
