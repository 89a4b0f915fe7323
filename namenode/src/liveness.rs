//! [`Liveness`]: what silence means. A pure function of how long a node has not been heard from.

use richardstore_proto::NodeState;

use crate::record::NodeAdmin;

/// How a node's silence is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Heard from lately.
    Live,
    /// Late: last choice for reads, no new writes.
    Stale,
    /// Gone: its replicas no longer count.
    Dead,
}

/// The silences, in milliseconds, after which a node is stale and dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Stale from here.
    pub stale_after_ms: u64,
    /// Dead from here.
    pub dead_after_ms: u64,
}

impl Timeouts {
    /// What a silence of `silent_ms` means.
    pub fn judge(&self, silent_ms: u64) -> Liveness {
        if silent_ms >= self.dead_after_ms {
            Liveness::Dead
        } else if silent_ms >= self.stale_after_ms {
            Liveness::Stale
        } else {
            Liveness::Live
        }
    }
}

impl Liveness {
    /// The state shown to others. Silence outranks the operator's intent: a dead node is dead, whatever it was to do.
    pub fn with_admin(self, admin: NodeAdmin) -> NodeState {
        match (self, admin) {
            (Self::Dead, _) => NodeState::Dead,
            (Self::Stale, _) => NodeState::Stale,
            (Self::Live, NodeAdmin::InService) => NodeState::Live,
            (Self::Live, NodeAdmin::Decommissioning) => NodeState::Decommissioning,
            (Self::Live, NodeAdmin::Decommissioned) => NodeState::Decommissioned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        stale_after_ms: 5_000,
        dead_after_ms: 30_000,
    };

    #[test]
    fn a_node_is_stale_and_dead_exactly_at_its_timeouts() {
        for (silent_ms, expected) in [
            (0, Liveness::Live),
            (4_999, Liveness::Live),
            (5_000, Liveness::Stale),
            (29_999, Liveness::Stale),
            (30_000, Liveness::Dead),
            (u64::MAX, Liveness::Dead),
        ] {
            assert_eq!(TIMEOUTS.judge(silent_ms), expected, "{silent_ms} ms");
        }
    }

    #[test]
    fn a_silent_node_is_not_shown_as_being_emptied() {
        let admin = NodeAdmin::Decommissioning;
        assert_eq!(Liveness::Live.with_admin(admin), NodeState::Decommissioning);
        assert_eq!(Liveness::Dead.with_admin(admin), NodeState::Dead);
    }
}
