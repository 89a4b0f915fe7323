//! [`Event`]: something that happened in the cluster, told to those who watch. Nothing depends on it.

use serde::{Serialize, Serializer};

use crate::node::text_field;
use crate::wire::{self, WireError, node_id_field, optional_hash_field, to_bytes};
use crate::{ContentHash, NodeId, Sequence};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The namenode started; the count is its epoch.
    NamenodeStarted,
    /// A datanode registered.
    NodeJoined,
    /// A datanode that was stale or dead is heard again.
    NodeLive,
    /// A datanode was not heard for a while.
    NodeStale,
    /// A datanode was not heard for so long that its replicas no longer count.
    NodeDead,
    /// An operator has a datanode emptied.
    NodeEmptying,
    /// An operator put a datanode back in service.
    NodeInService,
    /// An operator switched safe mode on.
    SafeModeOn,
    /// Safe mode ended.
    SafeModeOver,
    /// Files are being copied, or wait for it; the count is how many are known.
    RepairStarted,
    /// No file waits for a copy any more; the count is of the copies made.
    RepairFinished,
    /// A repair failed and is planned anew.
    RepairFailed,
    /// A replica was reported as bad.
    ReplicaCorrupt,
    /// A bad replica was put aside by its datanode, or found to be good.
    ReplicaQuarantined,
    /// A file was deleted.
    FileDeleted,
}

/// The datanode an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventNode {
    /// Its identity.
    #[serde(serialize_with = "as_text")]
    pub node_id: NodeId,
    /// A name for people.
    pub name: String,
}

/// One event, or several of a kind that came so fast that they are told as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// From 1, without gaps, in each start of the namenode.
    pub sequence: Sequence,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// Which datanode, where it is about one.
    pub node: Option<EventNode>,
    /// Which file, where it is about one.
    #[serde(serialize_with = "as_optional_text")]
    pub hash: Option<ContentHash>,
    /// How many.
    pub count: u64,
}

impl From<EventKind> for wire::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::NamenodeStarted => Self::NamenodeStarted,
            EventKind::NodeJoined => Self::NodeJoined,
            EventKind::NodeLive => Self::NodeLive,
            EventKind::NodeStale => Self::NodeStale,
            EventKind::NodeDead => Self::NodeDead,
            EventKind::NodeEmptying => Self::NodeEmptying,
            EventKind::NodeInService => Self::NodeInService,
            EventKind::SafeModeOn => Self::SafeModeOn,
            EventKind::SafeModeOver => Self::SafeModeOver,
            EventKind::RepairStarted => Self::RepairStarted,
            EventKind::RepairFinished => Self::RepairFinished,
            EventKind::RepairFailed => Self::RepairFailed,
            EventKind::ReplicaCorrupt => Self::ReplicaCorrupt,
            EventKind::ReplicaQuarantined => Self::ReplicaQuarantined,
            EventKind::FileDeleted => Self::FileDeleted,
        }
    }
}

impl TryFrom<wire::EventKind> for EventKind {
    type Error = WireError;

    fn try_from(kind: wire::EventKind) -> Result<Self, WireError> {
        match kind {
            wire::EventKind::NamenodeStarted => Ok(Self::NamenodeStarted),
            wire::EventKind::NodeJoined => Ok(Self::NodeJoined),
            wire::EventKind::NodeLive => Ok(Self::NodeLive),
            wire::EventKind::NodeStale => Ok(Self::NodeStale),
            wire::EventKind::NodeDead => Ok(Self::NodeDead),
            wire::EventKind::NodeEmptying => Ok(Self::NodeEmptying),
            wire::EventKind::NodeInService => Ok(Self::NodeInService),
            wire::EventKind::SafeModeOn => Ok(Self::SafeModeOn),
            wire::EventKind::SafeModeOver => Ok(Self::SafeModeOver),
            wire::EventKind::RepairStarted => Ok(Self::RepairStarted),
            wire::EventKind::RepairFinished => Ok(Self::RepairFinished),
            wire::EventKind::RepairFailed => Ok(Self::RepairFailed),
            wire::EventKind::ReplicaCorrupt => Ok(Self::ReplicaCorrupt),
            wire::EventKind::ReplicaQuarantined => Ok(Self::ReplicaQuarantined),
            wire::EventKind::FileDeleted => Ok(Self::FileDeleted),
            wire::EventKind::Unspecified => Err(WireError::Value("kind")),
        }
    }
}

impl From<Event> for wire::Event {
    fn from(event: Event) -> Self {
        let (node_id, node_name) = match event.node {
            Some(node) => (to_bytes(node.node_id.as_bytes()), node.name),
            None => Default::default(),
        };
        let hash = event.hash.map(|hash| to_bytes(hash.as_bytes()));
        Self {
            sequence: event.sequence.0,
            at_ms: event.at_ms,
            kind: wire::EventKind::from(event.kind).into(),
            node_id,
            node_name,
            hash: hash.unwrap_or_default(),
            count: event.count,
        }
    }
}

impl TryFrom<wire::Event> for Event {
    type Error = WireError;

    fn try_from(event: wire::Event) -> Result<Self, WireError> {
        let kind = event.kind().try_into()?;
        let node = match event.node_id.is_empty() {
            true => None,
            false => Some(EventNode {
                node_id: node_id_field("node_id", &event.node_id)?,
                name: text_field("node_name", event.node_name)?,
            }),
        };
        Ok(Self {
            sequence: Sequence(event.sequence),
            at_ms: event.at_ms,
            kind,
            node,
            hash: optional_hash_field("hash", &event.hash)?,
            count: event.count,
        })
    }
}

fn as_text<T: std::fmt::Display, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn as_optional_text<T: std::fmt::Display, S: Serializer>(
    id: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_wire_and_nonsense_does_not() {
        let event = Event {
            sequence: Sequence(7),
            at_ms: 8,
            kind: EventKind::ReplicaCorrupt,
            node: Some(EventNode {
                node_id: NodeId::new([1; 16]),
                name: "datanode-1".to_owned(),
            }),
            hash: Some(ContentHash::new([2; 32])),
            count: 1,
        };
        let sent = wire::Event::from(event.clone());
        assert_eq!(Event::try_from(sent.clone()), Ok(event));
        for bad in [
            wire::Event {
                kind: 99,
                ..sent.clone()
            },
            wire::Event {
                node_id: to_bytes(b"short"),
                ..sent.clone()
            },
            wire::Event {
                node_name: "a\nb".to_owned(),
                ..sent
            },
        ] {
            assert!(Event::try_from(bad).is_err());
        }
    }
}
