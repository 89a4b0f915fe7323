//! [`Client::verify`]: has the datanodes of a file prove that they hold its bytes.
//!
//! Each reads its replica whole and answers with BLAKE3 of the bytes, keyed with a nonce that is new, and with their SHA-256.
//! What counts is that two answers agree, or that one agrees with the bytes that this client reads itself: nobody can
//! know the keyed hash without the bytes. A datanode that fetched them from another one just now would pass.

use futures_util::StreamExt;
use futures_util::future::join_all;
use richardstore_proto::wire;
use richardstore_proto::{
    ContentHash, DataNodeInfo, ErrorCode, FileInfo, FileLocations, NodeState, StoreError, WireError,
};
use richardstore_runtime::answer_limit;

use crate::client::Client;
use crate::error::ClientError;
use crate::get::GetOptions;

/// What became of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReplica {
    /// The datanode.
    pub node: DataNodeInfo,
    /// What it could prove.
    pub verdict: ReplicaVerdict,
}

/// What a datanode could prove of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaVerdict {
    /// It has the bytes.
    Proven,
    /// It does not have them, or others.
    Wrong(String),
    /// It could not be asked, or there is nothing to compare its answer with.
    Unknown(String),
}

/// A datanode's answer.
struct Proof {
    keyed: [u8; 32],
    sha256: ContentHash,
    size: u64,
}

impl Client {
    /// Has every datanode that holds `file` prove it with `nonce`, 32 bytes that nobody knew before. In the order of
    /// `file.nodes`.
    pub async fn verify(&self, file: &FileLocations, nonce: [u8; 32]) -> Vec<VerifiedReplica> {
        let asked = file
            .nodes
            .iter()
            .map(|node| self.ask(node, &file.file, nonce));
        let answers = join_all(asked).await;
        let proofs: Vec<[u8; 32]> = answers.iter().flatten().map(|proof| proof.keyed).collect();
        let agree = proofs.len() > 1 && proofs.iter().all(|proof| *proof == proofs[0]);
        let truth = match (agree, proofs.is_empty()) {
            (true, _) => Ok(proofs[0]),
            (false, true) => Err("nobody proved anything".to_owned()),
            (false, false) => self
                .read_with(&file.file.hash, nonce)
                .await
                .map_err(|error| format!("there is nothing to compare its answer with: {error}")),
        };
        let verdicts = answers
            .into_iter()
            .map(|answer| judge(answer, &file.file, &truth));
        let nodes = file.nodes.iter().cloned().zip(verdicts);
        nodes
            .map(|(node, verdict)| VerifiedReplica { node, verdict })
            .collect()
    }

    async fn ask(
        &self,
        node: &DataNodeInfo,
        file: &FileInfo,
        nonce: [u8; 32],
    ) -> Result<Proof, StoreError> {
        if node.state == NodeState::Dead {
            return Err(StoreError::new(ErrorCode::Unavailable, "it is dead"));
        }
        let cluster = self.shared.cluster_id().await.map_err(StoreError::from)?;
        let request = wire::ProveReplicaRequest {
            hash: wire::to_bytes(file.hash.as_bytes()),
            nonce: wire::to_bytes(&nonce),
            cluster_id: cluster.to_string(),
        };
        let mut datanode = self.datanode_admin(&node.address)?;
        let limit = answer_limit(1, file.size);
        let answer = tokio::time::timeout(limit, datanode.prove_replica(request)).await;
        let answer = answer.map_err(|_| {
            let words = format!("no answer within {} s", limit.as_secs());
            StoreError::new(ErrorCode::RequestTimeout, words)
        })??;
        let answer = answer.into_inner();
        let keyed = <[u8; 32]>::try_from(&answer.proof[..]);
        Ok(Proof {
            keyed: keyed.map_err(|_| WireError::Value("proof"))?,
            sha256: wire::hash_field("sha256", &answer.sha256)?,
            size: answer.size,
        })
    }

    /// What the answer has to be, from the bytes that this client reads and checks itself.
    async fn read_with(
        &self,
        hash: &ContentHash,
        nonce: [u8; 32],
    ) -> Result<[u8; 32], ClientError> {
        let mut chunks = self.get(hash, 0, None, GetOptions::default()).await?;
        let mut keyed = blake3::Hasher::new_keyed(&nonce);
        while let Some(chunk) = chunks.next().await {
            keyed.update(&chunk?);
        }
        Ok(*keyed.finalize().as_bytes())
    }
}

fn judge(
    answer: Result<Proof, StoreError>,
    file: &FileInfo,
    truth: &Result<[u8; 32], String>,
) -> ReplicaVerdict {
    let proof = match answer {
        Ok(proof) => proof,
        Err(error) if matches!(error.code, ErrorCode::Corrupt | ErrorCode::NotFound) => {
            return ReplicaVerdict::Wrong(error.message);
        }
        Err(error) => return ReplicaVerdict::Unknown(error.message),
    };
    if proof.sha256 != file.hash || proof.size != file.size {
        let (hash, size) = (proof.sha256, proof.size);
        return ReplicaVerdict::Wrong(format!("it has {size} bytes with the hash {hash}"));
    }
    match truth {
        Ok(truth) if *truth == proof.keyed => ReplicaVerdict::Proven,
        Ok(_) => ReplicaVerdict::Wrong("its proof is not that of the bytes".to_owned()),
        Err(reason) => ReplicaVerdict::Unknown(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{Blake3Root, Generation};

    fn file() -> FileInfo {
        FileInfo {
            hash: ContentHash::new([1; 32]),
            size: 3,
            blake3_root: Blake3Root::new([0; 32]),
            generation: Generation(1),
            replication: 1,
            created_ms: 0,
        }
    }

    fn proof(keyed: u8, sha256: u8) -> Result<Proof, StoreError> {
        Ok(Proof {
            keyed: [keyed; 32],
            sha256: ContentHash::new([sha256; 32]),
            size: 3,
        })
    }

    #[test]
    fn i05_only_the_right_bytes_prove_a_replica() {
        let truth = Ok([9; 32]);
        assert_eq!(judge(proof(9, 1), &file(), &truth), ReplicaVerdict::Proven);
        for wrong in [proof(8, 1), proof(9, 2)] {
            let verdict = judge(wrong, &file(), &truth);
            assert!(matches!(verdict, ReplicaVerdict::Wrong(_)), "{verdict:?}");
        }
        let corrupt = Err(StoreError::new(ErrorCode::Corrupt, "bad"));
        assert_eq!(
            judge(corrupt, &file(), &truth),
            ReplicaVerdict::Wrong("bad".to_owned())
        );
    }

    #[test]
    fn without_a_second_opinion_nothing_is_claimed() {
        let nobody = Err("nobody".to_owned());
        let away = Err(StoreError::new(ErrorCode::Unavailable, "away"));
        for (answer, said) in [(proof(9, 1), "nobody"), (away, "away")] {
            let verdict = judge(answer, &file(), &nobody);
            assert_eq!(verdict, ReplicaVerdict::Unknown(said.to_owned()));
        }
    }
}
