//! The JSON lines of a dump. The order of the fields is the order in the output.

use std::fmt;

use richardstore_proto::{Blake3Root, ContentHash, Generation, NodeId};
use serde::{Serialize, Serializer};

#[derive(Serialize)]
pub(super) struct FileLine {
    #[serde(serialize_with = "text")]
    pub hash: ContentHash,
    pub size: u64,
    #[serde(serialize_with = "text")]
    pub blake3_root: Blake3Root,
    pub replication: u32,
    pub generation: Generation,
    pub created_ms: u64,
    pub replicas: Vec<ReplicaField>,
}

#[derive(Serialize)]
pub(super) struct ReplicaField {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    pub generation: Generation,
}

#[derive(Serialize)]
pub(super) struct ReplicaLine {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    pub generation: Generation,
    #[serde(serialize_with = "text")]
    pub hash: ContentHash,
}

#[derive(Serialize)]
pub(super) struct NodeLine<'a> {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    pub index: u32,
    pub name: &'a str,
    pub address: &'a str,
    pub rack: &'a str,
    pub admin: &'static str,
    pub session_epoch: u64,
    pub journal_id: Option<String>,
    pub next_sequence: u64,
    pub registered_ms: u64,
    pub replicas: u64,
    pub bytes: u64,
    pub commands: u64,
}

#[derive(Serialize)]
pub(super) struct TombstoneLine {
    #[serde(serialize_with = "text")]
    pub hash: ContentHash,
    pub generation: Generation,
    pub deleted_ms: u64,
    pub marker: Generation,
    pub holders: Vec<HolderField>,
}

#[derive(Serialize)]
pub(super) struct HolderField {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    pub command: u64,
}

#[derive(Serialize)]
pub(super) struct CommandLine {
    #[serde(serialize_with = "text")]
    pub node: NodeId,
    pub id: u64,
    pub action: &'static str,
    #[serde(serialize_with = "text")]
    pub hash: ContentHash,
    pub generation: Option<Generation>,
    pub targets: Option<Vec<String>>,
    pub attempts: u32,
    pub not_before_ms: u64,
    pub issued_ms: u64,
}

#[derive(Serialize)]
pub(super) struct WriteLine {
    pub generation: Generation,
    pub count: u32,
    pub open: Vec<Generation>,
    pub expires_at_ms: u64,
    pub parked: Vec<ReplicaLine>,
}

#[derive(Serialize)]
pub(super) struct MetaLine<'a> {
    pub key: &'a str,
    pub value: serde_json::Value,
}

fn text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
