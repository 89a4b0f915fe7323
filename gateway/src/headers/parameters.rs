//! [`Parameters`]: a header value of the shape `value; name=token; name="quoted"`, as `Content-Type` and
//! `Content-Disposition` have it. Pure.

/// More parameters than this are not looked at.
const MAX_PARAMETERS: usize = 16;

/// The parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// What comes before the first `;`, in lower case.
    pub(crate) value: String,
    named: Vec<(String, String)>,
}

impl Parameters {
    /// Takes a header value apart. Parameters that cannot be read end the list: what came before them holds.
    pub(crate) fn parse(header: &str) -> Self {
        let (value, mut rest) = header.split_once(';').unwrap_or((header, ""));
        let mut named = Vec::new();
        while named.len() < MAX_PARAMETERS {
            let Some((name, after)) = rest.split_once('=') else {
                break;
            };
            let Some((parameter, after)) = parameter_value(after.trim_start()) else {
                break;
            };
            named.push((name.trim().to_ascii_lowercase(), parameter));
            rest = after.trim_start().strip_prefix(';').unwrap_or("");
        }
        Self {
            value: value.trim().to_ascii_lowercase(),
            named,
        }
    }

    /// The first parameter of that (lower-case) name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.named
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The value at the start of `text` and what follows it; `None` for a quote that never closes.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match characters.next() {
                // Only quotes and backslashes are ever escaped; old browsers send bare backslashes in paths.
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, other)) => {
                    value.push('\\');
                    value.push(other);
                }
                None => return None,
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    #[test]
    fn tokens_and_quoted_values_are_read() {
        let parsed =
            Parameters::parse("Form-Data; name=\"file\"; FileName=\"a; \\\"b\\\".txt\"; x=1");
        assert_eq!(parsed.value, "form-data");
        assert_eq!(parsed.get("name"), Some("file"));
        assert_eq!(parsed.get("filename"), Some("a; \"b\".txt"));
        assert_eq!(parsed.get("x"), Some("1"));
        assert_eq!(parsed.get("y"), None);
    }

    #[test]
    fn a_windows_path_keeps_its_backslashes() {
        let parsed = Parameters::parse("form-data; filename=\"C:\\temp\\x\"");
        assert_eq!(parsed.get("filename"), Some("C:\\temp\\x"));
    }

    #[test]
    fn a_quote_that_never_closes_ends_the_list() {
        let parsed = Parameters::parse("a; b=1; c=\"open");
        assert_eq!((parsed.get("b"), parsed.get("c")), (Some("1"), None));
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(header in ".{0,120}") {
            let _ = Parameters::parse(&header);
        }
    }
}
