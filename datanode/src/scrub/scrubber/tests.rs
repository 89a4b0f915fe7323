use super::*;

use richardstore_proto::Generation;
use richardstore_runtime::ManualClock;

use crate::fixture::start;

const INTERVAL: Duration = Duration::from_secs(1000);
const LIMIT: u64 = 1 << 20;

struct Bench {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    node: Arc<Node>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(1_000_000);
        Self {
            node: start(directory.path(), &clock),
            directory,
            clock,
        }
    }

    /// As after the process was killed: nothing is told, nothing is saved.
    fn restart(self) -> Self {
        let Self {
            directory,
            clock,
            node,
        } = self;
        drop(node);
        Self {
            node: start(directory.path(), &clock),
            directory,
            clock,
        }
    }

    fn put(&self, bytes: &[u8]) -> ContentHash {
        let mut writer = self.node.volume.writer(0).unwrap();
        writer.write(bytes).unwrap();
        let prepared = writer.finish().unwrap();
        let published = self.node.volume.publish(prepared, Generation(1));
        published.unwrap().hash
    }

    /// The path that the default layout gives a replica.
    fn path(&self, hash: &ContentHash) -> std::path::PathBuf {
        let digits = hash.to_hex();
        let replicas = self.directory.path().join("replicas");
        replicas.join(&digits[..2]).join(digits)
    }

    async fn scrubber(&self) -> Scrubber {
        let schedule = Schedule::new(INTERVAL, LIMIT).unwrap();
        Scrubber::open(self.node.clone(), schedule).await
    }

    fn verified_at(&self, hash: &ContentHash) -> Option<u64> {
        let entry = self.node.volume.with_index(|index| index.get(hash));
        entry.unwrap().unwrap().last_verified_ms
    }
}

/// One whole pass, waiting as the loop does.
async fn pass(scrubber: &mut Scrubber) {
    scrubber.position = Position::begin(scrubber.node.environment.clock.now_ms());
    while !scrubber.position.complete {
        let wait = scrubber.advance().await.unwrap();
        tokio::time::sleep(wait).await;
    }
}

#[tokio::test(start_paused = true)]
async fn i05_a_pass_reads_everything_and_never_faster_than_its_rate() {
    let bench = Bench::new();
    let large = bench.put(&vec![7; 5 << 20]);
    let small: Vec<_> = (0..100u8).map(|seed| bench.put(&[seed; 100])).collect();
    let mut scrubber = bench.scrubber().await;
    let begin = Instant::now();
    scrubber.position = Position::begin(5);
    // A stage and a step of a verifier may come before the first wait.
    let burst = 3 << 20;
    while !scrubber.position.complete {
        let wait = scrubber.advance().await.unwrap();
        let elapsed = begin.elapsed().as_secs_f64();
        let allowed = elapsed * 1_048_576.0;
        #[allow(clippy::cast_precision_loss)]
        let charged = (scrubber.charged.saturating_sub(burst)) as f64;
        assert!(charged <= allowed, "{charged} bytes in {elapsed} s");
        tokio::time::sleep(wait).await;
    }
    let work = (5 << 20) + 100 * 100 + 101 * FILE_COST;
    assert_eq!(scrubber.charged, work);
    assert!(begin.elapsed() >= Duration::from_secs(work / LIMIT));
    assert!(begin.elapsed() <= Duration::from_secs(work / LIMIT + 2));
    for hash in small.iter().chain([&large]) {
        assert_eq!(bench.verified_at(hash), Some(1_000_000));
    }
    assert_eq!(bench.node.bad_replicas.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn i05_the_position_survives_a_restart_and_so_does_the_rest_after_a_pass() {
    let bench = Bench::new();
    for seed in 0..20u8 {
        bench.put(&vec![seed; 400_000]);
    }
    let mut scrubber = bench.scrubber().await;
    for _ in 0..4 {
        scrubber.advance().await.unwrap();
    }
    scrubber.save().await;
    let (position, first) = (scrubber.position, scrubber.charged);
    assert!(position.after.is_some() && !position.complete);
    drop(scrubber);

    let bench = bench.restart();
    let mut scrubber = bench.scrubber().await;
    assert_eq!(scrubber.position, position);
    while !scrubber.position.complete {
        scrubber.advance().await.unwrap();
    }
    let whole = 20 * (400_000 + FILE_COST);
    assert!(first + scrubber.charged >= whole);
    // At most the replica that was half read is read again.
    assert!(first + scrubber.charged <= whole + 2 * (400_000 + FILE_COST));
    drop(scrubber);

    let bench = bench.restart();
    let mut scrubber = bench.scrubber().await;
    assert_eq!(scrubber.advance().await.unwrap(), INTERVAL / 2);
    bench.clock.advance_ms(500_000);
    scrubber.advance().await.unwrap();
    assert!(!scrubber.position.complete && scrubber.charged > 0);
}

#[tokio::test(start_paused = true)]
async fn i05_a_pass_that_a_clock_ahead_began_does_not_put_off_the_next_one() {
    let bench = Bench::new();
    bench.put(&[1; 1000]);
    let mut scrubber = bench.scrubber().await;
    pass(&mut scrubber).await;
    scrubber.position.began_ms += 3 * 24 * 3_600_000;
    assert_eq!(scrubber.advance().await.unwrap(), INTERVAL / 2);
    bench.clock.advance_ms(500_000);
    scrubber.advance().await.unwrap();
    assert_eq!(scrubber.position.began_ms, 1_500_000, "the next one began");
}

#[tokio::test(start_paused = true)]
async fn i05_damage_in_every_region_is_found_and_nothing_else() {
    let bench = Bench::new();
    let size = (16 << 20) + 100_000;
    let regions = [
        0,
        65_535,
        65_536,
        1 << 20,
        (16 << 20) - 1,
        16 << 20,
        size - 1,
    ];
    let mut damaged = Vec::new();
    for (seed, at) in (1u8..).zip(regions) {
        let hash = bench.put(&vec![seed; size]);
        let mut bytes = std::fs::read(bench.path(&hash)).unwrap();
        bytes[at] ^= 0x80;
        std::fs::write(bench.path(&hash), bytes).unwrap();
        damaged.push(hash);
    }
    for (seed, length) in [(100u8, 0), (101, 1), (102, 99_999)] {
        let hash = bench.put(&vec![seed; 100_000]);
        std::fs::write(bench.path(&hash), vec![seed; length]).unwrap();
        damaged.push(hash);
    }
    let sound: Vec<_> = (200..210u8).map(|seed| bench.put(&[seed; 9])).collect();
    let mut scrubber = bench.scrubber().await;
    pass(&mut scrubber).await;
    assert_eq!(bench.node.bad_replicas.waiting(), damaged.len());
    for hash in &damaged {
        assert_eq!(bench.verified_at(hash), None);
        assert!(bench.path(hash).exists(), "a finding moves nothing");
    }
    for hash in &sound {
        assert!(bench.verified_at(hash).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn i05_what_the_namenode_was_not_told_is_found_again_after_a_restart() {
    let bench = Bench::new();
    let hash = bench.put(&[1; 1000]);
    std::fs::write(bench.path(&hash), [2; 1000]).unwrap();
    let mut scrubber = bench.scrubber().await;
    pass(&mut scrubber).await;
    assert_eq!(bench.node.bad_replicas.waiting(), 1);
    drop(scrubber);
    let bench = bench.restart();
    let mut scrubber = bench.scrubber().await;
    assert!(!scrubber.position.complete);
    while !scrubber.position.complete {
        scrubber.advance().await.unwrap();
    }
    assert_eq!(bench.node.bad_replicas.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn i05_a_replica_removed_by_hand_is_noticed_and_journaled_as_gone() {
    let bench = Bench::new();
    let hash = bench.put(&[1; 1000]);
    std::fs::remove_file(bench.path(&hash)).unwrap();
    let mut scrubber = bench.scrubber().await;
    pass(&mut scrubber).await;
    assert!(!bench.node.volume.knows(&hash).unwrap());
    assert_eq!(bench.node.bad_replicas.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn i05_a_scrub_steps_back_for_uploads_while_it_has_time_and_not_when_it_is_wanted() {
    let bench = Bench::new();
    let count = 200;
    for number in 0..count {
        bench.put(&[number; 100]);
    }
    let mut scrubber = bench.scrubber().await;
    scrubber.advance().await.unwrap();
    let done = scrubber.position.after;
    assert!(done.is_some() && !scrubber.stage.is_empty());
    bench.node.uploads.note();
    assert_eq!(scrubber.advance().await.unwrap(), RETRY);
    assert_eq!(scrubber.position.after, done);
    // Nine tenths of the time of the pass are over.
    let period_ms = u64::try_from(INTERVAL.as_millis()).unwrap() / 2;
    bench.clock.advance_ms(period_ms / 10 * 9);
    bench.node.uploads.note();
    scrubber.advance().await.unwrap();
    assert!(scrubber.position.after > done);
    scrubber.hurry();
    while !scrubber.position.complete {
        bench.node.uploads.note();
        scrubber.advance().await.unwrap();
    }
}
