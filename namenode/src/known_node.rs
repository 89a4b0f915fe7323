//! [`KnownNode`]: what the namenode remembers about one datanode besides its durable record. Pure; times are monotonic
//! milliseconds since the namenode started.

use richardstore_proto::{DataNodeInfo, Generation, NodeId, NodeState, NodeStats, SessionEpoch};

use crate::delivery::Delivery;
use crate::liveness::{Liveness, Timeouts};
use crate::placement::Candidate;
use crate::read_order::Holder;
use crate::record::{NodeAdmin, NodeIndex, NodeRecord};
use crate::report_progress::ReportProgress;

/// Soft state of one datanode.
#[derive(Debug, Clone)]
pub struct KnownNode {
    /// Its identity.
    pub node_id: NodeId,
    /// Its number in records.
    pub index: NodeIndex,
    /// A name for people.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// The failure domain.
    pub rack: String,
    /// What the operator wants.
    pub admin: NodeAdmin,
    /// Until when it is expected to be away, milliseconds since the Unix epoch; `None`: it is not.
    pub maintenance_until_ms: Option<u64>,
    /// The newest start of it that registered, in this or an earlier epoch of the namenode.
    pub session: SessionEpoch,
    /// It registered since the namenode started.
    pub registered: bool,
    /// The generation after those that had been handed out when it registered: what it acknowledged of earlier ones may have gone
    /// since with its disk. Raised by what it removes of a write in flight.
    pub doubtful_before: Generation,
    /// What it last said of itself; zero before it registered.
    pub stats: NodeStats,
    /// How far its reports are.
    pub report: ReportProgress,
    /// The commands in its hands.
    pub delivery: Delivery,
    heard_ms: u64,
    promised: Promised,
}

/// Writes placed on a node that its statistics may not show yet.
///
/// As load they are kept for one to two heartbeats: by then the node counts them itself, and nothing has to be taken back
/// when a client never comes. Their room is counted until the next heartbeat only. That one knows of all that began before
/// it; counted for longer, room would be taken twice, and uploads refused that fit. A client that comes later than that is
/// refused by the node itself where it is full.
#[derive(Debug, Clone, Copy, Default)]
struct Promised {
    since_ms: u64,
    now: Promise,
    before: Promise,
}

#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    writes: u64,
    bytes: u64,
}

impl KnownNode {
    /// A node as its record says, heard from at `now_ms` by grace: after a restart each has a full dead timeout.
    pub fn from_record(record: NodeRecord, now_ms: u64) -> Self {
        Self {
            node_id: record.node_id,
            index: record.index,
            name: record.name,
            address: record.address,
            rack: record.rack,
            admin: record.admin,
            maintenance_until_ms: None,
            session: record.session_epoch,
            registered: false,
            doubtful_before: Generation(0),
            stats: NodeStats::default(),
            report: ReportProgress::default(),
            delivery: Delivery::default(),
            heard_ms: now_ms,
            promised: Promised::default(),
        }
    }

    /// How long it has been silent, in milliseconds.
    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms)
    }

    /// What its silence means.
    pub fn liveness(&self, timeouts: Timeouts, now_ms: u64) -> Liveness {
        timeouts.judge(self.silent_ms(now_ms))
    }

    /// It sent statistics. With `interval_ms`, the heartbeat interval, promises of the interval before are dropped.
    pub fn hear(&mut self, stats: NodeStats, interval_ms: u64, now_ms: u64) {
        self.heard_ms = self.heard_ms.max(now_ms);
        self.stats = stats;
        if now_ms.saturating_sub(self.promised.since_ms) >= interval_ms {
            self.promised = Promised {
                since_ms: now_ms,
                now: Promise::default(),
                before: self.promised.now,
            };
        }
    }

    /// Nobody was listening for `gap_ms`: that silence was not its own.
    pub fn excuse(&mut self, gap_ms: u64, now_ms: u64) {
        self.heard_ms = self.heard_ms.saturating_add(gap_ms).min(now_ms);
    }

    /// A write of `bytes` (0 is unknown) was placed on it.
    pub fn promise(&mut self, bytes: u64) {
        let promise = &mut self.promised.now;
        promise.writes = promise.writes.saturating_add(1);
        promise.bytes = promise.bytes.saturating_add(bytes);
    }

    /// Forgets promises: it started anew, and no write of before reaches it.
    pub fn forget_promises(&mut self, now_ms: u64) {
        self.promised = Promised {
            since_ms: now_ms,
            ..Promised::default()
        };
    }

    /// As placement sees it.
    pub fn candidate(&self, timeouts: Timeouts, now_ms: u64) -> Candidate {
        let Promised { now, before, .. } = self.promised;
        Candidate {
            index: self.index,
            rack: self.rack.clone(),
            state: self.state(timeouts, now_ms),
            registered: self.registered,
            read_only: self.stats.read_only,
            available_bytes: self.stats.available_bytes.saturating_sub(now.bytes),
            load: u64::from(self.stats.active_writes)
                .saturating_add(now.writes)
                .saturating_add(before.writes),
        }
    }

    /// As a reader's choice sees it.
    pub fn holder(&self, suspect: bool, timeouts: Timeouts, now_ms: u64) -> Holder {
        Holder {
            index: self.index,
            state: self.state(timeouts, now_ms),
            registered: self.registered,
            suspect,
            active_reads: self.stats.active_reads,
        }
    }

    /// As it goes over the wire, with the generation of the replica that is meant.
    pub fn info(&self, generation: Generation, timeouts: Timeouts, now_ms: u64) -> DataNodeInfo {
        DataNodeInfo {
            node_id: self.node_id,
            address: self.address.clone(),
            state: self.shown_state(timeouts, now_ms),
            name: self.name.clone(),
            rack: self.rack.clone(),
            generation,
        }
    }

    /// How it is, for decisions.
    pub fn state(&self, timeouts: Timeouts, now_ms: u64) -> NodeState {
        match self.liveness(timeouts, now_ms).with_admin(self.admin) {
            NodeState::Live if self.is_expected_away() => NodeState::Maintenance,
            other => other,
        }
    }

    /// Whether its replicas can still be read.
    pub fn stands(&self, timeouts: Timeouts, now_ms: u64) -> bool {
        self.registered
            && !self.stats.volume_failed
            && self.state(timeouts, now_ms) != NodeState::Dead
    }

    /// How it is, for people: that a node in maintenance is silent is no news.
    fn shown_state(&self, timeouts: Timeouts, now_ms: u64) -> NodeState {
        match self.state(timeouts, now_ms) {
            NodeState::Stale | NodeState::Dead if self.is_expected_away() => NodeState::Maintenance,
            other => other,
        }
    }

    /// It is in maintenance.
    pub fn is_expected_away(&self) -> bool {
        self.maintenance_until_ms.is_some()
    }
}
