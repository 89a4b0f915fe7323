//! Namenode schema 1 to 2: a tombstone gets its *marker*, the value of the generation counter when it was made, and the table
//! `delete_markers` lists open tombstones by it. `recalled_deletes` is new and empty.
//!
//! Everything here is frozen: the formats of schema 1 as they were read, those of schema 2 as they were first written.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{StepError, frame};

const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const TOMBSTONES: TableDefinition<'static, &'static [u8; 32], &'static [u8]> =
    TableDefinition::new("tombstones");
const DELETE_MARKERS: TableDefinition<'static, (u64, &'static [u8; 32]), ()> =
    TableDefinition::new("delete_markers");
const RECALLED_DELETES: TableDefinition<'static, &'static [u8; 32], &'static [u8]> =
    TableDefinition::new("recalled_deletes");

/// Frame version of schema 1, of all records.
const FRAME_1: u8 = 1;
/// Frame version of a tombstone of schema 2.
const TOMBSTONE_2: u8 = 2;

/// Tombstones that are rewritten between two looks at the table: bounds the memory, whatever its size.
const PAGE: usize = 4096;

/// `meta` row `counters`, schema 1 and 2.
#[derive(Deserialize)]
struct Counters {
    _epoch: u64,
    next_generation: u64,
    _next_command: u64,
    _next_node: u32,
    _files: u64,
    _bytes: u64,
    _tombstones: u64,
    _commands: u64,
    _writes: u64,
    _under_replicated: u64,
    _foreign_replicas: u64,
}

/// A tombstone of schema 1: generation, when, holders with the number of their command.
#[derive(Serialize, Deserialize)]
struct Tombstone1 {
    generation: u64,
    deleted_ms: u64,
    holders: Vec<(u32, u64)>,
}

/// A tombstone of schema 2.
#[derive(Serialize, Deserialize)]
struct Tombstone2 {
    generation: u64,
    deleted_ms: u64,
    holders: Vec<(u32, u64)>,
    marker: u64,
}

/// Gives every tombstone the counter of now as its marker. It may have been made long before: a marker that is too high only
/// has the delete remembered longer than needed, one that is too low would have it forgotten too early.
pub(crate) fn apply(transaction: &WriteTransaction) -> Result<(), StepError> {
    let marker = {
        let meta = transaction.open_table(META)?;
        let row = meta.get("counters")?.ok_or("meta has no counters")?;
        frame::decode::<Counters>(FRAME_1, row.value())?.next_generation
    };
    transaction.open_table(RECALLED_DELETES)?;
    let mut tombstones = transaction.open_table(TOMBSTONES)?;
    let mut markers = transaction.open_table(DELETE_MARKERS)?;
    let mut after: Option<[u8; 32]> = None;
    loop {
        let page = page(&tombstones, after)?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (hash, old) in &page {
            let new = Tombstone2 {
                generation: old.generation,
                deleted_ms: old.deleted_ms,
                holders: old.holders.clone(),
                marker,
            };
            tombstones.insert(hash, frame::encode(TOMBSTONE_2, &new)?.as_slice())?;
            markers.insert((marker, hash), ())?;
        }
    }
}

fn page(
    tombstones: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    after: Option<[u8; 32]>,
) -> Result<Vec<([u8; 32], Tombstone1)>, StepError> {
    use std::ops::Bound;
    let start = match &after {
        Some(after) => Bound::Excluded(after),
        None => Bound::Unbounded,
    };
    let mut page = Vec::new();
    for row in tombstones
        .range::<&[u8; 32]>((start, Bound::Unbounded))?
        .take(PAGE)
    {
        let (hash, record) = row?;
        let hash = *hash.value();
        let tombstone = frame::decode(FRAME_1, record.value()).map_err(|e| damaged(&hash, &e))?;
        page.push((hash, tombstone));
    }
    Ok(page)
}

/// Left out, a tombstone would let a deleted file come back; carried over, it would stop the namenode later. So neither: the
/// operator decides.
fn damaged(hash: &[u8; 32], error: &frame::FrameError) -> StepError {
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "the tombstone of {hash} is damaged ({error}). Nothing was changed. The build that wrote this database goes on with it; for \
         this one, move the database away and run `richardstore namenode rebuild` with the newest copy of the metadata, or with \
         the datanodes: what they remember of deletes counts"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;
    use redb::{Builder, ReadableDatabase};

    #[derive(Serialize)]
    struct CountersAsWritten(u64, u64, u64, u32, u64, u64, u64, u64, u64, u64, u64);

    /// A tombstone as schema 1 wrote it: generation 1, deleted at 2, node 3 has to confirm command 4.
    const GOLDEN_1: &str = concat!(
        "01",               // version
        "0100000000000000", // generation
        "0200000000000000", // deleted
        "0100000000000000", // holders
        "03000000",
        "0400000000000000",
        "2c47cda8", // checksum
    );

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn i03_a_damaged_tombstone_stops_the_climb_and_the_words_say_which_and_what_to_do() {
        let database = Builder::new()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let counters = CountersAsWritten(5, 77, 1, 1, 0, 0, 0, 0, 0, 0, 0);
            let counters = frame::encode(FRAME_1, &counters).unwrap();
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("counters", counters.as_slice()).unwrap();
            let mut tombstones = transaction.open_table(TOMBSTONES).unwrap();
            let mut damaged = bytes(GOLDEN_1);
            tombstones.insert(&[0; 32], damaged.as_slice()).unwrap();
            damaged[5] ^= 1;
            tombstones.insert(&[0xab; 32], damaged.as_slice()).unwrap();
        }
        let words = apply(&transaction).unwrap_err().to_string();
        assert!(words.contains(&"ab".repeat(32)), "{words}");
        assert!(words.contains("namenode rebuild"), "{words}");
    }

    #[test]
    fn every_tombstone_gets_the_counter_of_now_and_keeps_the_rest() {
        let database = Builder::new()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let golden = bytes(GOLDEN_1);
        // More than two pages.
        let count = 2 * PAGE + 7;
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
            key
        };
        let transaction = database.begin_write().unwrap();
        {
            let counters = CountersAsWritten(5, 77, 1, 1, 0, 0, 0, 0, 0, 0, 0);
            let counters = frame::encode(FRAME_1, &counters).unwrap();
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("counters", counters.as_slice()).unwrap();
            let mut tombstones = transaction.open_table(TOMBSTONES).unwrap();
            for number in 0..count {
                tombstones.insert(&key(number), golden.as_slice()).unwrap();
            }
        }
        apply(&transaction).unwrap();
        transaction.commit().unwrap();
        let view = database.begin_read().unwrap();
        let tombstones = view.open_table(TOMBSTONES).unwrap();
        let markers = view.open_table(DELETE_MARKERS).unwrap();
        for number in 0..count {
            let row = tombstones.get(&key(number)).unwrap().unwrap();
            let new: Tombstone2 = frame::decode(TOMBSTONE_2, row.value()).unwrap();
            assert_eq!((new.generation, new.deleted_ms, new.marker), (1, 2, 77));
            assert_eq!(new.holders, [(3, 4)]);
            assert!(markers.get((77, &key(number))).unwrap().is_some());
        }
    }
}
