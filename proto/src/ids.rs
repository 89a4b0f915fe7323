//! Identities and counters. Each is a type of its own, so that a generation cannot be passed for a sequence number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text or byte string that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID")]
pub struct ParseIdError(String);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Takes the 16 raw bytes of a UUID.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text)
                    .map(|uuid| Self(*uuid.as_bytes()))
                    .map_err(|_| ParseIdError(text.chars().take(64).collect()))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| ParseIdError(format!("{} bytes", bytes.len())))
            }
        }
    };
}

uuid_id! {
    /// A datanode's identity. It lives on the volume: an address may change, this does not.
    NodeId
}
uuid_id! {
    /// The cluster that a database or a volume belongs to; never mixed with another.
    ClusterId
}
uuid_id! {
    /// One life of a datanode's index. Sequence numbers only mean something within it.
    JournalId
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// Assigned by the namenode to each write; larger for every re-creation of the same hash. A delete names the
    /// generation it means and removes no replica newer than that (I4). 0 is "not known".
    Generation
}
counter! {
    /// Position in a list that only grows, counted from 1: of a datanode's journal, within one [`JournalId`]; of the namenode's
    /// events and deletes, within one of its starts.
    Sequence
}
counter! {
    /// One who remembers where files are, as the namenode knows it since its start.
    HolderId
}
counter! {
    /// Identifies a command until it was confirmed.
    CommandId
}
counter! {
    /// Counts the namenode's starts on one database. A datanode obeys no epoch older than the newest it has seen.
    NamenodeEpoch
}
counter! {
    /// Counts a datanode's starts on one volume. The newer session of a node id wins, the older is fenced.
    SessionEpoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_survives_its_text_and_its_bytes() {
        let id = NodeId::new([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(NodeId::try_from(&id.as_bytes()[..]), Ok(id));
    }

    #[test]
    fn a_text_that_is_no_uuid_is_refused() {
        assert!("not-a-uuid".parse::<ClusterId>().is_err());
        assert!(NodeId::try_from(&[1u8; 15][..]).is_err());
    }
}
