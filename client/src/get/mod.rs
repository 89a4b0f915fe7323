//! Reading a file: from the replica that answers first, and from another one where it breaks.

mod first_byte;
mod hedge;
mod known_locations;
mod look_ups;
mod reader;
mod replica;
mod whole;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, stream};
use richardstore_proto::{ContentHash, FileInfo};

pub(crate) use self::first_byte::FirstByteTimes;
pub use self::known_locations::LookUpCounts;
pub(crate) use self::look_ups::LookUps;
use self::reader::Reader;
use self::replica::WantedRange;
pub(crate) use self::whole::WholeReads;
use crate::client::Shared;
use crate::error::ClientError;

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Appears in the logs of every node that takes part.
    pub request_id: String,
}

/// The bytes of a file, or of a range of it. After an item that is an error nothing follows; a stream that ends without one
/// has delivered all of its `length` bytes, and where that is the whole file they have its hash.
pub struct GetStream {
    /// The file.
    pub file: FileInfo,
    /// Where the delivered bytes begin.
    pub offset: u64,
    /// How many bytes are delivered.
    pub length: u64,
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>,
}

impl Stream for GetStream {
    type Item = Result<Bytes, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(context)
    }
}

pub(crate) async fn get(
    shared: &Arc<Shared>,
    hash: &ContentHash,
    offset: u64,
    length: Option<u64>,
    options: GetOptions,
) -> Result<GetStream, ClientError> {
    let (located, is_remembered) = shared.look_ups.find(hash).await?;
    let file = located.file;
    let available = file
        .size
        .checked_sub(offset)
        .ok_or(ClientError::RangeNotSatisfiable {
            hash: *hash,
            size: file.size,
            offset,
        })?;
    let length = length.unwrap_or(available).min(available);
    let wanted = WantedRange {
        file,
        offset,
        end: offset + length,
        request_id: options.request_id,
    };
    let mut reader = Reader::new(shared, located, is_remembered, wanted);
    reader.open().await?;
    Ok(GetStream {
        file,
        offset,
        length,
        chunks: Box::pin(stream::unfold(Some(reader), next_item)),
    })
}

/// An error is the last item.
async fn next_item(reader: Option<Reader>) -> Option<(Result<Bytes, ClientError>, Option<Reader>)> {
    let mut reader = reader?;
    match reader.next().await {
        Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}
