//! Durable commits of redb as the namenode makes them, without the namenode.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use redb::{Database, TableDefinition};

use crate::row::Row;

pub(super) const COMMIT: &str = "redb: commit of 1";
pub(super) const INSERT: &str = "redb: insert, commits of 1000";

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");
const VALUE: [u8; 100] = [7; 100];

pub(super) fn commits(place: &Path, duration: Duration) -> Result<[Row; 2]> {
    let database = Database::create(place.join("bench.redb"))?;
    Ok([
        run(COMMIT, &database, 1, duration)?,
        run(INSERT, &database, 1000, duration)?,
    ])
}

fn run(name: &str, database: &Database, batch: u64, duration: Duration) -> Result<Row> {
    let started = Instant::now();
    let mut records = 0u64;
    while started.elapsed() < duration {
        let mut write = database.begin_write()?;
        write.set_quick_repair(true);
        {
            let mut table = write.open_table(TABLE)?;
            for number in records..records + batch {
                // As hashes come: in no order.
                let key = blake3::hash(&number.to_be_bytes());
                table.insert(&key.as_bytes()[..], &VALUE[..])?;
            }
        }
        write.commit()?;
        records += batch;
    }
    Ok(Row::rate(name, records, started.elapsed().as_secs_f64(), 0))
}
