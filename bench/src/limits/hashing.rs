//! The two hashes, on one core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::row::Row;

pub(super) const SHA256: &str = "hash: SHA-256";
pub(super) const BLAKE3: &str = "hash: BLAKE3";

const BLOCK_BYTES: usize = 256 << 10;

pub(super) fn both(duration: Duration) -> [Row; 2] {
    let mut sha256 = Sha256::new();
    let mut blake3 = blake3::Hasher::new();
    let rows = [
        hash(SHA256, duration, |block| sha256.update(block)),
        hash(BLAKE3, duration, |block| {
            blake3.update(block);
        }),
    ];
    black_box((sha256.finalize(), blake3.finalize()));
    rows
}

fn hash(name: &str, duration: Duration, mut update: impl FnMut(&[u8])) -> Row {
    let block = vec![7; BLOCK_BYTES];
    let started = Instant::now();
    let mut blocks = 0;
    while started.elapsed() < duration {
        update(black_box(&block));
        blocks += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    Row::rate(name, blocks, seconds, blocks * BLOCK_BYTES as u64)
}
