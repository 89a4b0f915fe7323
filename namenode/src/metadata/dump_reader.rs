//! [`DumpReader`]: a dump of everything, line by line, believed only as far as its checksum and its own counts say.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use richardstore_migrations::NAMENODE_SCHEMA;
use richardstore_proto::{
    ClusterId, CommandId, ContentHash, Generation, NodeId, Sequence, SessionEpoch,
};
use serde::Deserialize;

use super::dump::Table;
use super::dump_all::{FORMAT, FORMAT_VERSION, TABLES};
use super::dump_lines::{
    CommandLine, FileLine, HeaderLine, NodeField, NodeLine, RecalledLine, TableLine, TombstoneLine,
    TrailerLine, WriteLine,
};
use crate::record::{
    CommandRecord, CommandRecordAction, FileRecord, NodeIndex, NodeRecord, ParkedReplica, Replica,
    TombstoneHolder, TombstoneRecord, WriteRecord,
};

/// No line is longer: a tombstone that every node of the largest cluster holds is a third of it.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Why something is not a whole dump of everything.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It does not begin as one.
    #[error("this is no dump of a namenode's metadata: {0}")]
    NotADump(String),
    /// It was written by another version.
    #[error(
        "the dump has format {version} of schema {schema}, this build reads format {FORMAT_VERSION} of schema {NAMENODE_SCHEMA}"
    )]
    Version {
        /// Of its lines.
        version: u32,
        /// Of the database it was made from.
        schema: u32,
    },
    /// It is not as it was written.
    #[error("line {line} of the dump: {reason}")]
    Damaged {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be read.
    #[error("cannot read the dump: {0}")]
    Io(#[from] io::Error),
}

/// What a dump of everything holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSummary {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Which start of the namenode it is from.
    pub epoch: u64,
    /// The first generation that was not handed out.
    pub next_generation: Generation,
    /// Every write before this had ended.
    pub settled_before: Generation,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Deletes that were not confirmed everywhere.
    pub tombstones: u64,
}

impl DumpSummary {
    pub(super) fn of(header: &HeaderLine) -> Self {
        Self {
            cluster_id: header.cluster_id,
            epoch: header.epoch,
            next_generation: Generation(header.next_generation),
            settled_before: header.settled_before,
            files: header.files,
            bytes: header.bytes,
            tombstones: header.tombstones,
        }
    }
}

/// Reads a dump of everything to its end and checks that it is whole.
///
/// # Errors
/// [`DumpError`].
pub fn verify_dump(input: impl BufRead) -> Result<DumpSummary, DumpError> {
    let (mut reader, header) = DumpReader::begin(input)?;
    while reader.next()?.is_some() {}
    Ok(DumpSummary::of(&header))
}

/// What the header of a dump of everything says. Nothing else of it is read.
///
/// # Errors
/// [`DumpError`].
pub fn read_summary(input: impl BufRead) -> Result<DumpSummary, DumpError> {
    let (_, header) = DumpReader::begin(input)?;
    Ok(DumpSummary::of(&header))
}

/// A record of a dump.
pub(super) enum Row {
    Node(NodeRecord, Aside),
    File(ContentHash, FileRecord),
    Tombstone(ContentHash, TombstoneRecord),
    Command(NodeIndex, CommandId, CommandRecord),
    Write(Generation, WriteRecord),
    Recalled(ContentHash, Generation),
}

/// What is known of a node beside its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aside {
    pub removed_ms: Option<u64>,
    pub away_until_ms: Option<u64>,
}

/// Records of one table.
#[derive(Default)]
struct Section {
    rows: u64,
    /// The key of the last row, in an order that is the table's.
    last: Option<Vec<u8>>,
}

pub(super) struct DumpReader<R> {
    input: R,
    line: Vec<u8>,
    lines: u64,
    hasher: blake3::Hasher,
    header: HeaderLine,
    nodes: BTreeMap<NodeId, NodeIndex>,
    /// Tables that have begun.
    begun: usize,
    section: Section,
    ended: bool,
}

impl<R: BufRead> DumpReader<R> {
    /// Reads the header.
    pub fn begin(input: R) -> Result<(Self, HeaderLine), DumpError> {
        let mut input = input;
        let mut line = Vec::new();
        let words = match read_line(&mut input, &mut line)? {
            Some(length) => &line[..length],
            None => return Err(DumpError::NotADump("it has no whole first line".to_owned())),
        };
        // Only these are the same in every version.
        #[derive(Deserialize)]
        struct Preamble {
            format: String,
            version: u32,
            schema: u32,
        }
        let no_dump = |error: serde_json::Error| DumpError::NotADump(error.to_string());
        let preamble: Preamble = serde_json::from_slice(words).map_err(no_dump)?;
        if preamble.format != FORMAT {
            return Err(DumpError::NotADump(
                "its first line says something else".to_owned(),
            ));
        }
        if (preamble.version, preamble.schema) != (FORMAT_VERSION, NAMENODE_SCHEMA) {
            return Err(DumpError::Version {
                version: preamble.version,
                schema: preamble.schema,
            });
        }
        let header: HeaderLine = serde_json::from_slice(words).map_err(no_dump)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&line);
        let reader = Self {
            input,
            line,
            lines: 1,
            hasher,
            header: header.clone(),
            nodes: BTreeMap::new(),
            begun: 0,
            section: Section::default(),
            ended: false,
        };
        Ok((reader, header))
    }

    /// The next record; `None` once the trailer was read and everything agrees with it.
    pub fn next(&mut self) -> Result<Option<Row>, DumpError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let Some(length) = read_line(&mut self.input, &mut self.line)? else {
                return Err(self.damaged("it ends without its trailer"));
            };
            if self.line.starts_with(br#"{"lines":"#) {
                self.end(length)?;
                continue;
            }
            self.hasher.update(&self.line);
            self.lines += 1;
            if self.line.starts_with(br#"{"table":"#) {
                let begins: TableLine = self.parse(length)?;
                let name = begins.table.into_owned();
                self.begin_table(&name)?;
                continue;
            }
            return self.row(length).map(Some);
        }
    }

    fn begin_table(&mut self, name: &str) -> Result<(), DumpError> {
        self.check_count()?;
        match TABLES.get(self.begun) {
            Some(expected) if expected.as_str() == name => {}
            _ => return Err(self.damaged("this is not the table that comes next")),
        }
        self.begun += 1;
        self.section = Section::default();
        Ok(())
    }

    /// Whether the table that ends here has as many records as the header said.
    fn check_count(&self) -> Result<(), DumpError> {
        let Some(table) = self.begun.checked_sub(1).map(|at| TABLES[at]) else {
            return Ok(());
        };
        let header = &self.header;
        let expected = match table {
            Table::Nodes => header.nodes,
            Table::Files => header.files,
            Table::Tombstones => header.tombstones,
            Table::Commands => header.commands,
            // The header counts writes, the table has their allocations.
            Table::Writes | Table::Recalled | Table::Replicas | Table::Meta => return Ok(()),
        };
        if self.section.rows == expected {
            return Ok(());
        }
        Err(self.damaged(format!(
            "{} has {} records, the header says {expected}",
            table.as_str(),
            self.section.rows
        )))
    }

    fn end(&mut self, length: usize) -> Result<(), DumpError> {
        self.check_count()?;
        let trailer: TrailerLine = self.parse(length)?;
        if self.begun != TABLES.len() || trailer.lines != self.lines {
            return Err(self.damaged("lines are missing before the trailer"));
        }
        if trailer.blake3 != self.hasher.finalize().to_hex().as_str() {
            return Err(self.damaged("the checksum does not match the lines before it"));
        }
        let mut one = [0];
        if self.input.read(&mut one)? != 0 {
            return Err(self.damaged("something follows the trailer"));
        }
        self.ended = true;
        Ok(())
    }

    fn row(&mut self, length: usize) -> Result<Row, DumpError> {
        let Some(table) = self.begun.checked_sub(1).map(|at| TABLES[at]) else {
            return Err(self.damaged("a record of no table"));
        };
        let (key, row) = match table {
            Table::Nodes => self.node(length)?,
            Table::Files => self.file(length)?,
            Table::Tombstones => self.tombstone(length)?,
            Table::Commands => self.command(length)?,
            Table::Writes => self.write(length)?,
            Table::Recalled => {
                let line: RecalledLine = self.parse(length)?;
                (key(&line.hash), Row::Recalled(line.hash, line.generation))
            }
            Table::Replicas | Table::Meta => return Err(self.damaged("a record of no table")),
        };
        // Twice the same key would be counted twice.
        if self.section.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(self.damaged("records are not in their order"));
        }
        self.section.last = Some(key);
        self.section.rows += 1;
        Ok(row)
    }

    fn node(&mut self, length: usize) -> Result<(Vec<u8>, Row), DumpError> {
        let line: NodeLine<'_> = self.parse(length)?;
        let aside = Aside {
            removed_ms: line.removed_ms,
            away_until_ms: line.away_until_ms,
        };
        let record = NodeRecord {
            node_id: line.node,
            index: NodeIndex(line.index),
            name: line.name.into_owned(),
            address: line.address.into_owned(),
            rack: line.rack.into_owned(),
            session_epoch: SessionEpoch(line.session_epoch),
            journal_id: line.journal_id,
            next_sequence: Sequence(line.next_sequence),
            admin: line.admin,
            registered_ms: line.registered_ms,
            replicas: line.replicas,
            bytes: line.bytes,
            commands: line.commands,
        };
        if self.nodes.insert(record.node_id, record.index).is_some() {
            return Err(self.damaged("a second node of this id"));
        }
        let key = record.index.0.to_be_bytes().to_vec();
        Ok((key, Row::Node(record, aside)))
    }

    fn file(&self, length: usize) -> Result<(Vec<u8>, Row), DumpError> {
        let line: FileLine = self.parse(length)?;
        let mut replicas = Vec::with_capacity(line.replicas.len());
        for replica in &line.replicas {
            replicas.push(Replica {
                node: self.index(&replica.node)?,
                generation: replica.generation,
            });
        }
        if !replicas.is_sorted_by(|a, b| a.node < b.node) {
            return Err(self.damaged("replicas are not in their order"));
        }
        let record = FileRecord {
            size: line.size,
            blake3_root: line.blake3_root,
            replication: line.replication,
            generation: line.generation,
            created_ms: line.created_ms,
            replicas,
        };
        Ok((key(&line.hash), Row::File(line.hash, record)))
    }

    fn tombstone(&self, length: usize) -> Result<(Vec<u8>, Row), DumpError> {
        let line: TombstoneLine = self.parse(length)?;
        let mut holders = Vec::with_capacity(line.holders.len());
        for holder in &line.holders {
            holders.push(TombstoneHolder {
                node: self.index(&holder.node)?,
                command: CommandId(holder.command),
            });
        }
        let record = TombstoneRecord {
            generation: line.generation,
            deleted_ms: line.deleted_ms,
            holders,
            marker: line.marker,
        };
        Ok((key(&line.hash), Row::Tombstone(line.hash, record)))
    }

    fn command(&self, length: usize) -> Result<(Vec<u8>, Row), DumpError> {
        let line: CommandLine<'_> = self.parse(length)?;
        let hash = line.hash;
        let generation = line.generation.unwrap_or_default();
        let keep = self.indices(line.keep.as_deref().unwrap_or_default())?;
        let action = match &*line.action {
            "delete" => CommandRecordAction::Delete { hash, generation },
            "replicate" => CommandRecordAction::Replicate {
                hash,
                targets: self.indices(line.targets.as_deref().unwrap_or_default())?,
            },
            "trim" => CommandRecordAction::Trim {
                hash,
                generation,
                keep,
            },
            "quarantine" => CommandRecordAction::Quarantine {
                hash,
                generation,
                keep,
            },
            other => return Err(self.damaged(format!("no command is called {other:?}"))),
        };
        let node = self.index(&line.node)?;
        let mut key = node.0.to_be_bytes().to_vec();
        key.extend(line.id.to_be_bytes());
        let record = CommandRecord {
            action,
            attempts: line.attempts,
            not_before_ms: line.not_before_ms,
            issued_ms: line.issued_ms,
        };
        Ok((key, Row::Command(node, CommandId(line.id), record)))
    }

    fn write(&self, length: usize) -> Result<(Vec<u8>, Row), DumpError> {
        let line: WriteLine = self.parse(length)?;
        let mut record = WriteRecord {
            count: line.count,
            open: 0,
            expires_at_ms: line.expires_at_ms,
            parked: Vec::with_capacity(line.parked.len()),
        };
        if record.count > crate::record::MAX_WRITES_PER_ALLOCATION {
            return Err(self.damaged("an allocation of too many writes"));
        }
        for generation in line.open {
            record.open |= record
                .bit(line.generation, generation)
                .ok_or_else(|| self.damaged("a write outside its allocation"))?;
        }
        for parked in &line.parked {
            record.parked.push(ParkedReplica {
                node: self.index(&parked.node)?,
                generation: parked.generation,
                hash: parked.hash,
            });
        }
        let key = line.generation.0.to_be_bytes().to_vec();
        Ok((key, Row::Write(line.generation, record)))
    }

    fn index(&self, node: &NodeId) -> Result<NodeIndex, DumpError> {
        self.nodes
            .get(node)
            .copied()
            .ok_or_else(|| self.damaged(format!("node {node} is not among the nodes")))
    }

    fn indices(&self, nodes: &[NodeField]) -> Result<Vec<NodeIndex>, DumpError> {
        nodes.iter().map(|node| self.index(&node.0)).collect()
    }

    fn parse<'de, T: Deserialize<'de>>(&'de self, length: usize) -> Result<T, DumpError> {
        serde_json::from_slice(&self.line[..length])
            .map_err(|error| self.damaged(error.to_string()))
    }

    pub fn damaged(&self, reason: impl Into<String>) -> DumpError {
        DumpError::Damaged {
            line: self.lines,
            reason: reason.into(),
        }
    }
}

fn key(hash: &ContentHash) -> Vec<u8> {
    hash.as_bytes().to_vec()
}

/// Reads one line into `line`, with its line break, and returns its length without. `None`: the end, or a line that was
/// cut.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Option<usize>, DumpError> {
    line.clear();
    input
        .by_ref()
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', line)?;
    Ok(line.strip_suffix(b"\n").map(<[u8]>::len))
}
