//! [`attachment`]: the `Content-Disposition` of a download. Always an attachment, so that an uploaded page never runs as
//! one of ours; a wished name is reduced to what is safe in a header and on any file system.

use std::fmt::Write;

use http::HeaderValue;
use richardstore_proto::ContentHash;

/// Longest file name that is passed on, in bytes: what common file systems take.
const MAX_NAME_BYTES: usize = 200;

/// `attachment` with the wished name, or the hash where nothing safe is left of it.
pub(crate) fn attachment(hash: &ContentHash, wished: Option<&str>) -> HeaderValue {
    let name = wished.map(safe_name).filter(|name| !name.is_empty());
    let value = match name {
        None => format!("attachment; filename=\"{hash}\""),
        Some(name) if name.is_ascii() => format!("attachment; filename=\"{name}\""),
        Some(name) => format!(
            "attachment; filename=\"{}\"; filename*=UTF-8''{}",
            ascii_stand_in(&name),
            percent_encode(&name)
        ),
    };
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// The last component of `wished` without characters that mean something to a header, a shell prompt or a file system.
pub(crate) fn safe_name(wished: &str) -> String {
    let last = wished.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name = String::with_capacity(last.len());
    for character in last.trim().trim_start_matches('.').chars() {
        if name.len() + character.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        if !is_unsafe(character) {
            name.push(character);
        }
    }
    name.trim().to_owned()
}

/// Characters that steer a terminal, a header or a path; the format characters among them can show `exe.txt` for `txt.exe`.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '"' | '\\' | '/' | '<' | '>' | ':' | '|' | '?' | '*' | ';' | '%'
        )
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn ascii_stand_in(name: &str) -> String {
    name.chars()
        .map(|character| if character.is_ascii() { character } else { '_' })
        .collect()
}

fn percent_encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    fn header(wished: Option<&str>) -> String {
        attachment(&ContentHash::EMPTY, wished)
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn without_a_name_the_hash_is_the_name() {
        let by_hash = format!("attachment; filename=\"{}\"", ContentHash::EMPTY);
        assert_eq!(header(None), by_hash);
        for nothing_safe in ["", "..", "a/", "\"\"", "\r\n", "...//"] {
            assert_eq!(header(Some(nothing_safe)), by_hash, "{nothing_safe:?}");
        }
    }

    #[test]
    fn a_plain_name_is_kept() {
        assert_eq!(
            header(Some("report 2.pdf")),
            "attachment; filename=\"report 2.pdf\""
        );
    }

    #[test]
    fn paths_quotes_and_line_breaks_are_taken_out() {
        assert_eq!(safe_name("../../etc/passwd"), "passwd");
        assert_eq!(safe_name("C:\\temp\\x.txt"), "x.txt");
        assert_eq!(
            safe_name("a\"; evil=\"b\r\nSet-Cookie: c"),
            "a evil=bSet-Cookie c"
        );
        assert_eq!(safe_name(".bashrc"), "bashrc");
        assert_eq!(safe_name("\u{202e}txt.exe"), "txt.exe");
        assert_eq!(safe_name(&"x".repeat(999)).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn other_scripts_travel_encoded_beside_an_ascii_stand_in() {
        assert_eq!(
            header(Some("né.txt")),
            "attachment; filename=\"n_.txt\"; filename*=UTF-8''n%C3%A9.txt"
        );
    }

    proptest! {
        #[test]
        fn every_name_gives_one_header_line_with_one_pair_of_quotes(wished in ".{0,300}") {
            let value = header(Some(&wished));
            assert!(value.starts_with("attachment; filename=\""));
            assert_eq!(value.matches('"').count(), 2);
        }
    }
}
