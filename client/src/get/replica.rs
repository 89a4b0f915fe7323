//! [`ReplicaRead`]: one range of one file from one datanode, with every byte counted.

use std::time::Duration;

use bytes::Bytes;
use richardstore_proto::wire;
use richardstore_proto::wire::read_file_response_part::Part;
use richardstore_proto::{DataNodeInfo, ErrorCode, FileInfo, FileLocations, StoreError, WholeRead};
use richardstore_runtime::Channels;
use richardstore_runtime::in_place::read_file;

/// The bytes that are wanted: never none, since a length of 0 means "to the end" on the wire.
#[derive(Debug, Clone)]
pub(super) struct WantedRange {
    pub(super) file: FileInfo,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) request_id: String,
}

/// A stream whose first bytes have arrived.
pub(super) struct ReplicaRead {
    pub(super) node: DataNodeInfo,
    first: Option<Bytes>,
    /// `None` where the first bytes are all.
    stream: Option<tonic::Streaming<wire::ReadFileResponsePart>>,
    remaining: u64,
    progress_timeout: Duration,
}

impl ReplicaRead {
    /// Asks `node` and waits for its first bytes.
    ///
    /// # Errors
    /// What it said; [`ErrorCode::Unavailable`] where it said nothing for `progress_timeout`; [`ErrorCode::Corrupt`] where it
    /// has another file under this name.
    pub(super) async fn open(
        channels: &Channels,
        node: DataNodeInfo,
        wanted: WantedRange,
        progress_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let remaining = wanted.end - wanted.offset;
        let channel = channels.get(&node.address)?;
        let request = wire::ReadReplicaRequest {
            hash: wire::to_bytes(wanted.file.hash.as_bytes()),
            offset: wanted.offset,
            length: remaining,
            request_id: wanted.request_id,
        };
        let open = async {
            let mut stream = read_file(channel, request).await?;
            check_info(stream.message().await?, &wanted.file)?;
            Ok::<_, StoreError>(stream)
        };
        let stream = tokio::time::timeout(progress_timeout, open)
            .await
            .map_err(|_| silent(progress_timeout))??;
        let mut read = Self {
            node,
            first: None,
            stream: Some(stream),
            remaining,
            progress_timeout,
        };
        read.first = read.receive().await?;
        Ok(read)
    }

    /// A file that `node` sent as a whole.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupt`] where it is another file than was wanted.
    pub(super) fn of_whole(
        node: DataNodeInfo,
        wanted: &WantedRange,
        read: WholeRead,
    ) -> Result<Self, StoreError> {
        check(&read.file, &wanted.file)?;
        Ok(Self {
            node,
            first: (!read.data.is_empty()).then_some(read.data),
            stream: None,
            remaining: 0,
            progress_timeout: Duration::ZERO,
        })
    }

    /// The next bytes; `None` after the last of the range.
    ///
    /// # Errors
    /// The stream broke, stood still, or ended too early or too late.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.remaining > 0) else {
            return Ok(None);
        };
        let chunk = tokio::time::timeout(self.progress_timeout, next_chunk(stream))
            .await
            .map_err(|_| silent(self.progress_timeout))??;
        self.remaining = self
            .remaining
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| StoreError::new(ErrorCode::Internal, "sent more than was asked for"))?;
        Ok(Some(chunk))
    }
}

/// The next bytes, of which there are some: an empty message is no progress.
async fn next_chunk(
    stream: &mut tonic::Streaming<wire::ReadFileResponsePart>,
) -> Result<Bytes, StoreError> {
    loop {
        let part = stream.message().await?.and_then(|message| message.part);
        match part {
            Some(Part::Chunk(chunk)) if chunk.is_empty() => {}
            Some(Part::Chunk(chunk)) => return Ok(chunk),
            Some(Part::Info(_)) => {
                return Err(StoreError::new(ErrorCode::Internal, "sent a second header"));
            }
            None => {
                return Err(StoreError::new(
                    ErrorCode::Unavailable,
                    "the stream ended before the range did",
                ));
            }
        }
    }
}

/// A datanode that has other facts about the file than the namenode would deliver other bytes.
fn check_info(
    message: Option<wire::ReadFileResponsePart>,
    wanted: &FileInfo,
) -> Result<(), StoreError> {
    let Some(Part::Info(info)) = message.and_then(|message| message.part) else {
        return Err(StoreError::new(ErrorCode::Internal, "sent no header"));
    };
    check(&FileLocations::try_from(info)?.file, wanted)
}

fn check(found: &FileInfo, wanted: &FileInfo) -> Result<(), StoreError> {
    if (found.hash, found.size) != (wanted.hash, wanted.size) {
        return Err(StoreError::new(
            ErrorCode::Corrupt,
            format!(
                "has {} with {} bytes in place of {} with {}",
                found.hash, found.size, wanted.hash, wanted.size
            ),
        ));
    }
    Ok(())
}

pub(super) fn silent(limit: Duration) -> StoreError {
    StoreError::new(
        ErrorCode::Unavailable,
        format!("sent nothing for {} ms", limit.as_millis()),
    )
}
