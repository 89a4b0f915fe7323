//! Dumps: each record of a table as one line of JSON, with its fields always in the same order.
//!
//! One record is in memory at a time, whatever the size of the table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::str::FromStr;

use redb::ReadableTable;
use richardstore_proto::{ClusterId, ContentHash, ErrorCode, Generation, NodeId, StoreError};
use serde::Serialize;

use super::codec;
use super::dump_lines::{
    CommandLine, FileLine, HolderField, MetaLine, NodeField, NodeLine, RecalledLine, ReplicaField,
    ReplicaLine, TombstoneLine, WriteLine,
};
use super::tables::{
    COMMANDS, FILES, META, META_CLUSTER, META_SCHEMA, NODE_FILES, RECALLED_DELETES, TOMBSTONES,
    ViewError, WRITES, split_node_file_key,
};
use super::view::{View, guarded};
use crate::record::{CommandRecordAction, NodeIndex, NodeRecord};

/// A table that can be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Files with their replicas, by hash.
    Files,
    /// Replicas, by node and generation.
    Replicas,
    /// Nodes, by number.
    Nodes,
    /// Tombstones, by hash.
    Tombstones,
    /// Commands, by node and id.
    Commands,
    /// Allocations in flight, by generation.
    Writes,
    /// Deletes that datanodes remembered after the metadata was restored, by hash.
    Recalled,
    /// Schema version, cluster id, counters.
    Meta,
}

/// A name that is no table's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no table {0:?}: there are files, replicas, nodes, tombstones, commands, writes, recalled and meta; all is all of them"
)]
pub struct UnknownTable(String);

impl From<UnknownTable> for StoreError {
    fn from(error: UnknownTable) -> Self {
        StoreError::new(ErrorCode::NotFound, error.to_string())
    }
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 8] = [
        Self::Files,
        Self::Replicas,
        Self::Nodes,
        Self::Tombstones,
        Self::Commands,
        Self::Writes,
        Self::Recalled,
        Self::Meta,
    ];

    /// The name in URLs and on command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Replicas => "replicas",
            Self::Nodes => "nodes",
            Self::Tombstones => "tombstones",
            Self::Commands => "commands",
            Self::Writes => "writes",
            Self::Recalled => "recalled",
            Self::Meta => "meta",
        }
    }
}

impl FromStr for Table {
    type Err = UnknownTable;

    fn from_str(name: &str) -> Result<Self, UnknownTable> {
        Self::ALL
            .into_iter()
            .find(|table| table.as_str() == name)
            .ok_or_else(|| UnknownTable(name.chars().take(64).collect()))
    }
}

/// Node ids by number; a number that no node has shows as the nil id.
pub(super) struct NodeNames(BTreeMap<NodeIndex, NodeId>);

impl NodeNames {
    fn of(nodes: &[NodeRecord]) -> Self {
        let pair = |node: &NodeRecord| (node.index, node.node_id);
        Self(nodes.iter().map(pair).collect())
    }

    fn list(&self, nodes: &[NodeIndex]) -> Vec<NodeField> {
        nodes.iter().map(|node| NodeField(self.id(*node))).collect()
    }

    fn id(&self, index: NodeIndex) -> NodeId {
        self.0.get(&index).copied().unwrap_or(NodeId::new([0; 16]))
    }
}

/// What a dump does with one line, without its line break.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&str) -> ControlFlow<()>;

impl View {
    /// Hands each record of `table` to `visit` as one line of JSON without its line break, until the table ends or `visit`
    /// breaks off.
    ///
    /// # Errors
    /// [`ViewError`] at the first record that cannot be read; the lines before it were handed out.
    pub fn dump(&self, table: Table, visit: Visit<'_>) -> Result<(), ViewError> {
        let nodes = self.nodes_on_record()?;
        guarded(|| match table {
            Table::Files => self.dump_files(&NodeNames::of(&nodes), visit),
            Table::Replicas => self.dump_replicas(&NodeNames::of(&nodes), visit),
            Table::Nodes => self.dump_nodes(&nodes, visit),
            Table::Tombstones => self.dump_tombstones(&NodeNames::of(&nodes), visit),
            Table::Commands => self.dump_commands(&NodeNames::of(&nodes), visit),
            Table::Writes => self.dump_writes(&NodeNames::of(&nodes), visit),
            Table::Recalled => self.dump_recalled(visit),
            Table::Meta => self.dump_meta(visit),
        })
    }

    fn dump_files(&self, names: &NodeNames, visit: Visit<'_>) -> Result<(), ViewError> {
        for row in self.table(FILES)?.iter()? {
            let (key, frame) = row?;
            let hash = ContentHash::new(*key.value());
            let record = codec::decode_file(&hash, frame.value())?;
            let replicas = record.replicas.iter().map(|replica| ReplicaField {
                node: names.id(replica.node),
                generation: replica.generation,
            });
            let line = FileLine {
                hash,
                size: record.size,
                blake3_root: record.blake3_root,
                replication: record.replication,
                generation: record.generation,
                created_ms: record.created_ms,
                replicas: replicas.collect(),
            };
            if emit(&line, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_replicas(&self, names: &NodeNames, visit: Visit<'_>) -> Result<(), ViewError> {
        for row in self.table(NODE_FILES)?.iter()? {
            let (key, _) = row?;
            let (node, generation, hash) = split_node_file_key(key.value());
            let line = ReplicaLine {
                node: names.id(node),
                generation,
                hash,
            };
            if emit(&line, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_tombstones(&self, names: &NodeNames, visit: Visit<'_>) -> Result<(), ViewError> {
        for row in self.table(TOMBSTONES)?.iter()? {
            let (key, frame) = row?;
            let hash = ContentHash::new(*key.value());
            let record = codec::decode_tombstone(&hash, frame.value())?;
            let holders = record.holders.iter().map(|holder| HolderField {
                node: names.id(holder.node),
                command: holder.command.0,
            });
            let line = TombstoneLine {
                hash,
                generation: record.generation,
                deleted_ms: record.deleted_ms,
                marker: record.marker,
                holders: holders.collect(),
            };
            if emit(&line, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_commands(&self, names: &NodeNames, visit: Visit<'_>) -> Result<(), ViewError> {
        for row in self.table(COMMANDS)?.iter()? {
            let (key, frame) = row?;
            let (node, id) = key.value();
            let record = codec::decode_command((node, id), frame.value())?;
            let (action, hash, generation, targets, keep) = match &record.action {
                CommandRecordAction::Delete { hash, generation } => {
                    ("delete", hash, Some(*generation), None, None)
                }
                CommandRecordAction::Replicate { hash, targets } => {
                    ("replicate", hash, None, Some(names.list(targets)), None)
                }
                CommandRecordAction::Trim {
                    hash,
                    generation,
                    keep,
                } => (
                    "trim",
                    hash,
                    Some(*generation),
                    None,
                    Some(names.list(keep)),
                ),
                CommandRecordAction::Quarantine {
                    hash,
                    generation,
                    keep,
                } => (
                    "quarantine",
                    hash,
                    Some(*generation),
                    None,
                    Some(names.list(keep)),
                ),
            };
            let line = CommandLine {
                node: names.id(NodeIndex(node)),
                id,
                action: action.into(),
                hash: *hash,
                generation,
                targets,
                keep,
                attempts: record.attempts,
                not_before_ms: record.not_before_ms,
                issued_ms: record.issued_ms,
            };
            if emit(&line, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_writes(&self, names: &NodeNames, visit: Visit<'_>) -> Result<(), ViewError> {
        for row in self.table(WRITES)?.iter()? {
            let (key, frame) = row?;
            let first = Generation(key.value());
            let record = codec::decode_write(first, frame.value())?;
            let open = (0..u64::from(record.count))
                .map(|offset| Generation(first.0.saturating_add(offset)))
                .filter(|generation| record.is_open(first, *generation));
            let parked = record.parked.iter().map(|replica| ReplicaLine {
                node: names.id(replica.node),
                generation: replica.generation,
                hash: replica.hash,
            });
            let line = WriteLine {
                generation: first,
                count: record.count,
                open: open.collect(),
                expires_at_ms: record.expires_at_ms,
                parked: parked.collect(),
            };
            if emit(&line, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_recalled(&self, visit: Visit<'_>) -> Result<(), ViewError> {
        for row in self.table(RECALLED_DELETES)?.iter()? {
            let (key, frame) = row?;
            let hash = ContentHash::new(*key.value());
            let generation = codec::decode(format_args!("recalled delete {hash}"), frame.value())?;
            if emit(&RecalledLine { hash, generation }, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_nodes(&self, nodes: &[NodeRecord], visit: Visit<'_>) -> Result<(), ViewError> {
        let (removed, away) = (self.removed_nodes()?, self.maintenance()?);
        for node in nodes {
            let line = NodeLine {
                node: node.node_id,
                index: node.index.0,
                name: node.name.as_str().into(),
                address: node.address.as_str().into(),
                rack: node.rack.as_str().into(),
                admin: node.admin,
                session_epoch: node.session_epoch.0,
                journal_id: node.journal_id,
                next_sequence: node.next_sequence.0,
                registered_ms: node.registered_ms,
                replicas: node.replicas,
                bytes: node.bytes,
                commands: node.commands,
                removed_ms: removed.get(&node.index).map(|removed| removed.removed_ms),
                away_until_ms: away.get(&node.index).copied(),
            };
            if emit(&line, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_meta(&self, visit: Visit<'_>) -> Result<(), ViewError> {
        let meta = self.table(META)?;
        let row = |key: &str| {
            meta.get(key)?
                .ok_or_else(|| ViewError::Corrupt(format!("meta has no {key}")))
        };
        let schema: u32 = codec::decode("meta schema", row(META_SCHEMA)?.value())?;
        let cluster: ClusterId = codec::decode("meta cluster_id", row(META_CLUSTER)?.value())?;
        let counters = self.counters()?;
        let lines: [(&str, serde_json::Value); 13] = [
            ("schema", schema.into()),
            ("cluster_id", cluster.to_string().into()),
            ("epoch", counters.epoch.into()),
            ("next_generation", counters.next_generation.into()),
            ("next_command", counters.next_command.into()),
            ("next_node", counters.next_node.into()),
            ("files", counters.files.into()),
            ("bytes", counters.bytes.into()),
            ("tombstones", counters.tombstones.into()),
            ("commands", counters.commands.into()),
            ("writes", counters.writes.into()),
            ("under_replicated", counters.under_replicated.into()),
            ("foreign_replicas", counters.foreign_replicas.into()),
        ];
        for (key, value) in lines {
            if emit(&MetaLine { key, value }, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

pub(super) fn emit(line: &impl Serialize, visit: Visit<'_>) -> Result<ControlFlow<()>, ViewError> {
    let line =
        serde_json::to_string(line).map_err(|error| ViewError::Corrupt(error.to_string()))?;
    Ok(visit(&line))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn lines(view: &View, table: Table) -> Vec<String> {
        let mut lines = Vec::new();
        view.dump(table, &mut |line| {
            lines.push(line.to_owned());
            ControlFlow::Continue(())
        })
        .unwrap();
        lines
    }

    fn filled() -> Fixture {
        let mut fixture = Fixture::new();
        fixture.upload(0xaa, &[1, 2]);
        fixture.upload(0xbb, &[3]);
        fixture.delete(0xbb);
        let write = fixture.allocate();
        fixture.added(4, 0xcc, write.0);
        fixture
    }

    #[test]
    fn every_table_has_its_fields_in_a_fixed_order() {
        let view = filled().view();
        let (aa, bb, cc) = ("aa".repeat(32), "bb".repeat(32), "cc".repeat(32));
        let node = |last| format!("00000000-0000-0000-0000-00000000000{last}");
        let (one, two, three, four) = (node(1), node(2), node(3), node(4));
        assert_eq!(
            lines(&view, Table::Files),
            [format!(
                r#"{{"hash":"{aa}","size":100,"blake3_root":"{}","replication":3,"generation":1,"created_ms":1000,"replicas":[{{"node":"{one}","generation":1}},{{"node":"{two}","generation":1}}]}}"#,
                "03".repeat(32)
            )]
        );
        assert_eq!(
            lines(&view, Table::Replicas),
            [
                format!(r#"{{"node":"{one}","generation":1,"hash":"{aa}"}}"#),
                format!(r#"{{"node":"{two}","generation":1,"hash":"{aa}"}}"#),
            ]
        );
        assert_eq!(
            lines(&view, Table::Tombstones),
            [format!(
                r#"{{"hash":"{bb}","generation":2,"deleted_ms":1000,"marker":3,"holders":[{{"node":"{three}","command":1}}]}}"#
            )]
        );
        assert_eq!(
            lines(&view, Table::Commands),
            [format!(
                r#"{{"node":"{three}","id":1,"action":"delete","hash":"{bb}","generation":2,"targets":null,"attempts":0,"not_before_ms":0,"issued_ms":1000}}"#
            )]
        );
        assert_eq!(
            lines(&view, Table::Writes),
            [format!(
                r#"{{"generation":3,"count":1,"open":[3],"expires_at_ms":61000,"parked":[{{"node":"{four}","generation":3,"hash":"{cc}"}}]}}"#
            )]
        );
        let nodes = lines(&view, Table::Nodes);
        assert_eq!(nodes.len(), 4);
        assert_eq!(
            nodes[3],
            format!(
                r#"{{"node":"{four}","index":4,"name":"node-4","address":"127.0.0.1:7004","rack":"","admin":"in_service","session_epoch":1,"journal_id":"04040404-0404-0404-0404-040404040404","next_sequence":2,"registered_ms":1000,"replicas":0,"bytes":0,"commands":0}}"#
            )
        );
        let meta = lines(&view, Table::Meta);
        assert_eq!(meta[0], r#"{"key":"schema","value":2}"#);
        assert_eq!(meta.len(), 13);
    }

    #[test]
    fn a_dump_ends_where_its_reader_breaks_off() {
        let fixture = Fixture::new();
        for file in 1..9 {
            fixture.upload(file, &[1]);
        }
        let mut seen = 0;
        fixture
            .view()
            .dump(Table::Files, &mut |_| {
                seen += 1;
                match seen {
                    3 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })
            .unwrap();
        assert_eq!(seen, 3);
    }

    #[test]
    fn tables_are_known_by_their_names() {
        for table in Table::ALL {
            assert_eq!(table.as_str().parse(), Ok(table));
        }
        assert!("secrets".parse::<Table>().is_err());
    }
}
