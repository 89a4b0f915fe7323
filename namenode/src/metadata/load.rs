//! [`load`]: a dump of everything becomes a database. It gets its name when the whole dump was read, checked and written; a
//! dump that is cut or changed leaves nothing.
//!
//! What is loaded may be older than the datanodes, and nobody can tell from it. So the first start on it opens a recovery:
//! see `recovery`.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::batch::Batch;
use super::codec;
use super::dump_lines::HeaderLine;
use super::dump_reader::{Aside, DumpError, DumpReader, DumpSummary, Row};
use super::ledger::LedgerFailure;
use super::new_database::NewDatabase;
use super::open::OpenError;
use super::tables::{META_LOADED, ViewError};
use crate::mutation::MutationError;
use crate::record::{NodeRecord, RemovedNode};

/// Records in one transaction.
const ROWS_A_TRANSACTION: usize = 20_000;

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The dump is not whole.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// There is something in the directory already.
    #[error("{path} is there already: metadata is loaded into an empty directory only")]
    NotEmpty {
        /// What is in the way.
        path: PathBuf,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new database failed.
    #[error("the new database failed: {0}")]
    Database(String),
}

impl From<LedgerFailure> for LoadError {
    fn from(failure: LedgerFailure) -> Self {
        Self::Database(failure.0)
    }
}

impl From<ViewError> for LoadError {
    fn from(error: ViewError) -> Self {
        Self::Database(error.to_string())
    }
}

/// Makes the database of `dir` from a dump of everything. Files that come back from reports after the first start get
/// `replication` as their target.
///
/// # Errors
/// [`LoadError`]; there is no database then.
pub fn load(dir: &Path, input: impl BufRead, replication: u32) -> Result<DumpSummary, LoadError> {
    let (database, summary) = load_unnamed(dir, input, replication)?;
    database.finish()?;
    Ok(summary)
}

/// As [`load`], without giving the database its name yet.
pub(super) fn load_unnamed(
    dir: &Path,
    input: impl BufRead,
    replication: u32,
) -> Result<(NewDatabase, DumpSummary), LoadError> {
    let (mut reader, header) = DumpReader::begin(input)?;
    let database = NewDatabase::begin(dir, header.cluster_id)?;
    let mut nodes = Vec::new();
    loop {
        let mut rows = Vec::with_capacity(ROWS_A_TRANSACTION);
        while rows.len() < ROWS_A_TRANSACTION
            && let Some(row) = reader.next()?
        {
            if let Row::Node(node, _) = &row {
                nodes.push(node.clone());
            }
            rows.push(row);
        }
        if rows.is_empty() {
            break;
        }
        database
            .ledger
            .write(|batch| rows.into_iter().try_for_each(|row| insert(batch, row)))?;
    }
    database
        .ledger
        .write(|batch| set_counters(batch, &header, replication))?;
    check(&database, &header, &nodes).map_err(|reason| reader.damaged(reason))?;
    Ok((database, DumpSummary::of(&header)))
}

fn insert(batch: &mut Batch<'_>, row: Row) -> Result<(), MutationError> {
    match row {
        Row::Node(node, aside) => insert_node(batch, node, aside)?,
        Row::File(hash, record) => batch.replace_file(&hash, None, Some(&record))?,
        Row::Tombstone(hash, record) => batch.replace_tombstone(&hash, None, Some(&record))?,
        Row::Command(node, id, record) => batch.insert_command(node, id, &record)?,
        Row::Write(first, record) => batch.replace_write(first, None, &record)?,
        Row::Recalled(hash, generation) => {
            batch.touch();
            let frame = codec::encode("recalled delete", &generation)?;
            batch
                .tables
                .recalled_deletes
                .insert(hash.as_bytes(), frame.as_slice())?;
        }
    }
    Ok(())
}

fn insert_node(batch: &mut Batch<'_>, node: NodeRecord, aside: Aside) -> Result<(), MutationError> {
    let index = node.index.0;
    batch.add_node(NodeRecord {
        // Counted along with what it holds.
        replicas: 0,
        bytes: 0,
        commands: 0,
        ..node
    })?;
    if let Some(removed_ms) = aside.removed_ms {
        let frame = codec::encode("removed node", &RemovedNode { removed_ms })?;
        let removed = &mut batch.tables.removed_nodes;
        removed.insert(index, frame.as_slice())?;
    }
    if let Some(away_until_ms) = aside.away_until_ms {
        let frame = codec::encode("maintenance", &away_until_ms)?;
        let away = &mut batch.tables.maintenance;
        away.insert(index, frame.as_slice())?;
    }
    Ok(())
}

fn set_counters(
    batch: &mut Batch<'_>,
    header: &HeaderLine,
    replication: u32,
) -> Result<(), MutationError> {
    batch.touch();
    batch.counters.epoch = header.epoch;
    batch.counters.next_generation = header.next_generation;
    batch.counters.next_command = header.next_command;
    batch.counters.next_node = header.next_node;
    batch.counters.foreign_replicas = header.foreign_replicas;
    if let Some(recovery) = &header.recovery {
        recovery.write(&mut batch.tables.meta)?;
    }
    let frame = codec::encode("meta loaded", &replication)?;
    batch.tables.meta.insert(META_LOADED, frame.as_slice())?;
    Ok(())
}

/// What was derived while loading has to be what the dump says: then dumping it again gives the same bytes.
fn check(database: &NewDatabase, header: &HeaderLine, nodes: &[NodeRecord]) -> Result<(), String> {
    let view = database.ledger.view().map_err(|error| error.to_string())?;
    let loaded = view.header().map_err(|error| error.to_string())?;
    if loaded != *header {
        return Err(format!(
            "its header and its records disagree: {header:?}, {loaded:?}"
        ));
    }
    let counted = view.nodes_on_record().map_err(|error| error.to_string())?;
    match counted
        .iter()
        .zip(nodes)
        .find(|(loaded, dumped)| loaded != dumped)
    {
        Some((loaded, dumped)) => Err(format!(
            "a node and its records disagree: {dumped:?}, {loaded:?}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
