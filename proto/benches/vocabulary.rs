//! Parsing of hashes, and the digests that both sides of a block report keep.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use richardstore_proto::{ContentHash, Generation, RangeDigests};

fn hash(number: u64) -> ContentHash {
    ContentHash::new(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

fn hashes(criterion: &mut Criterion) {
    let hash = hash(1);
    let text = hash.to_hex();
    criterion.bench_function("hash: parse", |bencher| {
        bencher.iter(|| black_box(text.as_str()).parse::<ContentHash>());
    });
    criterion.bench_function("hash: print", |bencher| {
        bencher.iter(|| black_box(hash).to_hex());
    });
}

fn digests(criterion: &mut Criterion) {
    let mut digests = RangeDigests::default();
    criterion.bench_function("range digests: add and remove a replica", |bencher| {
        bencher.iter(|| {
            let (hash, generation) = (black_box(hash(1)), Generation(7));
            digests.add(&hash, generation);
            digests.remove(&hash, generation);
        });
    });
    for number in 0..100_000 {
        digests.add(&hash(number), Generation(number));
    }
    criterion.bench_function("range digests: root of 256 ranges", |bencher| {
        bencher.iter(|| black_box(&digests).root());
    });
    let mut others = digests.clone();
    others.add(&hash(100_000), Generation(1));
    criterion.bench_function("range digests: which ranges differ", |bencher| {
        bencher.iter(|| black_box(&digests).differing(black_box(&others)));
    });
}

criterion_group!(benches, hashes, digests);
criterion_main!(benches);
