//! [`EntityTag`]: a file's strong validator, which is its hash, and what conditional headers say about it. Pure.

use std::fmt;

use richardstore_proto::ContentHash;

/// `"<hash>"`. Strong: the hash names exactly these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntityTag(ContentHash);

impl EntityTag {
    /// The tag of the file `hash`.
    pub(crate) fn of(hash: ContentHash) -> Self {
        Self(hash)
    }

    /// Whether an `If-None-Match` value names this tag, so that the caller has the bytes already. Compares weakly, as
    /// RFC 9110 wants it here; `*` matches every file that exists.
    pub(crate) fn is_named_by(self, if_none_match: &str) -> bool {
        if if_none_match.trim() == "*" {
            return true;
        }
        let own = self.to_string();
        // A hash holds no comma, so a tag that is cut at one of its own was not ours anyway.
        if_none_match
            .split(',')
            .map(str::trim)
            .map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
            .any(|tag| tag == own)
    }

    /// Whether an `If-Range` value lets a range be answered. Compares strongly; a date never matches, for no date is
    /// ever sent.
    pub(crate) fn allows_range(self, if_range: &str) -> bool {
        if_range.trim() == self.to_string()
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    const OWN: &str = "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

    fn tag() -> EntityTag {
        EntityTag::of(ContentHash::EMPTY)
    }

    #[test]
    fn the_tag_is_the_hash_in_quotes() {
        assert_eq!(tag().to_string(), OWN);
    }

    #[test]
    fn if_none_match_finds_the_tag_in_any_list() {
        for header in [
            OWN.to_owned(),
            format!("W/{OWN}"),
            format!("\"a\", {OWN}"),
            format!("\"a\",W/{OWN} , \"b\""),
            "*".to_owned(),
        ] {
            assert!(tag().is_named_by(&header), "{header}");
        }
    }

    #[test]
    fn other_tags_do_not_match() {
        let bare = OWN.trim_matches('"');
        for header in ["", "\"\"", bare, "\"a\", \"b\"", "w/*", "\"*\""] {
            assert!(!tag().is_named_by(header), "{header}");
        }
    }

    #[test]
    fn if_range_compares_strongly() {
        assert!(tag().allows_range(OWN));
        assert!(!tag().allows_range(&format!("W/{OWN}")));
        assert!(!tag().allows_range("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert!(!tag().allows_range("*"));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in ".{0,200}") {
            let _ = tag().is_named_by(&header);
            let _ = tag().allows_range(&header);
        }
    }
}
