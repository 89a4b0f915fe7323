//! Sequential writes and copies, and small files made durable and copied.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use richardstore_proto::Generation;
use richardstore_store::{Store, StoreOptions};
use rustix::fs::OFlags;

use crate::payload::Payload;
use crate::row::Row;

pub(super) const DIRECT: &str = "disk: direct write 1 MiB";
pub(super) const BUFFERED: &str = "disk: buffered write 1 MiB";
pub(super) const COPY: &str = "disk: direct read and write 1 MiB";

const BLOCK_BYTES: usize = 1 << 20;
/// What direct reads and writes have to be aligned to: a page covers every disk in use.
const ALIGNMENT: usize = 4096;
/// No more than this is written for one figure.
const MOST_BYTES: u64 = 4 << 30;
const SMALL_BYTES: usize = 4096;

pub(super) fn publish_name(threads: usize) -> String {
    format!("publish 4 KiB x{threads}")
}

pub(super) fn copy_name(threads: usize) -> String {
    format!("read and publish 4 KiB x{threads}")
}

/// Writes past the page cache.
pub(super) fn direct_write(place: &Path, duration: Duration) -> Result<Row> {
    let file = open_direct(File::options().write(true).create_new(true), written(place))?;
    write(DIRECT, duration, file, None)
}

/// Writes through the page cache. The sync at the end counts.
pub(super) fn buffered_write(place: &Path, duration: Duration) -> Result<Row> {
    let file = File::create_new(place.join("buffered"))?;
    write(BUFFERED, duration, file, None)
}

/// Reads what [`direct_write`] has written before, and writes it elsewhere, both past the page cache, a block at a time as `dd` does.
pub(super) fn direct_copy(place: &Path, duration: Duration) -> Result<Row> {
    let source = open_direct(File::options().read(true), written(place))?;
    let path = place.join("copied");
    let file = open_direct(File::options().write(true).create_new(true), path)?;
    write(COPY, duration, file, Some(source))
}

fn written(place: &Path) -> PathBuf {
    place.join("direct")
}

fn open_direct(options: &mut OpenOptions, path: PathBuf) -> Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let file = options.custom_flags(flags).open(path);
    // tmpfs and a few others have none.
    file.context("direct reads and writes are not to be had here")
}

/// Writes blocks, which are those of `source` where there is one.
fn write(name: &str, duration: Duration, mut file: File, mut source: Option<File>) -> Result<Row> {
    let mut space = vec![7; BLOCK_BYTES + ALIGNMENT];
    let start = space.as_ptr().align_offset(ALIGNMENT);
    let block = &mut space[start..start + BLOCK_BYTES];
    let started = Instant::now();
    let mut written = 0;
    while started.elapsed() < duration && written < MOST_BYTES {
        if let Some(source) = &mut source {
            // From the beginning again where it has ended.
            match source.read_exact(block) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    source.rewind()?;
                    source.read_exact(block)?;
                }
                read => read?,
            }
        }
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
    by_threads(publish_name(threads), &root, threads, duration, false)
}

/// The same with another one read, verified, before each.
pub(super) fn read_and_publish(place: &Path, threads: usize, duration: Duration) -> Result<Row> {
    let root = place.join(format!("copy-{threads}"));
    by_threads(copy_name(threads), &root, threads, duration, true)
}

fn by_threads(
    name: String,
    root: &Path,
    threads: usize,
    duration: Duration,
    reads: bool,
) -> Result<Row> {
    let store = Store::open(root, &StoreOptions::default())?;
    let started = Instant::now();
    let published = std::thread::scope(|scope| -> Result<u64> {
        let running: Vec<_> = (0..threads as u64)
            .map(|salt| {
                let store = store.clone();
                scope.spawn(move || publish_until(&store, salt, started + duration, reads))
            })
            .collect();
        running.into_iter().try_fold(0, |sum, thread| {
            let one = thread.join().ok().context("a thread panicked")??;
            Ok(sum + one)
        })
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = published * SMALL_BYTES as u64;
    Ok(Row::rate(name, published, seconds, bytes))
}

fn publish_until(store: &Store, salt: u64, end: Instant, reads: bool) -> Result<u64> {
    let payload = Payload::new(SMALL_BYTES, salt);
    let mut published = 0;
    let mut last = None;
    while Instant::now() < end {
        if let Some(hash) = last.filter(|_| reads) {
            let mut reader = store.read(&hash, 0, None)?;
            while reader.next_chunk()?.is_some() {}
        }
        let content = payload.chunks(published).concat();
        last = Some(store.put(&content[..], Generation(1))?.hash);
        published += 1;
    }
    Ok(published)
}
