use super::*;
use crate::index::IndexError;

/// What is done to the files of an index between two runs.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Overwrite,
    Flip,
    Truncate,
    Remove,
}

/// A reproducible sequence of numbers.
struct Numbers {
    seed: u64,
    drawn: u64,
}

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        let digest = blake3::hash(&[self.seed.to_le_bytes(), self.drawn.to_le_bytes()].concat());
        let number = u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap());
        usize::try_from(number % bound.max(1) as u64).unwrap()
    }
}

fn harm(place: &Place, harm: Harm, numbers: &mut Numbers) {
    let files = place.files();
    let path = &files[numbers.below(files.len())];
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Remove => return fs::remove_file(path).unwrap(),
        Harm::Truncate => bytes.truncate(numbers.below(bytes.len())),
        Harm::Flip => {
            // The file is mostly zeros behind its log: aim at what was written.
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
            for _ in 0..1 + numbers.below(8) {
                let at = numbers.below(end.min(bytes.len()));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
        }
        Harm::Overwrite => {
            let start = numbers.below(bytes.len());
            let end = start + numbers.below(bytes.len() - start) + 1;
            let end = end.min(bytes.len());
            blake3::Hasher::new()
                .update(&numbers.below(1 << 30).to_le_bytes())
                .finalize_xof()
                .fill(&mut bytes[start..end]);
        }
    }
    fs::write(path, bytes).unwrap();
}

/// Harms a closed index and opens it: it is as it was, or it is rebuilt, and works either way.
fn survives(kind: Harm, seed: u64) -> bool {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    for number in 1..=300 {
        index.add(&meta(number, number)).unwrap();
    }
    index.trim(Sequence(100)).unwrap();
    let before = holdings(&index);
    let events = index.events(Sequence(100), 1000).unwrap();
    close(&index);
    drop(index);
    harm(&place, kind, &mut Numbers { seed, drawn: 0 });

    let opened = place.open();
    let index = opened.index;
    let rebuilt = opened.rebuild.is_some();
    if rebuilt {
        assert_eq!((index.count(), index.next_sequence()), (0, Sequence(1)));
        for number in 1..=300 {
            index.restore(&meta(number, number)).unwrap();
        }
        index.finish_rebuild();
    } else {
        match index.events(Sequence(100), 1000) {
            Ok(read) => assert_eq!(read, events, "{kind:?} {seed}"),
            Err(error) => {
                // The journal is not read at open. It shows its damage when it is.
                assert!(error.needs_rebuild(), "{kind:?} {seed}: {error}");
                assert!(matches!(index.get(&hash(1)), Err(IndexError::Broken(_))));
                return true;
            }
        }
    }
    assert_eq!(holdings(&index), before, "{kind:?} {seed}");
    index.add(&meta(1_000, 1_000)).unwrap();
    close(&index);
    assert_eq!(place.reopen().count(), 301, "{kind:?} {seed}");
    rebuilt
}

/// `INDEX_NOISE_SEEDS` sets how many seeds each kind of harm is tried with.
fn rebuilds(kind: Harm) -> u64 {
    let seeds = std::env::var("INDEX_NOISE_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    let rebuilt = (0..seeds).filter(|&seed| survives(kind, seed)).count() as u64;
    println!("{kind:?}: {seeds} seeds, {rebuilt} rebuilt, 0 wrong");
    rebuilt
}

#[test]
fn i09_noise_over_the_index_is_found_and_the_index_rebuilt() {
    assert!(rebuilds(Harm::Overwrite) > 0);
}

#[test]
fn i09_flipped_bits_in_the_index_are_found_and_the_index_rebuilt() {
    assert!(rebuilds(Harm::Flip) > 0);
}

#[test]
fn i09_a_truncated_index_is_rebuilt() {
    assert!(rebuilds(Harm::Truncate) > 0);
}

#[test]
fn i09_an_index_with_a_file_missing_is_rebuilt() {
    assert!(rebuilds(Harm::Remove) > 0);
}

#[test]
fn i09_a_record_that_does_not_decode_breaks_the_index_and_nothing_else() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    index.add(&meta(1, 1)).unwrap();
    index.add(&meta(2, 2)).unwrap();
    index.spoil(&hash(1));
    assert!(index.get(&hash(2)).unwrap().is_some());
    let found = index.get(&hash(1)).unwrap_err();
    assert!(
        matches!(&found, IndexError::Damaged { key, .. } if *key == format!("replicas/{}", hash(1))),
        "{found}"
    );
    assert!(found.needs_rebuild() && index.broken().is_some());
    assert!(matches!(index.get(&hash(2)), Err(IndexError::Broken(_))));
    assert!(matches!(index.close(|| Ok(())), Err(IndexError::Broken(_))));
    place.begin(&RebuildReason::NoCleanMark);
}
