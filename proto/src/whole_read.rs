//! [`WantedFiles`]: small files that a reader wants from one datanode at the same time, and [`WholeReads`], what it got of each.

use bytes::Bytes;

use crate::wire::{self, WireError, hash_field, list_field, request_id_field, to_bytes};
use crate::{ContentHash, ErrorCode, FileInfo, StoreError};

/// Bytes of a file that may be wanted together with others. For a larger one the call is what costs least.
pub const MAX_WANTED_BYTES: usize = 8 << 10;
/// Files of one message. An answer is kept until its reader has taken it, so it is not to be long (I11).
pub const MAX_WANTED_FILES: usize = 16;

/// A file of at most [`MAX_WANTED_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Its name.
    pub hash: ContentHash,
    /// Ties log lines of one request together.
    pub request_id: String,
}

/// At least one, at most [`MAX_WANTED_FILES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFiles(pub Vec<WantedFile>);

/// A replica with all of its bytes, every one of them verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeRead {
    /// What the datanode knows of the file; not what only the namenode does.
    pub file: FileInfo,
    /// Its bytes, as many as `file` says.
    pub data: Bytes,
}

/// One for each file that was wanted, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeReads(pub Vec<Result<WholeRead, StoreError>>);

impl From<WantedFiles> for wire::ReadFilesRequest {
    fn from(wanted: WantedFiles) -> Self {
        let files = wanted.0.into_iter().map(|file| wire::WantedFile {
            hash: to_bytes(file.hash.as_bytes()),
            request_id: file.request_id,
        });
        Self {
            files: files.collect(),
        }
    }
}

impl TryFrom<wire::ReadFilesRequest> for WantedFiles {
    type Error = WireError;

    fn try_from(request: wire::ReadFilesRequest) -> Result<Self, WireError> {
        if request.files.is_empty() {
            return Err(WireError::Missing("files"));
        }
        let one = |file: wire::WantedFile| {
            Ok::<_, WireError>(WantedFile {
                hash: hash_field("hash", &file.hash)?,
                request_id: request_id_field(file.request_id),
            })
        };
        list_field("files", request.files, MAX_WANTED_FILES, one).map(Self)
    }
}

impl From<WholeReads> for wire::ReadFilesResponse {
    fn from(reads: WholeReads) -> Self {
        let files = reads.0.into_iter().map(|read| match read {
            Ok(read) => wire::ReadFileResult {
                file: Some(read.file.into()),
                data: read.data,
                ..Default::default()
            },
            Err(error) => wire::ReadFileResult {
                error_code: error.code.number(),
                error: error.message,
                ..Default::default()
            },
        });
        Self {
            files: files.collect(),
        }
    }
}

impl TryFrom<wire::ReadFilesResponse> for WholeReads {
    type Error = WireError;

    fn try_from(response: wire::ReadFilesResponse) -> Result<Self, WireError> {
        // An answer that means nothing says nothing of the others.
        let one = |result| Ok::<_, WireError>(read(result));
        list_field("files", response.files, MAX_WANTED_FILES, one).map(Self)
    }
}

fn read(result: wire::ReadFileResult) -> Result<WholeRead, StoreError> {
    let Some(file) = result.file else {
        let code = ErrorCode::from_number(result.error_code);
        return Err(StoreError::new(code, result.error));
    };
    let file = FileInfo::try_from(file)?;
    if result.data.len() > MAX_WANTED_BYTES {
        return Err(WireError::Limit("data").into());
    }
    if result.data.len() as u64 != file.size {
        return Err(WireError::Value("data").into());
    }
    Ok(WholeRead {
        file,
        // The message would be kept as long as one of its files.
        data: Bytes::copy_from_slice(&result.data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Blake3Root, Generation};

    fn wanted(count: usize) -> WantedFiles {
        let file = WantedFile {
            hash: ContentHash::EMPTY,
            request_id: "r-1".to_owned(),
        };
        WantedFiles(vec![file; count])
    }

    fn whole(length: usize) -> WholeRead {
        WholeRead {
            file: FileInfo {
                hash: ContentHash::EMPTY,
                size: length as u64,
                blake3_root: Blake3Root::new([3; 32]),
                generation: Generation(7),
                replication: 0,
                created_ms: 0,
            },
            data: vec![1; length].into(),
        }
    }

    fn over_the_wire(reads: WholeReads) -> Result<WholeReads, WireError> {
        wire::ReadFilesResponse::from(reads).try_into()
    }

    #[test]
    fn wishes_and_answers_survive_the_wire() {
        let request = wire::ReadFilesRequest::from(wanted(2));
        assert_eq!(WantedFiles::try_from(request), Ok(wanted(2)));
        let absent = StoreError::new(ErrorCode::NotFound, "no replica");
        let reads = WholeReads(vec![Ok(whole(3)), Err(absent), Ok(whole(0))]);
        assert_eq!(over_the_wire(reads.clone()), Ok(reads));
    }

    #[test]
    fn i11_a_message_holds_no_more_than_it_may() {
        let many = wire::ReadFilesRequest::from(wanted(MAX_WANTED_FILES + 1));
        assert_eq!(WantedFiles::try_from(many), Err(WireError::Limit("files")));
        let none = wire::ReadFilesRequest::from(wanted(0));
        assert_eq!(
            WantedFiles::try_from(none),
            Err(WireError::Missing("files"))
        );
        let large = WholeReads(vec![Ok(whole(MAX_WANTED_BYTES + 1))]);
        let WholeReads(read) = over_the_wire(large).unwrap();
        assert_eq!(read, [Err(WireError::Limit("data").into())]);
        let full = WholeReads(vec![Ok(whole(MAX_WANTED_BYTES)); MAX_WANTED_FILES]);
        let message = wire::ReadFilesResponse::from(full);
        assert!(prost::Message::encoded_len(&message) < wire::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn i05_a_file_with_fewer_bytes_than_it_has_is_no_answer() {
        let mut short = whole(3);
        short.data.truncate(2);
        let reads = WholeReads(vec![Ok(short), Ok(whole(3))]);
        let WholeReads(read) = over_the_wire(reads).unwrap();
        assert_eq!(read, [Err(WireError::Value("data").into()), Ok(whole(3))]);
    }
}
