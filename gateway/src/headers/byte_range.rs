//! [`RangeAnswer`]: what a `Range` header means for a file of a given size. Pure; no header makes it panic.

/// Bytes `first` to `last` of a file, both included; `first <= last < size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// Offset of the first byte.
    pub(crate) first: u64,
    /// Offset of the last byte.
    pub(crate) last: u64,
}

impl ByteRange {
    /// Bytes in it, at least 1.
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }

    /// The value of `Content-Range` for a file of `size` bytes.
    pub(crate) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.last)
    }
}

/// How to answer a request for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeAnswer {
    /// 200 with everything: no range, several, or a unit that is not known here.
    Whole,
    /// 206 with this part.
    Part(ByteRange),
    /// 416: the file has no such bytes, or the range is no range.
    Unsatisfiable,
}

impl RangeAnswer {
    /// Decides on the value of a `Range` header. RFC 9110 lets a server answer several ranges with the whole, which is
    /// what happens here: a hundred overlapping ranges then cost no more than one download.
    pub(crate) fn decide(header: &str, size: u64) -> Self {
        let Some((unit, ranges)) = header.split_once('=') else {
            return Self::Whole;
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
            return Self::Whole;
        }
        let Some((first, last)) = ranges.trim().split_once('-') else {
            return Self::Unsatisfiable;
        };
        match (position(first), position(last)) {
            (Position::Absent, Position::At(length)) => suffix(length, size),
            (Position::At(first), Position::Absent) => part(first, u64::MAX, size),
            (Position::At(first), Position::At(last)) => part(first, last, size),
            _ => Self::Unsatisfiable,
        }
    }
}

enum Position {
    Absent,
    At(u64),
    Invalid,
}

/// A number past what 64 bits hold is past the end of every file, so it saturates.
fn position(digits: &str) -> Position {
    if digits.is_empty() {
        return Position::Absent;
    }
    let mut value = 0u64;
    for digit in digits.bytes() {
        if !digit.is_ascii_digit() {
            return Position::Invalid;
        }
        value = value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
    }
    Position::At(value)
}

fn suffix(length: u64, size: u64) -> RangeAnswer {
    if length == 0 {
        return RangeAnswer::Unsatisfiable;
    }
    if size == 0 {
        // The last bytes of an empty file are all of it, and `Content-Range` has no way to say so.
        return RangeAnswer::Whole;
    }
    RangeAnswer::Part(ByteRange {
        first: size.saturating_sub(length),
        last: size - 1,
    })
}

fn part(first: u64, last: u64, size: u64) -> RangeAnswer {
    if last < first || first >= size {
        return RangeAnswer::Unsatisfiable;
    }
    RangeAnswer::Part(ByteRange {
        first,
        last: last.min(size - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn bytes(first: u64, last: u64) -> RangeAnswer {
        RangeAnswer::Part(ByteRange { first, last })
    }

    #[test]
    fn closed_open_and_suffix_ranges_are_parts() {
        assert_eq!(RangeAnswer::decide("bytes=0-0", 10), bytes(0, 0));
        assert_eq!(RangeAnswer::decide("bytes=2-5", 10), bytes(2, 5));
        assert_eq!(RangeAnswer::decide("bytes=2-99", 10), bytes(2, 9));
        assert_eq!(RangeAnswer::decide("bytes=9-", 10), bytes(9, 9));
        assert_eq!(RangeAnswer::decide("bytes=-3", 10), bytes(7, 9));
        assert_eq!(RangeAnswer::decide("bytes=-99", 10), bytes(0, 9));
        assert_eq!(RangeAnswer::decide("Bytes= 1-2 ", 10), bytes(1, 2));
    }

    #[test]
    fn what_the_file_does_not_have_is_unsatisfiable() {
        for header in [
            "bytes=10-",
            "bytes=10-11",
            "bytes=-0",
            "bytes=5-2",
            "bytes=-",
            "bytes=",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(
                RangeAnswer::decide(header, 10),
                RangeAnswer::Unsatisfiable,
                "{header}"
            );
        }
    }

    #[test]
    fn several_ranges_and_other_units_get_the_whole() {
        for header in ["bytes=0-1,3-4", "bytes=9-0,,,", "lines=1-2", "nonsense", ""] {
            assert_eq!(
                RangeAnswer::decide(header, 10),
                RangeAnswer::Whole,
                "{header}"
            );
        }
    }

    #[test]
    fn an_empty_file_has_no_part() {
        assert_eq!(
            RangeAnswer::decide("bytes=0-", 0),
            RangeAnswer::Unsatisfiable
        );
        assert_eq!(RangeAnswer::decide("bytes=-5", 0), RangeAnswer::Whole);
    }

    #[test]
    fn numbers_past_64_bits_saturate() {
        assert_eq!(
            RangeAnswer::decide("bytes=3-99999999999999999999999", 10),
            bytes(3, 9)
        );
        assert_eq!(
            RangeAnswer::decide("bytes=-99999999999999999999999", 10),
            bytes(0, 9)
        );
    }

    proptest! {
        #[test]
        fn a_part_always_lies_within_the_file(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in any::<u64>()) {
            if let RangeAnswer::Part(range) = RangeAnswer::decide(&header, size) {
                assert!(range.first <= range.last && range.last < size);
                assert!(range.length() <= size);
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in ".{0,60}", size in any::<u64>()) {
            let _ = RangeAnswer::decide(&header, size);
        }
    }
}
