//! [`WholeFiles`]: small files that go down one chain in one message, and [`WholeResults`], what became of each.

use bytes::Bytes;

use crate::wire::{self, WireError, cluster_field, list_field, request_id_field};
use crate::{
    ClusterId, DataNodeInfo, ErrorCode, Generation, MAX_REPLICATION, PipelineResult, StoreError,
    WriteTrailer,
};

/// Bytes of a file that may go as a whole. Hashing a larger one is what takes time, not the message.
pub const MAX_WHOLE_BYTES: usize = 64 << 10;
/// Files of one message, which keeps it to half of what a message may have.
pub const MAX_WHOLE_FILES: usize = 32;

/// A file with all of its bytes, and what it is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeFile {
    /// The allocation it belongs to; never 0.
    pub generation: Generation,
    /// Ties log lines of one request together.
    pub request_id: String,
    /// Its bytes, at most [`MAX_WHOLE_BYTES`].
    pub data: Bytes,
    /// What every node compares them with.
    pub trailer: WriteTrailer,
}

/// Files for the receiving node and for `chain`, who get it from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeFiles {
    /// The rest of the chain after the receiving node.
    pub chain: Vec<DataNodeInfo>,
    /// The sender's cluster.
    pub cluster_id: ClusterId,
    /// At least one, at most [`MAX_WHOLE_FILES`].
    pub files: Vec<WholeFile>,
    /// Copies of files that are there already, and no uploads.
    pub copies: bool,
}

/// One for each file, in the same order: who of the receiving node and its chain has it, or why nobody does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeResults(pub Vec<Result<PipelineResult, StoreError>>);

impl WholeFiles {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.data.len() as u64).sum()
    }
}

impl From<WholeFile> for wire::WholeFile {
    fn from(file: WholeFile) -> Self {
        Self {
            generation: file.generation.0,
            request_id: file.request_id,
            data: file.data,
            trailer: Some(file.trailer.into()),
        }
    }
}

impl TryFrom<wire::WholeFile> for WholeFile {
    type Error = WireError;

    fn try_from(file: wire::WholeFile) -> Result<Self, WireError> {
        if file.generation == 0 {
            return Err(WireError::Missing("generation"));
        }
        if file.data.len() > MAX_WHOLE_BYTES {
            return Err(WireError::Limit("data"));
        }
        Ok(Self {
            generation: Generation(file.generation),
            request_id: request_id_field(file.request_id),
            data: file.data,
            trailer: file
                .trailer
                .ok_or(WireError::Missing("trailer"))?
                .try_into()?,
        })
    }
}

impl From<WholeFiles> for wire::WriteFilesRequest {
    fn from(whole: WholeFiles) -> Self {
        Self {
            nodes: whole.chain.into_iter().map(Into::into).collect(),
            cluster_id: whole.cluster_id.to_string(),
            files: whole.files.into_iter().map(Into::into).collect(),
            copies: whole.copies,
        }
    }
}

impl TryFrom<wire::WriteFilesRequest> for WholeFiles {
    type Error = WireError;

    fn try_from(request: wire::WriteFilesRequest) -> Result<Self, WireError> {
        if request.files.is_empty() {
            return Err(WireError::Missing("files"));
        }
        Ok(Self {
            chain: list_field(
                "nodes",
                request.nodes,
                MAX_REPLICATION,
                DataNodeInfo::try_from,
            )?,
            cluster_id: cluster_field(&request.cluster_id)?,
            files: list_field("files", request.files, MAX_WHOLE_FILES, WholeFile::try_from)?,
            copies: request.copies,
        })
    }
}

impl From<WholeResults> for wire::WriteFilesResponse {
    fn from(results: WholeResults) -> Self {
        let results = results.0.into_iter().map(|result| match result {
            Ok(result) => wire::WholeFileResult {
                written: Some(result.into()),
                ..Default::default()
            },
            Err(error) => wire::WholeFileResult {
                written: None,
                error_code: error.code.number(),
                error: error.message,
            },
        });
        Self {
            results: results.collect(),
        }
    }
}

impl TryFrom<wire::WriteFilesResponse> for WholeResults {
    type Error = WireError;

    fn try_from(response: wire::WriteFilesResponse) -> Result<Self, WireError> {
        let one = |result: wire::WholeFileResult| match result.written {
            Some(written) => PipelineResult::try_from(written).map(Ok),
            // Nothing at all is no success either: a lost word must not become an acknowledgement (I1).
            None => Ok(Err(StoreError::new(
                ErrorCode::from_number(result.error_code),
                result.error,
            ))),
        };
        list_field("results", response.results, MAX_WHOLE_FILES, one).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Blake3Root, ContentHash, NodeId};

    fn file() -> WholeFile {
        WholeFile {
            generation: Generation(7),
            request_id: "r-1".to_owned(),
            data: Bytes::from_static(b"abc"),
            trailer: WriteTrailer {
                hash: ContentHash::EMPTY,
                blake3_root: Blake3Root::new([3; 32]),
                size: 3,
            },
        }
    }

    fn files(count: usize) -> WholeFiles {
        WholeFiles {
            chain: Vec::new(),
            cluster_id: ClusterId::new([1; 16]),
            files: vec![file(); count],
            copies: true,
        }
    }

    fn over_the_wire(whole: WholeFiles) -> Result<WholeFiles, WireError> {
        wire::WriteFilesRequest::from(whole).try_into()
    }

    #[test]
    fn files_survive_the_wire() {
        assert_eq!(over_the_wire(files(2)), Ok(files(2)));
    }

    #[test]
    fn i11_a_message_holds_no_more_than_it_may() {
        let mut large = files(1);
        large.files[0].data = vec![0; MAX_WHOLE_BYTES + 1].into();
        assert_eq!(over_the_wire(large), Err(WireError::Limit("data")));
        let many = files(MAX_WHOLE_FILES + 1);
        assert_eq!(over_the_wire(many), Err(WireError::Limit("files")));
        assert_eq!(over_the_wire(files(0)), Err(WireError::Missing("files")));
        let mut full = files(MAX_WHOLE_FILES);
        for file in &mut full.files {
            file.data = vec![0; MAX_WHOLE_BYTES].into();
        }
        let message = wire::WriteFilesRequest::from(full);
        assert!(prost::Message::encoded_len(&message) < wire::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn a_file_without_a_generation_or_a_trailer_is_refused() {
        let mut wire = wire::WholeFile::from(file());
        wire.trailer = None;
        assert_eq!(
            WholeFile::try_from(wire),
            Err(WireError::Missing("trailer"))
        );
        let nothing = WholeFile {
            generation: Generation(0),
            ..file()
        };
        assert_eq!(
            WholeFile::try_from(wire::WholeFile::from(nothing)),
            Err(WireError::Missing("generation"))
        );
    }

    #[test]
    fn i01_a_result_that_says_nothing_is_no_acknowledgement() {
        let written = PipelineResult {
            acknowledged: vec![NodeId::new([1; 16])],
            failed: Vec::new(),
        };
        let full = StoreError::new(ErrorCode::StorageFull, "full");
        let results = WholeResults(vec![Ok(written), Err(full)]);
        let mut wire = wire::WriteFilesResponse::from(results.clone());
        assert_eq!(WholeResults::try_from(wire.clone()), Ok(results));
        wire.results.push(wire::WholeFileResult::default());
        let read = WholeResults::try_from(wire).unwrap();
        assert!(read.0[2].is_err());
    }
}
