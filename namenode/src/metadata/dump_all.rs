//! The dump of everything: a header, every table that is not derived from another, and a trailer with a checksum over all
//! lines before it. The same metadata gives the same bytes, whether it is dumped by a running namenode or from its file.

use std::ops::ControlFlow;
use std::str::FromStr;

use redb::ReadableTable;
use richardstore_proto::{ClusterId, Generation};

use super::codec;
use super::dump::{Table, UnknownTable, Visit, emit};
use super::dump_lines::{HeaderLine, TableLine, TrailerLine};
use super::dump_reader::DumpSummary;
use super::recovery::Recovery;
use super::tables::{META, META_CLUSTER, META_SCHEMA, ViewError};
use super::view::{View, guarded};

/// What a dump of everything begins with.
pub(super) const FORMAT: &str = "richardstore metadata";
/// Changes with the form of the lines.
pub(super) const FORMAT_VERSION: u32 = 1;

/// The tables of a dump of everything, in its order: nodes first, since the others name them. `replicas` and the indices are
/// left out: they say again what `files`, `tombstones` and `commands` say. `meta` is the header.
pub(super) const TABLES: [Table; 6] = [
    Table::Nodes,
    Table::Files,
    Table::Tombstones,
    Table::Commands,
    Table::Writes,
    Table::Recalled,
];

/// What a dump is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpOf {
    /// One table.
    Table(Table),
    /// Everything, in the form that can be loaded.
    All,
}

impl FromStr for DumpOf {
    type Err = UnknownTable;

    fn from_str(name: &str) -> Result<Self, UnknownTable> {
        match name {
            "all" => Ok(Self::All),
            table => table.parse().map(Self::Table),
        }
    }
}

impl View {
    /// Hands the lines of one table or of everything to `visit`, without line breaks.
    ///
    /// # Errors
    /// As [`View::dump`] and [`View::dump_all`].
    pub fn dump_of(&self, what: DumpOf, visit: Visit<'_>) -> Result<(), ViewError> {
        match what {
            DumpOf::Table(table) => self.dump(table, visit),
            DumpOf::All => self.dump_all(visit),
        }
    }

    /// Hands everything there is to `visit`, line by line, without line breaks.
    ///
    /// # Errors
    /// [`ViewError`] at the first record that cannot be read. What was handed out has no trailer then, and is no dump.
    pub fn dump_all(&self, visit: Visit<'_>) -> Result<(), ViewError> {
        let mut lines = 0u64;
        let mut hasher = blake3::Hasher::new();
        let mut counted = |line: &str| {
            lines += 1;
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
            visit(line)
        };
        if emit(&self.header()?, &mut counted)?.is_break() {
            return Ok(());
        }
        for table in TABLES {
            let name = table.as_str().into();
            if emit(&TableLine { table: name }, &mut counted)?.is_break() {
                return Ok(());
            }
            let mut flow = ControlFlow::Continue(());
            self.dump(table, &mut |line| {
                flow = counted(line);
                flow
            })?;
            if flow.is_break() {
                return Ok(());
            }
        }
        let blake3 = hasher.finalize().to_hex().to_string().into();
        let _ = emit(&TrailerLine { lines, blake3 }, visit)?;
        Ok(())
    }

    /// What there is, in a few numbers.
    ///
    /// # Errors
    /// As all methods of this type.
    pub fn summary(&self) -> Result<DumpSummary, ViewError> {
        Ok(DumpSummary::of(&self.header()?))
    }

    pub(super) fn header(&self) -> Result<HeaderLine, ViewError> {
        let counters = self.counters()?;
        let nodes = u64::try_from(self.nodes_on_record()?.len()).unwrap_or(u64::MAX);
        let settled_before = self.settled_before()?;
        guarded(|| {
            let meta = self.table(META)?;
            let row = |key: &str| {
                meta.get(key)?
                    .ok_or_else(|| ViewError::Corrupt(format!("meta has no {key}")))
            };
            let schema: u32 = codec::decode("meta schema", row(META_SCHEMA)?.value())?;
            let cluster_id: ClusterId =
                codec::decode("meta cluster_id", row(META_CLUSTER)?.value())?;
            Ok(HeaderLine {
                format: FORMAT.to_owned(),
                version: FORMAT_VERSION,
                schema,
                cluster_id,
                epoch: counters.epoch,
                next_generation: counters.next_generation,
                next_command: counters.next_command,
                next_node: counters.next_node,
                settled_before,
                nodes,
                files: counters.files,
                bytes: counters.bytes,
                tombstones: counters.tombstones,
                commands: counters.commands,
                writes: counters.writes,
                under_replicated: counters.under_replicated,
                foreign_replicas: counters.foreign_replicas,
                recovery: Recovery::read(&meta)?,
            })
        })
    }

    /// Every write with an older generation has ended, so what it left is known here.
    ///
    /// # Errors
    /// As all methods of this type.
    pub fn settled_before(&self) -> Result<Generation, ViewError> {
        let counters = self.counters()?;
        guarded(|| {
            let writes = self.table(super::tables::WRITES)?;
            let Some((first, frame)) = writes.first()? else {
                return Ok(Generation(counters.next_generation));
            };
            let first = Generation(first.value());
            let record = codec::decode_write(first, frame.value())?;
            Ok(Generation(
                first
                    .0
                    .saturating_add(u64::from(record.open.trailing_zeros())),
            ))
        })
    }
}
