//! What datanodes tell a rebuild.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use richardstore_namenode::{HeldReplica, Rebuild};
use richardstore_proto::wire::data_node_client::DataNodeClient;
use richardstore_proto::wire::data_node_inventory_client::DataNodeInventoryClient;
use richardstore_proto::wire::inventory_part::Part;
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::{
    self, MAX_MESSAGE_BYTES, WireError, hash_field, optional_root_field, to_bytes,
};
use richardstore_proto::{
    ClusterId, ContentHash, DataNodeInfo, Generation, MetadataCopy, NamenodeEpoch,
    RememberedDelete, SessionEpoch, StoreError,
};
use richardstore_runtime::Channels;
use tokio::task::block_in_place;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// A datanode that says nothing for so long is given up. It walks its whole directory before the end, and says now and then
/// that it gets on.
const SILENCE: Duration = Duration::from_secs(600);
/// For a namenode to answer, where there is one.
const NAMENODE_LIMIT: Duration = Duration::from_secs(3);

/// One datanode.
pub struct Told {
    /// Where it was asked.
    pub address: String,
    /// Who it is.
    pub node: DataNodeInfo,
    /// Its cluster.
    pub cluster_id: Option<ClusterId>,
    /// Its start.
    pub session: SessionEpoch,
    /// The newest namenode it has seen.
    pub epoch: NamenodeEpoch,
    /// The newest write it has seen.
    pub generation: Generation,
    /// Where it looks for its namenode.
    pub namenode: String,
    /// The newest copy it was told of.
    pub newest_copy: Option<MetadataCopy>,
}

/// Asks who a datanode is.
pub async fn ask(channels: &Channels, address: &str) -> Result<Told> {
    let mut parts = inventory(channels, address, false).await?;
    let Some(Part::Identity(identity)) = next(&mut parts).await? else {
        bail!("it does not say who it is");
    };
    let end = loop {
        match next(&mut parts).await? {
            Some(Part::End(end)) => break end,
            Some(_) => {}
            None => bail!("the list broke off"),
        }
    };
    let cluster_id = match identity.cluster_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| anyhow::anyhow!("cluster {id:?}"))?),
    };
    Ok(Told {
        address: address.to_owned(),
        node: identity
            .node
            .context("it does not say who it is")?
            .try_into()?,
        cluster_id,
        session: SessionEpoch(identity.session_epoch),
        epoch: NamenodeEpoch(identity.namenode_epoch),
        generation: Generation(end.newest_generation),
        namenode: identity.namenode,
        newest_copy: identity
            .newest_copy
            .map(MetadataCopy::try_from)
            .transpose()?,
    })
}

/// Takes in what a datanode remembers and holds. Returns how many deletes it remembered and cannot read any more.
pub async fn tell(channels: &Channels, told: &Told, rebuild: &mut Rebuild) -> Result<u64> {
    let mut came = Came::default();
    let index = block_in_place(|| rebuild.register(&told.node, told.session))?;
    let mut parts = inventory(channels, &told.address, true).await?;
    loop {
        match next(&mut parts).await? {
            Some(Part::Identity(_)) => {}
            Some(Part::Deletes(page)) => {
                came.deletes += page.deletes.len();
                let deletes = page.deletes.into_iter().map(RememberedDelete::try_from);
                let deletes = deletes.collect::<Result<Vec<_>, _>>()?;
                block_in_place(|| rebuild.recall(deletes))?;
            }
            Some(Part::Replicas(page)) => {
                came.replicas += page.replicas.len();
                let replicas = page.replicas.iter().map(held);
                let replicas = replicas.collect::<Result<Vec<_>>>()?;
                block_in_place(|| rebuild.holds(index, &replicas))?;
            }
            Some(Part::End(end)) => {
                came.check(&end)?;
                return Ok(end.damaged_deletes);
            }
            None => bail!("the list broke off"),
        }
    }
}

/// What came of a list.
#[derive(Debug, Default)]
struct Came {
    deletes: usize,
    replicas: usize,
}

impl Came {
    /// A list with a gap must not pass for the whole: what is missing would be taken for what is not there.
    fn check(&self, end: &wire::InventoryEnd) -> Result<()> {
        for (what, came, told) in [
            ("deletes", self.deletes, end.deletes),
            ("replicas", self.replicas, end.replicas),
        ] {
            if u64::try_from(came)? < told {
                bail!("the list has a gap: {came} {what} came of {told}");
            }
        }
        Ok(())
    }
}

fn held(replica: &wire::HeldReplica) -> Result<HeldReplica> {
    Ok(HeldReplica {
        hash: hash_field("hash", &replica.hash)?,
        size: replica.size,
        blake3_root: optional_root_field("blake3_root", &replica.blake3_root)?
            .ok_or(WireError::Missing("blake3_root"))?,
        generation: Generation(replica.generation),
    })
}

/// The cluster of the namenode at `address`, where one answers.
pub async fn namenode_of(channels: &Channels, address: &str) -> Option<ClusterId> {
    let channel = channels.get(address).ok()?;
    let mut client = NameNodeClient::new(channel);
    let asked = timeout(NAMENODE_LIMIT, client.info(wire::InfoRequest {})).await;
    asked.ok()?.ok()?.into_inner().cluster_id.parse().ok()
}

/// Reads a whole file from one datanode.
pub async fn read_file(
    channels: &Channels,
    address: &str,
    hash: &ContentHash,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    use wire::read_file_response_part::Part;
    let request = wire::ReadReplicaRequest {
        hash: to_bytes(hash.as_bytes()),
        offset: 0,
        length: 0,
        request_id: "rebuild".to_owned(),
    };
    let mut client =
        DataNodeClient::new(channels.get(address)?).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = timeout(SILENCE, client.read_file(request)).await?;
    let mut parts = answer.map_err(refused)?.into_inner();
    while let Some(part) = timeout(SILENCE, parts.message()).await?.map_err(refused)? {
        if let Some(Part::Chunk(bytes)) = part.part {
            take(&bytes)?;
        }
    }
    Ok(())
}

async fn inventory(
    channels: &Channels,
    address: &str,
    contents: bool,
) -> Result<Streaming<wire::InventoryPart>> {
    let mut client = DataNodeInventoryClient::new(channels.get(address)?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let asked = client.inventory(wire::InventoryRequest { contents });
    Ok(timeout(SILENCE, asked)
        .await?
        .map_err(refused)?
        .into_inner())
}

async fn next(parts: &mut Streaming<wire::InventoryPart>) -> Result<Option<Part>> {
    let part = timeout(SILENCE, parts.message()).await?.map_err(refused)?;
    Ok(part.and_then(|part| part.part))
}

fn refused(status: Status) -> StoreError {
    StoreError::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i08_a_list_with_a_gap_is_not_whole() {
        let end = wire::InventoryEnd {
            newest_generation: 9,
            replicas: 3,
            deletes: 2,
            damaged_deletes: 0,
        };
        let check = |deletes, replicas| Came { deletes, replicas }.check(&end).is_ok();
        assert!(check(2, 3));
        assert!(!check(1, 3) && !check(2, 2) && !check(0, 0));
    }
}
