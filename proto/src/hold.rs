//! [`Hold`] and [`Held`]: how a client may remember where files are, and hears of those that are about to be deleted.

use crate::wire::{self, WireError, hash_field, list_field, to_bytes};
use crate::{ContentHash, FileLocations, HolderId, Sequence};

/// Files of one answer.
pub const MAX_FORGOTTEN: usize = 1_024;

/// The call of one who remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Who it is, by the last answer.
    pub holder: Option<HolderId>,
    /// What the answer of this sequence named, and all before it, is forgotten.
    pub forgotten: Sequence,
    /// Nothing is remembered any more.
    pub release: bool,
}

/// What one who remembers is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who it is from now on. Another one than it said: everything from before is to be forgotten.
    pub holder: HolderId,
    /// What is to be forgotten.
    pub forget: Forget,
    /// To be told in the next call, when that is done.
    pub sequence: Sequence,
    /// What is remembered may be used for so long after the call was sent, in milliseconds. 0: not at all.
    pub lease_ms: u64,
}

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forget {
    /// Everything: the namenode does not know any more what.
    All,
    /// These files, [`MAX_FORGOTTEN`] at most.
    These(Vec<ContentHash>),
}

/// Where a file is, and whether that may be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedFile {
    /// The file and its nodes.
    pub locations: FileLocations,
    /// So many of the first nodes are equally good. 0: this may not be remembered.
    pub equal_nodes: usize,
}

impl From<Hold> for wire::HoldLocationsRequest {
    fn from(hold: Hold) -> Self {
        Self {
            holder: hold.holder.map_or(0, |holder| holder.0),
            forgotten: hold.forgotten.0,
            release: hold.release,
        }
    }
}

impl From<wire::HoldLocationsRequest> for Hold {
    fn from(request: wire::HoldLocationsRequest) -> Self {
        Self {
            holder: (request.holder != 0).then_some(HolderId(request.holder)),
            forgotten: Sequence(request.forgotten),
            release: request.release,
        }
    }
}

impl From<Held> for wire::HoldLocationsResponse {
    fn from(held: Held) -> Self {
        let (forget_all, forget) = match held.forget {
            Forget::All => (true, Vec::new()),
            Forget::These(hashes) => (false, hashes),
        };
        Self {
            holder: held.holder.0,
            forget_all,
            forget: forget
                .iter()
                .map(|hash| to_bytes(hash.as_bytes()))
                .collect(),
            sequence: held.sequence.0,
            lease_ms: held.lease_ms,
        }
    }
}

impl TryFrom<wire::HoldLocationsResponse> for Held {
    type Error = WireError;

    fn try_from(response: wire::HoldLocationsResponse) -> Result<Self, WireError> {
        let forget = list_field("forget", response.forget, MAX_FORGOTTEN, |hash| {
            hash_field("forget", &hash)
        })?;
        Ok(Self {
            holder: HolderId(response.holder),
            forget: match response.forget_all {
                true => Forget::All,
                false => Forget::These(forget),
            },
            sequence: Sequence(response.sequence),
            lease_ms: response.lease_ms,
        })
    }
}

impl From<LocatedFile> for wire::StreamInfo {
    fn from(located: LocatedFile) -> Self {
        Self {
            equal_nodes: u32::try_from(located.equal_nodes).unwrap_or(u32::MAX),
            ..located.locations.into()
        }
    }
}

impl TryFrom<wire::StreamInfo> for LocatedFile {
    type Error = WireError;

    fn try_from(stream: wire::StreamInfo) -> Result<Self, WireError> {
        let equal_nodes = usize::try_from(stream.equal_nodes).unwrap_or(usize::MAX);
        let locations = FileLocations::try_from(stream)?;
        Ok(Self {
            equal_nodes: equal_nodes.min(locations.nodes.len()),
            locations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_through_the_wire_as_it_was() {
        let held = Held {
            holder: HolderId(7),
            forget: Forget::These(vec![ContentHash::new([1; 32]), ContentHash::new([2; 32])]),
            sequence: Sequence(9),
            lease_ms: 1_000,
        };
        let all = Held {
            forget: Forget::All,
            ..held.clone()
        };
        for held in [held, all] {
            let there = wire::HoldLocationsResponse::from(held.clone());
            assert_eq!(Held::try_from(there), Ok(held));
        }
    }

    #[test]
    fn i11_an_answer_that_names_too_many_files_is_refused() {
        let response = wire::HoldLocationsResponse {
            forget: vec![to_bytes(&[1; 32]); MAX_FORGOTTEN + 1],
            ..Default::default()
        };
        assert_eq!(Held::try_from(response), Err(WireError::Limit("forget")));
    }
}
