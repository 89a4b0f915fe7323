//! Sequential writes, and small files made durable.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use richardstore_proto::Generation;
use richardstore_store::{Store, StoreOptions};
use rustix::fs::OFlags;

use crate::payload::Payload;
use crate::row::Row;

pub(super) const DIRECT: &str = "disk: direct write 1 MiB";
pub(super) const BUFFERED: &str = "disk: buffered write 1 MiB";

const BLOCK_BYTES: usize = 1 << 20;
/// What direct writes have to be aligned to: a page covers every disk in use.
const ALIGNMENT: usize = 4096;
/// No more than this is written for one figure.
const MOST_BYTES: u64 = 4 << 30;
const SMALL_BYTES: usize = 4096;

pub(super) fn publish_name(threads: usize) -> String {
    format!("publish 4 KiB x{threads}")
}

/// Writes past the page cache.
pub(super) fn direct_write(place: &Path, duration: Duration) -> Result<Row> {
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(flags)
        .open(place.join("direct"));
    // tmpfs and a few others have none.
    let file = file.context("direct writes are not to be had here")?;
    write(DIRECT, file, duration)
}

/// Writes through the page cache. The sync at the end counts.
pub(super) fn buffered_write(place: &Path, duration: Duration) -> Result<Row> {
    write(
        BUFFERED,
        File::create_new(place.join("buffered"))?,
        duration,
    )
}

fn write(name: &str, mut file: File, duration: Duration) -> Result<Row> {
    let mut space = vec![7; BLOCK_BYTES + ALIGNMENT];
    let start = space.as_ptr().align_offset(ALIGNMENT);
    let block = &mut space[start..start + BLOCK_BYTES];
    let started = Instant::now();
    let mut written = 0;
    while started.elapsed() < duration && written < MOST_BYTES {
        file.write_all(block)?;
        written += BLOCK_BYTES as u64;
    }
    file.sync_data()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Row::rate(
        name,
        written / BLOCK_BYTES as u64,
        seconds,
        written,
    ))
}

/// Small files by the store's library, as a datanode publishes them, by so many threads.
pub(super) fn publish(place: &Path, threads: usize, duration: Duration) -> Result<Row> {
    let root = place.join(format!("publish-{threads}"));
    let store = Store::open(&root, &StoreOptions::default())?;
    let started = Instant::now();
    let published = std::thread::scope(|scope| -> Result<u64> {
        let running: Vec<_> = (0..threads as u64)
            .map(|salt| {
                let store = store.clone();
                scope.spawn(move || publish_until(&store, salt, started + duration))
            })
            .collect();
        running.into_iter().try_fold(0, |sum, thread| {
            let one = thread.join().ok().context("a thread panicked")??;
            Ok(sum + one)
        })
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = published * SMALL_BYTES as u64;
    Ok(Row::rate(publish_name(threads), published, seconds, bytes))
}

fn publish_until(store: &Store, salt: u64, end: Instant) -> Result<u64> {
    let payload = Payload::new(SMALL_BYTES, salt);
    let mut published = 0;
    while Instant::now() < end {
        let content = payload.chunks(published).concat();
        store.put(&content[..], Generation(1))?;
        published += 1;
    }
    Ok(published)
}
