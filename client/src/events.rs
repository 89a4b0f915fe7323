//! [`EventBatch`] and [`EventPosition`]: following what happens in a cluster.

use std::fmt;
use std::str::FromStr;

use richardstore_proto::{Event, NamenodeEpoch, Sequence, WireError, wire};

/// Events of one message, at most.
const MAX_EVENTS: usize = 1_024;

/// Which event was the last one seen. Written as `EPOCH-SEQUENCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition {
    /// The namenode's start that counted it.
    pub epoch: NamenodeEpoch,
    /// Its number there.
    pub sequence: Sequence,
}

/// What happened since the last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    /// The namenode's start that counted them.
    pub epoch: NamenodeEpoch,
    /// Some events between the last batch and this one are not known any more.
    pub gap: bool,
    /// In order.
    pub events: Vec<Event>,
}

/// The text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position among the events looks like 3-217")]
pub struct ParsePositionError;

impl fmt::Display for EventPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.epoch.0, self.sequence.0)
    }
}

impl FromStr for EventPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (epoch, sequence) = text.split_once('-').ok_or(ParsePositionError)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| ParsePositionError);
        Ok(Self {
            epoch: NamenodeEpoch(number(epoch)?),
            sequence: Sequence(number(sequence)?),
        })
    }
}

impl From<EventPosition> for wire::FollowRequest {
    fn from(after: EventPosition) -> Self {
        Self {
            epoch: after.epoch.0,
            sequence: after.sequence.0,
        }
    }
}

impl TryFrom<wire::FollowResponse> for EventBatch {
    type Error = WireError;

    fn try_from(response: wire::FollowResponse) -> Result<Self, WireError> {
        Ok(Self {
            epoch: NamenodeEpoch(response.epoch),
            gap: response.gap,
            events: wire::list_field("events", response.events, MAX_EVENTS, Event::try_from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_being_written() {
        let position: EventPosition = "3-217".parse().unwrap();
        assert_eq!(position.to_string(), "3-217");
        for bad in [
            "",
            "3",
            "3-",
            "-3",
            "a-b",
            "3-4-5",
            "3-99999999999999999999",
        ] {
            assert_eq!(
                bad.parse::<EventPosition>(),
                Err(ParsePositionError),
                "{bad}"
            );
        }
    }
}
