//! A file's names: [`ContentHash`] (SHA-256, the public name) and [`Blake3Root`] (the root its bytes are verified by).
//!
//! Both parse strictly: 64 lower-case hex digits, nothing else. A hash that parsed can be used in a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseHashError {
    /// The text has another length than 64 bytes.
    #[error("a hash has 64 hex digits, this has {0} characters")]
    Length(usize),
    /// A character is no lower-case hex digit.
    #[error("a hash has only the digits 0-9 and a-f; character {0} is something else")]
    Digit(usize),
}

/// The SHA-256 of a file's bytes, which is the file's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentHash([u8; 32]);

/// The BLAKE3 root of a file's bytes, from which every 64 KiB group of it can be verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blake3Root([u8; 32]);

impl ContentHash {
    /// The SHA-256 of no bytes at all: an empty file is a file.
    pub const EMPTY: ContentHash = ContentHash([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// The smallest hash, where a listing starts.
    pub const MIN: ContentHash = ContentHash([0; 32]);
    /// The largest hash, where a listing ends.
    pub const MAX: ContentHash = ContentHash([0xff; 32]);
}

macro_rules! hex_digest {
    ($name:ident) => {
        impl $name {
            /// Takes 32 raw bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// 64 lower-case hex digits.
            pub fn to_hex(&self) -> String {
                self.to_string()
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0u8; 64];
                for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = DIGITS[usize::from(byte >> 4)];
                    pair[1] = DIGITS[usize::from(byte & 15)];
                }
                f.pad(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseHashError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseHashError> {
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| ParseHashError::Length(bytes.len() * 2))
            }
        }
    };
}

hex_digest!(ContentHash);
hex_digest!(Blake3Root);

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn parse(text: &str) -> Result<[u8; 32], ParseHashError> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return Err(ParseHashError::Length(text.len()));
    }
    let mut bytes = [0u8; 32];
    for (at, (byte, pair)) in bytes.iter_mut().zip(text.chunks_exact(2)).enumerate() {
        let high = digit(pair[0]).ok_or(ParseHashError::Digit(at * 2))?;
        let low = digit(pair[1]).ok_or(ParseHashError::Digit(at * 2 + 1))?;
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    const NAME: &str = "c0c61d6932fc8436ec0a8536ed0f191a0ef8b5e7eec9ac3c2657a7ce319388dc";

    #[test]
    fn a_hash_prints_as_it_was_parsed() {
        let hash: ContentHash = NAME.parse().unwrap();
        assert_eq!(hash.to_string(), NAME);
        assert_eq!(ContentHash::EMPTY.to_string().len(), 64);
    }

    #[test]
    fn only_64_lower_case_hex_digits_are_a_hash() {
        let upper = NAME.to_uppercase();
        let nul = format!("{}\0", &NAME[..63]);
        let wide = format!("{}\u{e9}", &NAME[..62]);
        let prefixed = format!("0x{}", &NAME[2..]);
        for bad in [
            "",
            "../x",
            &NAME[..63],
            &upper,
            &nul,
            &wide,
            &prefixed,
            &format!("{NAME}0"),
            &format!(" {}", &NAME[1..]),
        ] {
            assert!(bad.parse::<ContentHash>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_hash_survives_its_text(bytes in any::<[u8; 32]>()) {
            let hash = ContentHash::new(bytes);
            assert_eq!(hash.to_string().parse(), Ok(hash));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = text.parse::<ContentHash>();
        }
    }
}
