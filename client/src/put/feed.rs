//! [`Feed`]: the bytes of one upload on their way from the source to a pipeline: cut, hashed, and remembered for a while.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use richardstore_runtime::Offload;

use super::Progress;
use super::chunker::Chunker;
use crate::content_hasher::{ContentDigest, ContentHasher};
use crate::error::{ClientError, SourceError};

/// The beginning of an upload that is kept in memory, in bytes: as long as nothing beyond it was sent, a pipeline whose head
/// died can be replaced by another one.
const REPLAY_BYTES: usize = 4 << 20;
/// Small pieces wait this long for others to go with them.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// A source that is silent for this long is covered by an empty message, so that the datanodes can tell a slow sender from
/// one that is gone.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(5);

/// The next thing to send.
#[derive(Debug)]
pub(crate) enum Fed {
    /// Bytes; none where the source is silent and the pipeline should hear that the upload lives.
    Chunk(Bytes),
    /// All bytes were fed.
    End(ContentDigest),
}

/// Reads the source once, whatever happens to the pipelines that take its bytes.
pub(crate) struct Feed<S> {
    source: S,
    chunker: Chunker,
    hasher: Option<ContentHasher>,
    digest: Option<ContentDigest>,
    replay: Replay,
    source_ended: bool,
    fed_bytes: u64,
    progress: Option<Progress>,
}

/// The first bytes of the upload, until there are too many of them.
struct Replay {
    chunks: Vec<Bytes>,
    bytes: usize,
    overflowed: bool,
}

impl<S> Feed<S>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
{
    pub(crate) fn new(source: S, offload: Offload, progress: Option<Progress>) -> Self {
        Self {
            source,
            chunker: Chunker::default(),
            hasher: Some(ContentHasher::new(offload)),
            digest: None,
            replay: Replay {
                chunks: Vec::new(),
                bytes: 0,
                overflowed: false,
            },
            source_ended: false,
            fed_bytes: 0,
            progress,
        }
    }

    /// Feeds all bytes and keeps them for [`Feed::replay`], where they are no more than `limit`. `None`: they are more, and
    /// the rest is still to be fed.
    ///
    /// # Errors
    /// The source's own.
    pub(crate) async fn gather(
        &mut self,
        limit: u64,
    ) -> Result<Option<ContentDigest>, ClientError> {
        while self.fed_bytes <= limit {
            if let Fed::End(digest) = self.next().await? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// What was fed so far, to send again. `None` where that is too much.
    pub(crate) fn replay(&self) -> Option<Vec<Bytes>> {
        (!self.replay.overflowed).then(|| self.replay.chunks.clone())
    }

    /// The next chunk, or the digest of all of them.
    ///
    /// # Errors
    /// The source's own.
    pub(crate) async fn next(&mut self) -> Result<Fed, ClientError> {
        loop {
            if let Some(chunk) = self.chunker.pop() {
                self.take(&chunk).await?;
                return Ok(Fed::Chunk(chunk));
            }
            if self.source_ended {
                return self.finish().await.map(Fed::End);
            }
            let patience = match self.chunker.is_waiting() {
                true => FLUSH_AFTER,
                false => KEEP_ALIVE_AFTER,
            };
            match tokio::time::timeout(patience, self.source.next()).await {
                Ok(Some(Ok(piece))) => self.chunker.push(piece),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => {
                    self.source_ended = true;
                    self.chunker.flush();
                }
                Err(_) if self.chunker.is_waiting() => self.chunker.flush(),
                Err(_) => return Ok(Fed::Chunk(Bytes::new())),
            }
        }
    }

    async fn take(&mut self, chunk: &Bytes) -> Result<(), ClientError> {
        if let Some(hasher) = &mut self.hasher {
            let hashed = hasher.update(chunk.clone()).await;
            hashed.map_err(|error| ClientError::Internal(format!("hashing: {error}")))?;
        }
        self.replay.remember(chunk);
        self.fed_bytes += chunk.len() as u64;
        if let Some(progress) = &self.progress {
            progress(self.fed_bytes);
        }
        Ok(())
    }

    /// The digest is kept: a pipeline that fails at its very end is replaced too, and the next one needs it again.
    async fn finish(&mut self) -> Result<ContentDigest, ClientError> {
        if let Some(hasher) = self.hasher.take() {
            let digest = hasher.finish().await;
            self.digest =
                Some(digest.map_err(|error| ClientError::Internal(format!("hashing: {error}")))?);
        }
        self.digest
            .ok_or_else(|| ClientError::Internal("hashing failed before".into()))
    }
}

impl Replay {
    fn remember(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len();
        if self.bytes > REPLAY_BYTES {
            self.overflowed = true;
            self.chunks = Vec::new();
        } else if !self.overflowed {
            self.chunks.push(chunk.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use richardstore_proto::ErrorCode;

    fn pieces(
        list: Vec<Result<Bytes, SourceError>>,
    ) -> impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin {
        stream::iter(list)
    }

    #[tokio::test]
    async fn the_beginning_can_be_replayed_until_it_is_too_long() {
        let list = (0..5).map(|_| Ok(vec![1; 1 << 20].into())).collect();
        let mut feed = Feed::new(pieces(list), Offload::Inline, None);
        for _ in 0..16 {
            assert!(matches!(feed.next().await, Ok(Fed::Chunk(_))));
        }
        let replay = feed.replay().unwrap();
        assert_eq!(replay.iter().map(Bytes::len).sum::<usize>(), 4 << 20);
        feed.next().await.unwrap();
        assert!(feed.replay().is_none());
    }

    #[tokio::test]
    async fn the_digest_can_be_asked_for_twice() {
        let mut feed = Feed::new(pieces(vec![Ok("abc".into())]), Offload::Inline, None);
        assert!(matches!(feed.next().await, Ok(Fed::Chunk(_))));
        for _ in 0..2 {
            assert!(matches!(feed.next().await, Ok(Fed::End(digest)) if digest.size == 3));
        }
    }

    #[tokio::test]
    async fn the_sources_error_is_passed_through() {
        let error = SourceError::new(ErrorCode::PayloadTooLarge, "too much");
        let mut feed = Feed::new(pieces(vec![Err(error.clone())]), Offload::Inline, None);
        assert_eq!(feed.next().await.unwrap_err(), ClientError::Source(error));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_is_sent_as_it_comes_and_kept_alive() {
        let list = stream::iter([Ok(Bytes::from("slow"))]).chain(stream::pending());
        let mut feed = Feed::new(list, Offload::Inline, None);
        assert!(matches!(feed.next().await, Ok(Fed::Chunk(bytes)) if bytes == "slow"));
        assert!(matches!(feed.next().await, Ok(Fed::Chunk(bytes)) if bytes.is_empty()));
    }
}
