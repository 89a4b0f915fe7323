//! [`RequestId`]: the name by which one request is followed from here to the last datanode.

use http::HeaderValue;
use uuid::Uuid;

/// Longest id that is taken from a caller, in bytes.
const MAX_ID_BYTES: usize = 64;

/// A short text of letters, digits, `.`, `_` and `-`: safe in a header, a log line and a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The caller's id if it is a sane one. Anything else would let a caller write into the logs.
    pub(crate) fn accept(header: Option<&HeaderValue>) -> Option<Self> {
        let text = header?.to_str().ok()?;
        let sane = (1..=MAX_ID_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        sane.then(|| Self(text.to_owned()))
    }

    /// A new id.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As the value of `X-Request-Id`.
    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept() {
        let header = HeaderValue::from_static("trace-1.a_B");
        let id = RequestId::accept(Some(&header)).unwrap();
        assert_eq!(id.as_str(), "trace-1.a_B");
        assert_eq!(id.to_header(), header);
    }

    #[test]
    fn empty_long_and_odd_ids_are_not_taken() {
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for text in ["", "a b", "a\"b", "a\tb", &long] {
            let header = HeaderValue::from_str(text).unwrap();
            assert_eq!(RequestId::accept(Some(&header)), None, "{text:?}");
        }
        assert_eq!(RequestId::accept(None), None);
    }

    #[test]
    fn a_made_id_would_be_accepted() {
        let id = RequestId::random();
        assert_eq!(RequestId::accept(Some(&id.to_header())), Some(id));
    }
}
