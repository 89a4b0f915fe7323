//! What a datanode tells the namenode about its replicas, and the commands that come back.

use crate::wire::{self, WireError, hash_field, list_field, optional_root_field, to_bytes};
use crate::{
    Blake3Root, CommandId, ContentHash, DataNodeInfo, ErrorCode, FileInfo, Generation,
    MAX_REPLICATION, NamenodeEpoch, Sequence,
};

/// A replica as reports name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaEntry {
    /// The file.
    pub hash: ContentHash,
    /// The write it came with.
    pub generation: Generation,
}

/// One change on a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalEvent {
    /// Position in the journal.
    pub sequence: Sequence,
    /// The replica that came or went.
    pub replica: ReplicaEntry,
    /// Bytes.
    pub size: u64,
    /// What the bytes are verified by; `None` where a removal no longer knew it.
    pub blake3_root: Option<Blake3Root>,
    /// It went.
    pub removed: bool,
}

/// Work for a datanode. Delivered until confirmed; doing it twice does no harm (I10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its number, unique in the cluster.
    pub id: CommandId,
    /// The work.
    pub action: CommandAction,
}

/// The delete of a file, as datanodes remember it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedDelete {
    /// The file.
    pub hash: ContentHash,
    /// Replicas up to this write are dead.
    pub generation: Generation,
    /// The namenode's next generation when it was deleted: where in the life of the metadata the delete lies. A copy of the
    /// metadata from before does not know of it.
    pub marker: Generation,
}

/// A copy of the metadata that is a file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataCopy {
    /// The file.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// When it was taken, milliseconds since the Unix epoch.
    pub taken_ms: u64,
    /// By which start of the namenode.
    pub namenode_epoch: NamenodeEpoch,
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandAction {
    /// The file was deleted: remember that, and remove the replica unless it is newer (I3, I4).
    Delete(RememberedDelete),
    /// Remove a replica that is one too many, unless it is newer than this generation (I4).
    Trim(ReplicaEntry),
    /// Copy the file to other nodes.
    Replicate {
        /// What to copy.
        file: FileInfo,
        /// The chain to copy it to.
        targets: Vec<DataNodeInfo>,
    },
    /// Put the replica aside where its bytes are really wrong, unless it is newer than this generation (I5, I6).
    Quarantine(ReplicaEntry),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Which.
    pub id: CommandId,
    /// `Ok` is done for good; an error is tried again by the namenode's own rules.
    pub result: Result<(), (ErrorCode, String)>,
}

impl From<ReplicaEntry> for wire::ReplicaEntry {
    fn from(entry: ReplicaEntry) -> Self {
        Self {
            hash: to_bytes(entry.hash.as_bytes()),
            generation: entry.generation.0,
        }
    }
}

impl TryFrom<wire::ReplicaEntry> for ReplicaEntry {
    type Error = WireError;

    fn try_from(entry: wire::ReplicaEntry) -> Result<Self, WireError> {
        Ok(Self {
            hash: hash_field("hash", &entry.hash)?,
            generation: Generation(entry.generation),
        })
    }
}

impl From<RememberedDelete> for wire::RememberedDelete {
    fn from(delete: RememberedDelete) -> Self {
        Self {
            hash: to_bytes(delete.hash.as_bytes()),
            generation: delete.generation.0,
            marker: delete.marker.0,
        }
    }
}

impl TryFrom<wire::RememberedDelete> for RememberedDelete {
    type Error = WireError;

    fn try_from(delete: wire::RememberedDelete) -> Result<Self, WireError> {
        Ok(Self {
            hash: hash_field("hash", &delete.hash)?,
            generation: Generation(delete.generation),
            marker: Generation(delete.marker),
        })
    }
}

impl From<MetadataCopy> for wire::MetadataCopy {
    fn from(copy: MetadataCopy) -> Self {
        Self {
            hash: to_bytes(copy.hash.as_bytes()),
            size: copy.size,
            taken_ms: copy.taken_ms,
            namenode_epoch: copy.namenode_epoch.0,
        }
    }
}

impl TryFrom<wire::MetadataCopy> for MetadataCopy {
    type Error = WireError;

    fn try_from(copy: wire::MetadataCopy) -> Result<Self, WireError> {
        Ok(Self {
            hash: hash_field("hash", &copy.hash)?,
            size: copy.size,
            taken_ms: copy.taken_ms,
            namenode_epoch: NamenodeEpoch(copy.namenode_epoch),
        })
    }
}

impl From<JournalEvent> for wire::JournalEvent {
    fn from(event: JournalEvent) -> Self {
        Self {
            sequence: event.sequence.0,
            hash: to_bytes(event.replica.hash.as_bytes()),
            generation: event.replica.generation.0,
            size: event.size,
            blake3_root: event
                .blake3_root
                .map(|root| to_bytes(root.as_bytes()))
                .unwrap_or_default(),
            removed: event.removed,
        }
    }
}

impl TryFrom<wire::JournalEvent> for JournalEvent {
    type Error = WireError;

    fn try_from(event: wire::JournalEvent) -> Result<Self, WireError> {
        Ok(Self {
            sequence: Sequence(event.sequence),
            replica: ReplicaEntry {
                hash: hash_field("hash", &event.hash)?,
                generation: Generation(event.generation),
            },
            size: event.size,
            blake3_root: optional_root_field("blake3_root", &event.blake3_root)?,
            removed: event.removed,
        })
    }
}

impl From<Command> for wire::Command {
    fn from(command: Command) -> Self {
        let action = match command.action {
            CommandAction::Delete(delete) => wire::command::Action::Delete(wire::DeleteReplica {
                hash: to_bytes(delete.hash.as_bytes()),
                generation: delete.generation.0,
                marker: delete.marker.0,
            }),
            CommandAction::Trim(replica) => wire::command::Action::Delete(wire::DeleteReplica {
                hash: to_bytes(replica.hash.as_bytes()),
                generation: replica.generation.0,
                marker: 0,
            }),
            CommandAction::Replicate { file, targets } => {
                wire::command::Action::Replicate(wire::ReplicateFile {
                    file: Some(file.into()),
                    targets: targets.into_iter().map(Into::into).collect(),
                })
            }
            CommandAction::Quarantine(replica) => {
                wire::command::Action::Quarantine(wire::QuarantineReplica {
                    hash: to_bytes(replica.hash.as_bytes()),
                    generation: replica.generation.0,
                })
            }
        };
        Self {
            id: command.id.0,
            action: Some(action),
        }
    }
}

impl TryFrom<wire::Command> for Command {
    type Error = WireError;

    fn try_from(command: wire::Command) -> Result<Self, WireError> {
        let action = match command.action.ok_or(WireError::Missing("action"))? {
            wire::command::Action::Delete(delete) if delete.marker == 0 => {
                CommandAction::Trim(ReplicaEntry {
                    hash: hash_field("hash", &delete.hash)?,
                    generation: Generation(delete.generation),
                })
            }
            wire::command::Action::Delete(delete) => CommandAction::Delete(RememberedDelete {
                hash: hash_field("hash", &delete.hash)?,
                generation: Generation(delete.generation),
                marker: Generation(delete.marker),
            }),
            wire::command::Action::Replicate(replicate) => CommandAction::Replicate {
                file: replicate
                    .file
                    .ok_or(WireError::Missing("file"))?
                    .try_into()?,
                targets: list_field(
                    "targets",
                    replicate.targets,
                    MAX_REPLICATION,
                    DataNodeInfo::try_from,
                )?,
            },
            wire::command::Action::Quarantine(quarantine) => {
                CommandAction::Quarantine(ReplicaEntry {
                    hash: hash_field("hash", &quarantine.hash)?,
                    generation: Generation(quarantine.generation),
                })
            }
        };
        Ok(Self {
            id: CommandId(command.id),
            action,
        })
    }
}

impl From<CommandOutcome> for wire::CommandOutcome {
    fn from(outcome: CommandOutcome) -> Self {
        let (error_code, error) = match outcome.result {
            Ok(()) => (0, String::new()),
            Err((code, message)) => (code.number(), message),
        };
        Self {
            id: outcome.id.0,
            error_code,
            error,
        }
    }
}

impl From<wire::CommandOutcome> for CommandOutcome {
    fn from(outcome: wire::CommandOutcome) -> Self {
        Self {
            id: CommandId(outcome.id),
            result: match outcome.error_code {
                0 => Ok(()),
                number => Err((ErrorCode::from_number(number), outcome.error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    proptest! {
        #[test]
        fn commands_about_one_replica_survive_the_wire(
            hash in any::<[u8; 32]>(), generation: u64, id: u64,
        ) {
            let entry = ReplicaEntry {
                hash: ContentHash::new(hash),
                generation: Generation(generation),
            };
            let delete = RememberedDelete {
                hash: entry.hash,
                generation: Generation(generation),
                marker: Generation(generation.max(1)),
            };
            for action in [
                CommandAction::Delete(delete),
                CommandAction::Trim(entry),
                CommandAction::Quarantine(entry),
            ] {
                let command = Command { id: CommandId(id), action };
                let read = Command::try_from(wire::Command::from(command.clone()));
                assert_eq!(read, Ok(command));
            }
        }
    }

    #[test]
    fn a_quarantine_command_without_a_whole_hash_is_refused() {
        let short = wire::Command {
            id: 1,
            action: Some(wire::command::Action::Quarantine(wire::QuarantineReplica {
                hash: vec![7; 31].into(),
                generation: 1,
            })),
        };
        assert!(Command::try_from(short).is_err());
    }
}
