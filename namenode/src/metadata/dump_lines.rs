//! The JSON lines of a dump, for writing and for reading. The order of the fields is the order in the output.

use std::borrow::Cow;

use richardstore_proto::{Blake3Root, ClusterId, ContentHash, Generation, JournalId, NodeId};
use serde::{Deserialize, Serialize};

use super::recovery::Recovery;
use crate::record::NodeAdmin;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLine {
    #[serde(with = "text")]
    pub hash: ContentHash,
    pub size: u64,
    #[serde(with = "text")]
    pub blake3_root: Blake3Root,
    pub replication: u32,
    pub generation: Generation,
    pub created_ms: u64,
    pub replicas: Vec<ReplicaField>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicaField {
    #[serde(with = "text")]
    pub node: NodeId,
    pub generation: Generation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicaLine {
    #[serde(with = "text")]
    pub node: NodeId,
    pub generation: Generation,
    #[serde(with = "text")]
    pub hash: ContentHash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeLine<'a> {
    #[serde(with = "text")]
    pub node: NodeId,
    pub index: u32,
    pub name: Cow<'a, str>,
    pub address: Cow<'a, str>,
    pub rack: Cow<'a, str>,
    pub admin: NodeAdmin,
    pub session_epoch: u64,
    #[serde(with = "optional_text")]
    pub journal_id: Option<JournalId>,
    pub next_sequence: u64,
    pub registered_ms: u64,
    pub replicas: u64,
    pub bytes: u64,
    pub commands: u64,
    /// Set where the operator removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_ms: Option<u64>,
    /// Set where it is expected to be away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_until_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TombstoneLine {
    #[serde(with = "text")]
    pub hash: ContentHash,
    pub generation: Generation,
    pub deleted_ms: u64,
    pub marker: Generation,
    pub holders: Vec<HolderField>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HolderField {
    #[serde(with = "text")]
    pub node: NodeId,
    pub command: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandLine<'a> {
    #[serde(with = "text")]
    pub node: NodeId,
    pub id: u64,
    pub action: Cow<'a, str>,
    #[serde(with = "text")]
    pub hash: ContentHash,
    pub generation: Option<Generation>,
    pub targets: Option<Vec<NodeField>>,
    /// Of a trim or quarantine: who has to hold the file meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<NodeField>>,
    pub attempts: u32,
    pub not_before_ms: u64,
    pub issued_ms: u64,
}

/// A node in a list of nodes.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct NodeField(#[serde(with = "text")] pub NodeId);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteLine {
    pub generation: Generation,
    pub count: u32,
    pub open: Vec<Generation>,
    pub expires_at_ms: u64,
    pub parked: Vec<ReplicaLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecalledLine {
    #[serde(with = "text")]
    pub hash: ContentHash,
    pub generation: Generation,
}

#[derive(Serialize)]
pub(super) struct MetaLine<'a> {
    pub key: &'a str,
    pub value: serde_json::Value,
}

/// The first line of a dump of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderLine {
    pub format: String,
    pub version: u32,
    pub schema: u32,
    #[serde(with = "text")]
    pub cluster_id: ClusterId,
    pub epoch: u64,
    pub next_generation: u64,
    pub next_command: u64,
    pub next_node: u32,
    /// Every write before this had ended.
    pub settled_before: Generation,
    pub nodes: u64,
    pub files: u64,
    pub bytes: u64,
    pub tombstones: u64,
    pub commands: u64,
    pub writes: u64,
    pub under_replicated: u64,
    pub foreign_replicas: u64,
    /// `null` where the metadata was never restored.
    pub recovery: Option<Recovery>,
}

/// What follows belongs to this table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableLine<'a> {
    pub table: Cow<'a, str>,
}

/// The last line of a dump of everything.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrailerLine<'a> {
    /// Lines before this one.
    pub lines: u64,
    /// Of all bytes before this line.
    pub blake3: Cow<'a, str>,
}

mod text {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
