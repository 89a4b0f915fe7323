//! Frame of a stored value: `version (1 byte) | payload (bincode, fixed-width integers, little endian) | CRC32C (4 bytes,
//! little endian, over everything before it)`. Any bytes decode to a value or to an error: never to a panic, nor to an
//! allocation that the bytes themselves do not pay for.
//!
//! bincode 1.3.3 is unmaintained, so no other module of the workspace names it. The exit: its fixed-width format is
//! integers and lengths in little endian, nothing more; the golden bytes in the tests below pin it, and another codec
//! comes in under the next version byte while this one keeps reading.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest payload in bytes. Records are a few hundred bytes; this stops a damaged length from being believed.
pub const MAX_PAYLOAD_BYTES: u64 = 16 << 20;

const CHECKSUM_BYTES: usize = 4;
const ENVELOPE_BYTES: usize = 1 + CHECKSUM_BYTES;

/// Why a value could not be framed, or bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too few bytes for version and checksum.
    #[error("a frame has at least {ENVELOPE_BYTES} bytes, this has {0}")]
    Short(usize),
    /// More bytes than the largest frame.
    #[error("a frame of {0} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    Long(usize),
    /// The bytes are not those that were written.
    #[error("checksum {found:08x} of the frame does not match its bytes ({computed:08x})")]
    Checksum {
        /// What the frame says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Whole, but written in another format.
    #[error("frame version {found}, expected {expected}")]
    Version {
        /// The version of the bytes.
        found: u8,
        /// The version asked for.
        expected: u8,
    },
    /// The payload is not a value of the type asked for, or the value does not fit the limit.
    #[error("payload: {0}")]
    Payload(String),
}

/// Frames `value` under `version`.
///
/// # Errors
/// [`FrameError::Payload`] for a value over [`MAX_PAYLOAD_BYTES`] or one that bincode cannot write.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![version];
    codec()
        .serialize_into(&mut bytes, value)
        .map_err(payload_error)?;
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The value that was framed under `version`.
///
/// # Errors
/// Everything that is not exactly one whole frame of `version` holding exactly one `T`.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, FrameError> {
    codec()
        .deserialize(payload(version, bytes)?)
        .map_err(payload_error)
}

/// The version byte of a frame whose checksum holds: for a reader that knows several.
///
/// # Errors
/// Everything that is not one whole frame.
pub fn version(bytes: &[u8]) -> Result<u8, FrameError> {
    checked(bytes).map(|(version, _)| version)
}

fn payload(expected: u8, bytes: &[u8]) -> Result<&[u8], FrameError> {
    let (found, payload) = checked(bytes)?;
    if found != expected {
        return Err(FrameError::Version { found, expected });
    }
    Ok(payload)
}

// The checksum comes first: a flipped version byte is damage, not another version.
fn checked(bytes: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    let (body, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(FrameError::Short(bytes.len()))?;
    let (&version, payload) = body.split_first().ok_or(FrameError::Short(bytes.len()))?;
    if u64::try_from(payload.len()).map_or(true, |length| length > MAX_PAYLOAD_BYTES) {
        return Err(FrameError::Long(bytes.len()));
    }
    let found = u32::from_le_bytes(*checksum);
    let computed = crc32c::crc32c(body);
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    Ok((version, payload))
}

fn codec() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(MAX_PAYLOAD_BYTES)
        .reject_trailing_bytes()
}

fn payload_error(error: bincode::Error) -> FrameError {
    FrameError::Payload(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        number: u64,
        small: u32,
        digest: [u8; 4],
        text: String,
        list: Vec<u16>,
        maybe: Option<u8>,
        choice: Choice,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        Holds(u32),
    }

    fn record() -> Record {
        Record {
            number: 0x0102_0304_0506_0708,
            small: 7,
            digest: [0xaa, 0xbb, 0xcc, 0xdd],
            text: "ab".to_owned(),
            list: vec![1, 2],
            maybe: Some(9),
            choice: Choice::Holds(5),
        }
    }

    const GOLDEN: &[u8] = &[
        3, // version
        8, 7, 6, 5, 4, 3, 2, 1, // number
        7, 0, 0, 0, // small
        0xaa, 0xbb, 0xcc, 0xdd, // digest, no length
        2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', // text
        2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, // list
        1, 9, // maybe
        1, 0, 0, 0, 5, 0, 0, 0, // choice
        126, 144, 233, 41, // checksum
    ];

    #[test]
    fn the_bytes_on_disk_do_not_change() {
        assert_eq!(encode(3, &record()).unwrap(), GOLDEN);
        assert_eq!(decode::<Record>(3, GOLDEN), Ok(record()));
        assert_eq!(version(GOLDEN), Ok(3));
    }

    #[test]
    fn another_version_is_named_and_not_guessed_at() {
        let bytes = encode(2, &1u64).unwrap();
        assert_eq!(
            decode::<u64>(1, &bytes),
            Err(FrameError::Version {
                found: 2,
                expected: 1
            })
        );
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for bit in 0..GOLDEN.len() * 8 {
            let mut bytes = GOLDEN.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode::<Record>(3, &bytes);
            assert!(matches!(decoded, Err(FrameError::Checksum { .. })), "{bit}");
        }
    }

    #[test]
    fn a_cut_or_longer_frame_is_refused() {
        for length in 0..GOLDEN.len() {
            assert!(decode::<Record>(3, &GOLDEN[..length]).is_err(), "{length}");
        }
        let trailing = sealed(1, &[1, 0, 0, 0, 0, 0, 0, 0, 99]);
        assert!(matches!(
            decode::<u64>(1, &trailing),
            Err(FrameError::Payload(_))
        ));
    }

    #[test]
    fn a_length_that_the_bytes_do_not_pay_for_is_refused() {
        let endless = sealed(1, &[0xff; 16]);
        assert!(decode::<Vec<u64>>(1, &endless).is_err());
        assert!(decode::<String>(1, &endless).is_err());
        let million_missing = sealed(1, &1_000_000u64.to_le_bytes());
        assert!(decode::<Vec<[u8; 32]>>(1, &million_missing).is_err());
    }

    #[test]
    fn a_value_over_the_limit_is_not_written_and_not_read() {
        let bytes = vec![0u8; 16 << 20];
        assert!(matches!(encode(1, &bytes), Err(FrameError::Payload(_))));
        let frame = sealed(1, &vec![0u8; (16 << 20) + 1]);
        assert_eq!(decode::<u8>(1, &frame), Err(FrameError::Long(frame.len())));
    }

    /// A frame whose checksum holds around any payload.
    fn sealed(version: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![version];
        bytes.extend_from_slice(payload);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn every_value_survives_its_frame(
            version in any::<u8>(),
            number in any::<u64>(),
            small in any::<u32>(),
            digest in any::<[u8; 4]>(),
            text in ".{0,40}",
            list in prop::collection::vec(any::<u16>(), 0..40),
            maybe in any::<Option<u8>>(),
            choice in any::<Option<u32>>(),
        ) {
            let choice = choice.map_or(Choice::Unit, Choice::Holds);
            let value = Record { number, small, digest, text, list, maybe, choice };
            let bytes = encode(version, &value).unwrap();
            assert_eq!(decode(version, &bytes), Ok(value));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            assert!(decode::<Record>(3, &bytes).is_err());
            // With a checksum that holds, the payload decoder itself meets the noise.
            let _ = decode::<Record>(3, &sealed(3, &bytes));
            let _ = decode::<Vec<String>>(3, &sealed(3, &bytes));
        }
    }
}
