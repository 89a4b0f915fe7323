//! Random and mutated input for tests: [`fuzz`] runs a property over many cases, with its seed printed, and as many of them as
//! `FUZZ_CASES` says.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::Index;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Counts the panics of this process from now on. One behind a call would only look like a broken connection.
pub fn count_panics() -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let (counter, before) = (count.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        counter.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    count
}

/// Runs `property` over values of `strategy`: `cases` of them, or as many as `FUZZ_CASES` says. A panic in it fails the test, with
/// the smallest value that still makes it panic; `FUZZ_SEED` brings the same values back.
///
/// # Panics
/// When `property` did.
#[allow(clippy::print_stdout, clippy::print_stderr)] // the seed and the figure
pub fn fuzz<S: Strategy>(name: &str, cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let from_environment = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let now = || {
        UNIX_EPOCH
            .elapsed()
            .map_or(1, |since| since.subsec_nanos().into())
    };
    let seed = from_environment("FUZZ_SEED").unwrap_or_else(now);
    let asked = from_environment("FUZZ_CASES").and_then(|cases| u32::try_from(cases).ok());
    let cases = asked.unwrap_or(cases);
    eprintln!("{name}: FUZZ_SEED={seed} FUZZ_CASES={cases}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let ran = TestRunner::new_with_rng(config, random).run(strategy, |value| {
        property(value);
        Ok(())
    });
    match ran {
        Ok(()) => println!("{name}: {cases} cases, panics 0"),
        Err(error) => panic!("{name}: FUZZ_SEED={seed}: {error}"),
    }
}

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

/// `bytes` with a few things wrong with them, or none.
pub fn mutated(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    mutated_of(proptest::strategy::Just(bytes))
}

/// Values of `strategy` with a few things wrong with them, or none.
pub fn mutated_of(strategy: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = proptest::prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        2 => (any::<Index>(), proptest::prop_oneof![any::<u8>(), proptest::sample::select(vec![0, 0x7f, 0x80, 0xff])])
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, more)| Change::Insert(at, more)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ];
    (strategy, vec(change, 0..6)).prop_map(|(bytes, changes)| changes.iter().fold(bytes, apply))
}

fn apply(mut bytes: Vec<u8>, change: &Change) -> Vec<u8> {
    let length = bytes.len();
    match change {
        _ if length == 0 => {}
        Change::Flip(at, bit) => bytes[at.index(length)] ^= bit,
        Change::Set(at, byte) => bytes[at.index(length)] = *byte,
        Change::Cut(at) => bytes.truncate(at.index(length)),
        Change::Insert(at, more) => {
            let at = at.index(length);
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Repeat(from, to) => {
            let (from, to) = (from.index(length), to.index(length));
            let piece: Vec<u8> = bytes[from.min(to)..from.max(to)]
                .iter()
                .take(64)
                .copied()
                .collect();
            bytes.splice(to..to, piece);
        }
    }
    bytes
}

/// Texts where a hash is expected: hashes, what is nearly one, and ways out of a directory.
pub fn hash_like() -> impl Strategy<Value = String> {
    let hash = "[0-9a-f]{64}";
    proptest::prop_oneof![
        2 => hash,
        1 => "[0-9a-fA-F]{60,68}",
        1 => "[0-9a-f]{62}[^0-9a-f]{1,2}",
        1 => "[0-9a-f]{0,64}(/|\\\\|%2f|%2F|%5c|%00|\u{0}|\\.\\.)[0-9a-f./%]{0,64}",
        1 => "((\\.\\.|%2e%2e|\\.|%252e%252e)(/|%2f|%2F|\\\\)){1,12}[a-z/]{0,20}",
        1 => "\\PC{0,80}",
    ]
}

/// The bytes of a message that has the form of one and means nothing in particular: fields of all kinds, ids and hashes of nearly the
/// right length, numbers at their limits, messages in messages.
pub fn message() -> impl Strategy<Value = Vec<u8>> {
    let field = (1..14_u64, leaf());
    let flat = vec(field, 0..8).prop_map(|fields| encode(&fields));
    flat.prop_recursive(3, 24, 6, |inner| {
        let nested = inner.prop_map(Field::Bytes);
        let field = (1..14_u64, proptest::prop_oneof![leaf(), nested]);
        vec(field, 0..6).prop_map(|fields| encode(&fields))
    })
}

#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn leaf() -> impl Strategy<Value = Field> {
    let numbers = vec![
        0,
        1,
        2,
        3,
        7,
        64,
        65,
        4_096,
        1 << 31,
        u64::from(u32::MAX),
        1 << 63,
        u64::MAX,
    ];
    let lengths = vec![0, 1, 15, 16, 17, 31, 32, 33];
    let bytes = proptest::sample::select(lengths).prop_flat_map(|length| vec(any::<u8>(), length));
    proptest::prop_oneof![
        3 => proptest::sample::select(numbers).prop_map(Field::Number),
        1 => any::<u64>().prop_map(Field::Number),
        4 => bytes.prop_map(Field::Bytes),
        1 => hash_like().prop_map(|text| Field::Bytes(text.into_bytes())),
    ]
}

fn encode(fields: &[(u64, Field)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, field) in fields {
        match field {
            Field::Number(value) => {
                varint(&mut bytes, number << 3);
                varint(&mut bytes, *value);
            }
            Field::Bytes(value) => {
                varint(&mut bytes, number << 3 | 2);
                varint(&mut bytes, value.len() as u64);
                bytes.extend_from_slice(value);
            }
        }
    }
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "FUZZ_SEED=")]
    fn a_panic_fails_the_test_and_names_the_seed() {
        fuzz("a property that does not hold", 200, &any::<u8>(), |byte| {
            assert_ne!(byte % 8, 3);
        });
    }

    #[test]
    fn messages_are_ones() {
        let lengths = std::cell::RefCell::new(Vec::new());
        fuzz("messages", 200, &message(), |bytes| {
            lengths.borrow_mut().push(bytes.len())
        });
        let longest = lengths.into_inner().into_iter().max();
        assert!(longest.is_some_and(|length| length > 100));
    }

    #[test]
    fn mutations_change_most_inputs_and_keep_some() {
        let (kept, all) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        fuzz(
            "mutations",
            400,
            &mutated(b"0123456789".to_vec()),
            |bytes| {
                all.set(all.get() + 1);
                kept.set(kept.get() + u32::from(bytes == b"0123456789"));
            },
        );
        assert!(kept.get() > 0 && kept.get() < all.get());
    }
}
