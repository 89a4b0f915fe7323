//! [`prove`]: reads a replica whole and answers with what only somebody who has all its bytes now can say.
//!
//! The proof is BLAKE3 of the bytes, keyed with a nonce that nobody knew before: it cannot be made from the index, from the
//! sidecar or from an earlier proof. That the bytes are the right ones is another question: SHA-256 of the same bytes is
//! answered with it, and the asker compares proofs of different datanodes. What is not proved is that they came from
//! the platter and not from the page cache.

use richardstore_proto::StoreError;
use richardstore_proto::wire::{self, WireError, cluster_field, hash_field, to_bytes};
use sha2::{Digest, Sha256};

use crate::node::Node;
use crate::read_ahead::ReadAhead;

/// Bytes of a nonce: what BLAKE3 takes as a key.
const NONCE_BYTES: usize = 32;

/// Proves the replica that `request` asks for.
///
/// # Errors
/// `NotFound`; `Corrupt` where bytes are wrong, of which the namenode is told.
pub(crate) async fn prove(
    node: &Node,
    request: wire::ProveReplicaRequest,
) -> Result<wire::ProveReplicaResponse, StoreError> {
    node.membership
        .check_cluster(cluster_field(&request.cluster_id)?)
        .await?;
    let hash = hash_field("hash", &request.hash)?;
    let nonce = <[u8; NONCE_BYTES]>::try_from(&request.nonce[..]);
    let nonce = nonce.map_err(|_| WireError::Value("nonce"))?;
    let _room = node.admit_read()?;
    let mut proof = blake3::Hasher::new_keyed(&nonce);
    let mut sha256 = Sha256::new();
    let (mut source, first) = ReadAhead::open(node, hash, 0, None).await?;
    let mut size = 0;
    let mut batch = Some(first);
    while let Some(chunks) = batch {
        let hashing = move || {
            for chunk in &chunks {
                proof.update(chunk);
                sha256.update(chunk);
                size += chunk.len();
            }
            (proof, sha256, size)
        };
        let hashed = node.environment.offload.run(hashing).await;
        (proof, sha256, size) = hashed.map_err(crate::pipeline::offload_failed)?;
        batch = source.next(node).await?;
    }
    Ok(wire::ProveReplicaResponse {
        proof: to_bytes(proof.finalize().as_bytes()),
        sha256: to_bytes(&sha256.finalize()),
        size: u64::try_from(size).unwrap_or(u64::MAX),
    })
}
