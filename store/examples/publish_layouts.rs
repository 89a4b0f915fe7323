//! Measures what the choice of a layout costs: making its directories, and publishing small files from many threads.
//!
//! `cargo run -p richardstore-store --example publish_layouts [DIRECTORY]` works in a new directory under DIRECTORY (default:
//! the current one), which must be on the disk in question, and removes it at the end.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use richardstore_proto::Generation;
use richardstore_store::{Depth, Layout, Store, StoreOptions};

const THREADS: u64 = 64;
const FILES_PER_THREAD: u64 = 60;
const FILE_BYTES: usize = 4096;
/// The layouts are taken in turns, since the speed of a disk drifts.
const ROUNDS: usize = 3;

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(parent)?;
    println!("layout                         round  format ms  publishes/s");
    for round in 1..=ROUNDS {
        for (block_size, depth) in [
            (2, Depth::Levels(1)),
            (3, Depth::Levels(1)),
            (2, Depth::Levels(2)),
            (5, Depth::Full),
        ] {
            let layout = Layout::new(block_size, depth)?;
            let root = directory
                .path()
                .join(format!("{round}-{block_size}-{}", layout.levels()));
            let (formatting, publishing) = measure(&root, layout)?;
            let files = u32::try_from(THREADS * FILES_PER_THREAD)?;
            println!(
                "{:<30} {round:>5} {:>10} {:>12.0}",
                layout.to_string(),
                formatting.as_millis(),
                f64::from(files) / publishing.as_secs_f64(),
            );
        }
    }
    Ok(())
}

fn measure(root: &Path, layout: Layout) -> Result<(Duration, Duration), Box<dyn Error>> {
    let options = StoreOptions {
        layout: Some(layout),
        ..StoreOptions::default()
    };
    let begin = Instant::now();
    let store = Store::open(root, &options)?;
    let formatting = begin.elapsed();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || publish_files(store, thread))
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    })?;
    Ok((formatting, begin.elapsed()))
}

fn publish_files(store: &Store, thread: u64) -> Result<(), String> {
    let mut bytes = vec![0u8; FILE_BYTES];
    for file in 0..FILES_PER_THREAD {
        let number = thread * FILES_PER_THREAD + file;
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        store
            .put(bytes.as_slice(), Generation(number + 1))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
