//! [`WriteHeader`]: the first message of a pipeline write, checked.

use richardstore_proto::wire::{self, WireError, cluster_field, list_field, request_id_field};
use richardstore_proto::{ClusterId, DataNodeInfo, Generation, MAX_REPLICATION};

/// What a write is, and who gets it after this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteHeader {
    /// The allocation it belongs to; never 0.
    pub(crate) generation: Generation,
    /// The rest of the chain after the receiving node.
    pub(crate) chain: Vec<DataNodeInfo>,
    /// Bytes to reserve; 0 is unknown.
    pub(crate) size_hint: u64,
    /// The sender's cluster.
    pub(crate) cluster_id: ClusterId,
    /// Ties log lines of one request together.
    pub(crate) request_id: String,
    /// A copy of a file that is there already, and no upload.
    pub(crate) copy: bool,
}

impl TryFrom<wire::WriteHeader> for WriteHeader {
    type Error = WireError;

    fn try_from(header: wire::WriteHeader) -> Result<Self, WireError> {
        let stream = header.stream.ok_or(WireError::Missing("stream"))?;
        // The hash is not known before the bytes have passed, so the file information is not a whole `FileInfo` here.
        let generation = Generation(stream.file.ok_or(WireError::Missing("file"))?.generation);
        if generation == Generation(0) {
            return Err(WireError::Missing("generation"));
        }
        Ok(Self {
            generation,
            chain: list_field(
                "nodes",
                stream.nodes,
                MAX_REPLICATION,
                DataNodeInfo::try_from,
            )?,
            size_hint: header.size_hint,
            cluster_id: cluster_field(&header.cluster_id)?,
            request_id: request_id_field(header.request_id),
            copy: header.copy,
        })
    }
}

impl From<WriteHeader> for wire::WriteHeader {
    fn from(header: WriteHeader) -> Self {
        Self {
            stream: Some(wire::StreamInfo {
                file: Some(wire::FileInfo {
                    generation: header.generation.0,
                    ..Default::default()
                }),
                nodes: header.chain.into_iter().map(Into::into).collect(),
                ..Default::default()
            }),
            size_hint: header.size_hint,
            cluster_id: header.cluster_id.to_string(),
            request_id: header.request_id,
            copy: header.copy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> WriteHeader {
        WriteHeader {
            generation: Generation(9),
            chain: Vec::new(),
            size_hint: 3,
            cluster_id: ClusterId::new([1; 16]),
            request_id: "r-1".to_owned(),
            copy: true,
        }
    }

    #[test]
    fn a_header_survives_the_wire() {
        let wire = wire::WriteHeader::from(header());
        assert_eq!(WriteHeader::try_from(wire), Ok(header()));
    }

    #[test]
    fn a_header_without_generation_or_cluster_is_refused() {
        let mut wire = wire::WriteHeader::from(header());
        wire.cluster_id.clear();
        assert_eq!(
            WriteHeader::try_from(wire),
            Err(WireError::Missing("cluster_id"))
        );
        let nothing = WriteHeader {
            generation: Generation(0),
            ..header()
        };
        assert_eq!(
            WriteHeader::try_from(wire::WriteHeader::from(nothing)),
            Err(WireError::Missing("generation"))
        );
    }
}
