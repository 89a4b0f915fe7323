//! Writes and reads as a client makes them.

use bytes::Bytes;
use richardstore_proto::wire::data_node_client::DataNodeClient;
use richardstore_proto::wire::read_file_response_part::Part as ReadPart;
use richardstore_proto::wire::write_file_request_part::Part;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{
    ClusterId, ContentHash, DataNodeInfo, Generation, PipelineResult, StoreError, WriteTrailer,
};
use richardstore_runtime::{Channel, Channels, tcp_dial};
use richardstore_store::ContentHasher;

use super::fake_namenode::CLUSTER;
use super::node::TestNode;

/// Chunks of test files, in bytes: small enough that a test file has many.
pub const CHUNK_BYTES: usize = 100_000;

/// The calls of `node`, over a connection of its own.
pub fn connect(node: &TestNode) -> DataNodeClient<Channel> {
    client(&node.address())
}

pub fn client(address: &str) -> DataNodeClient<Channel> {
    DataNodeClient::new(Channels::new(tcp_dial()).get(address).unwrap())
}

/// Bytes without a pattern, the same for the same seed.
pub fn content(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let key = blake3::hash(&[seed]);
    blake3::Hasher::new_keyed(key.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub fn trailer_of(bytes: &[u8]) -> WriteTrailer {
    let mut hasher = ContentHasher::new();
    hasher.update(bytes);
    let digest = hasher.finish();
    WriteTrailer {
        hash: digest.hash,
        blake3_root: digest.blake3_root,
        size: digest.size,
    }
}

pub fn header(generation: u64, chain: Vec<DataNodeInfo>, cluster: ClusterId) -> Part {
    Part::Header(wire::WriteHeader {
        stream: Some(wire::StreamInfo {
            file: Some(wire::FileInfo {
                generation,
                ..Default::default()
            }),
            nodes: chain.into_iter().map(Into::into).collect(),
            ..Default::default()
        }),
        size_hint: 0,
        cluster_id: cluster.to_string(),
        request_id: "test".to_owned(),
        copy: false,
    })
}

pub fn chunks(bytes: &[u8]) -> Vec<Part> {
    bytes
        .chunks(CHUNK_BYTES)
        .map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)))
        .collect()
}

/// Sends exactly these messages.
pub async fn send(node: &TestNode, parts: Vec<Part>) -> Result<PipelineResult, StoreError> {
    let parts = parts
        .into_iter()
        .map(|part| wire::WriteFileRequestPart { part: Some(part) });
    let answer = connect(node)
        .write_file(tokio_stream::iter(parts.collect::<Vec<_>>()))
        .await?;
    Ok(answer.into_inner().try_into().unwrap())
}

/// A whole write through `chain`.
pub async fn write(
    chain: &[&TestNode],
    generation: u64,
    bytes: &[u8],
) -> Result<PipelineResult, StoreError> {
    let rest = chain[1..].iter().map(|node| node.info()).collect();
    let mut parts = vec![header(generation, rest, CLUSTER)];
    parts.extend(chunks(bytes));
    parts.push(Part::Trailer(trailer_of(bytes).into()));
    send(chain[0], parts).await
}

/// A whole write to one node; returns the file's hash.
pub async fn put(node: &TestNode, generation: u64, bytes: &[u8]) -> ContentHash {
    let result = write(&[node], generation, bytes).await.unwrap();
    assert_eq!(result.acknowledged, [node.id()]);
    trailer_of(bytes).hash
}

/// Has `from` copy a replica of its own.
pub async fn copy(
    from: &TestNode,
    hash: &ContentHash,
    to: &[TestNode],
) -> Result<PipelineResult, StoreError> {
    let request = wire::CopyFileRequest {
        stream: Some(wire::StreamInfo {
            file: Some(wire::FileInfo {
                hash: to_bytes(hash.as_bytes()),
                ..Default::default()
            }),
            nodes: to.iter().map(|node| node.info().into()).collect(),
            ..Default::default()
        }),
        cluster_id: CLUSTER.to_string(),
        request_id: "copy".to_owned(),
    };
    let answer = connect(from).copy_file(request).await?;
    Ok(answer.into_inner().try_into().unwrap())
}

/// Reads a range (`length` 0: to the end). Returns the bytes that came and how the stream ended.
pub async fn read(
    node: &TestNode,
    hash: &ContentHash,
    offset: u64,
    length: u64,
) -> (Vec<u8>, Result<(), StoreError>) {
    let request = wire::ReadReplicaRequest {
        hash: to_bytes(hash.as_bytes()),
        offset,
        length,
        request_id: "test".to_owned(),
    };
    let mut bytes = Vec::new();
    let mut parts = match connect(node).read_file(request).await {
        Ok(parts) => parts.into_inner(),
        Err(status) => return (bytes, Err(status.into())),
    };
    loop {
        match parts.message().await {
            Ok(Some(part)) => match part.part.unwrap() {
                ReadPart::Info(info) => assert!(bytes.is_empty() && info.file.is_some()),
                ReadPart::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            },
            Ok(None) => return (bytes, Ok(())),
            Err(status) => return (bytes, Err(status.into())),
        }
    }
}

pub fn generation(number: u64) -> Generation {
    Generation(number)
}
