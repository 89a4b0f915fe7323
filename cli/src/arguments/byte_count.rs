//! Byte counts on the command line: `1048576`, `64MiB`, `2G`.

const UNITS: [(&str, u32); 4] = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];

/// Parses a byte count. Units are powers of 1024 and need no `iB`.
pub fn parse_byte_count(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let stem = lower.trim_end_matches("ib").trim_end_matches('b');
    let (digits, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((stem.strip_suffix(unit)?, *shift)))
        .unwrap_or((stem, 0));
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| "expected a number of bytes, such as 1048576 or 64MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "more bytes than there can be".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64MiB", 64 << 20),
            ("2G", 2 << 30),
            ("3 kb", 3 << 10),
        ] {
            assert_eq!(parse_byte_count(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "MiB", "1.5G", "99999999T"] {
            assert!(parse_byte_count(text).is_err(), "{text}");
        }
    }
}
