//! Placement, repair planning and the codec of files.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use richardstore_namenode::hot_spots::{FileFrame, Placements, Repairs};

const FILES: u64 = 1_000_000;

fn placement(criterion: &mut Criterion) {
    for nodes in [12, 1_000] {
        let mut placements = Placements::among(nodes);
        criterion.bench_function(
            &format!("placement: a chain of 3 among {nodes}"),
            |bencher| {
                bencher.iter(|| placements.place_next());
            },
        );
    }
}

fn repair(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("repair");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(20));
    for nodes in [12, 100] {
        let repairs = Repairs::in_cluster_of(nodes);
        group.bench_function(
            format!("plan a million files in pages, {nodes} nodes"),
            |bencher| {
                bencher.iter(|| repairs.plan_pages(black_box(FILES)));
            },
        );
    }
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    let Ok(file) = FileFrame::new() else {
        return;
    };
    criterion.bench_function("codec: encode a file", |bencher| {
        bencher.iter_batched(|| &file, FileFrame::encode, BatchSize::SmallInput);
    });
    criterion.bench_function("codec: decode a file", |bencher| {
        bencher.iter_batched(|| &file, FileFrame::decode, BatchSize::SmallInput);
    });
}

criterion_group!(benches, placement, repair, codec);
criterion_main!(benches);
