//! [`PartHead`]: what the headers of one part of a form say. Pure.

use crate::headers::{Parameters, safe_name};

/// Name and file name of a part. Neither is trusted: the file name is reduced to a safe one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// The form field.
    pub(crate) name: Option<String>,
    /// How the sender called the file.
    pub(crate) file_name: Option<String>,
}

impl PartHead {
    /// Reads header lines. `None` where they are no text or a line has no colon.
    pub(crate) fn parse(lines: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(lines).ok()?;
        let mut head = Self::default();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                let disposition = Parameters::parse(value);
                head.name = disposition.get("name").map(str::to_owned);
                head.file_name = disposition
                    .get("filename")
                    .map(safe_name)
                    .filter(|name| !name.is_empty());
            }
        }
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disposition_names_field_and_file() {
        let head = PartHead::parse(
            b"\r\nContent-Type: text/html\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../a b.txt\"",
        );
        assert_eq!(
            head,
            Some(PartHead {
                name: Some("file".into()),
                file_name: Some("a b.txt".into()),
            })
        );
    }

    #[test]
    fn lines_that_are_no_headers_are_refused() {
        assert_eq!(PartHead::parse(b"\r\nno colon"), None);
        assert_eq!(PartHead::parse(b"\r\nx: \xff"), None);
        assert_eq!(PartHead::parse(b""), Some(PartHead::default()));
    }
}
