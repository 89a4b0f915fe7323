//! [`KnownLocations`]: where files are that were looked up a moment ago, for as long as nobody can have deleted them.
//!
//! What is remembered is used only under a lease of the namenode, which tells of every file that is about to be deleted, by
//! whomever, and deletes it when it is forgotten here (I3). An answer that was under way when something was to be forgotten is not
//! remembered: it may be older. Bounded (I11), and short: an old order of nodes knows nothing of those that fell silent since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use richardstore_proto::{
    ContentHash, FileLocations, Forget, Held, Hold, HolderId, LocatedFile, Sequence,
};
use tokio::time::Instant;

/// Then the namenode is asked again: replicas move, and nodes fall silent.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Without a look-up for so long, the lease is given back.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// The memory of one client.
pub(crate) struct KnownLocations {
    /// Of each half of the memory.
    half: usize,
    memory: Mutex<Memory>,
    found: AtomicU64,
    missed: AtomicU64,
}

/// How many look-ups there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookUpCounts {
    /// Those that needed no call.
    pub remembered: u64,
    /// The others.
    pub asked: u64,
}

/// What had been forgotten when a look-up began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

struct Memory {
    /// The younger half; when it is full it is the older one, and what was that is forgotten.
    young: HashMap<ContentHash, Known>,
    old: HashMap<ContentHash, Known>,
    /// How often something was to be forgotten, by the first byte of its hash: what is forgotten bears on few look-ups under way.
    changes: [u64; 256],
    lease: Lease,
    wanted_at: Instant,
    /// A task keeps the lease.
    kept: bool,
}

#[derive(Default)]
struct Lease {
    holder: Option<HolderId>,
    forgotten: Sequence,
    until: Option<Instant>,
}

struct Known {
    located: Arc<LocatedFile>,
    until: Instant,
    turn: usize,
}

impl KnownLocations {
    /// A memory of at most `capacity` files; 0 remembers nothing.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            half: capacity.div_ceil(2),
            memory: Mutex::new(Memory {
                young: HashMap::new(),
                old: HashMap::new(),
                changes: [0; 256],
                lease: Lease::default(),
                wanted_at: Instant::now(),
                kept: false,
            }),
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Where the file is, if that is known. Readers of one file take turns among equal nodes.
    pub(super) fn find(&self, hash: &ContentHash) -> Option<FileLocations> {
        let (located, turn) = self.memory().find(hash, Instant::now())?;
        self.found.fetch_add(1, Ordering::Relaxed);
        let mut locations = located.locations.clone();
        let equal = located.equal_nodes.min(locations.nodes.len());
        if equal > 0 {
            locations.nodes[..equal].rotate_left(turn % equal);
        }
        Some(locations)
    }

    /// To be taken before the namenode is asked for `hash`. And `true` where somebody has to keep the lease from now on.
    pub(super) fn begin(&self, hash: &ContentHash) -> (Ticket, bool) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        let mut memory = self.memory();
        memory.wanted_at = Instant::now();
        let begins = self.half > 0 && !std::mem::replace(&mut memory.kept, true);
        (memory.ticket(hash), begins)
    }

    /// Remembers what the namenode said to a look-up that began with `ticket`.
    pub(super) fn remember(&self, ticket: Ticket, located: &LocatedFile) {
        if self.half == 0 || located.equal_nodes == 0 {
            return;
        }
        let now = Instant::now();
        let hash = located.locations.file.hash;
        let mut memory = self.memory();
        if memory.ticket(&hash) != ticket || !memory.lease.is_usable(now) {
            return;
        }
        if memory.young.len() >= self.half {
            memory.old = std::mem::take(&mut memory.young);
        }
        let known = Known {
            located: Arc::new(located.clone()),
            until: now + KEPT_FOR,
            turn: 0,
        };
        memory.young.insert(hash, known);
    }

    /// What is known of the file is not good any more.
    pub(super) fn forget(&self, hash: &ContentHash) {
        self.memory().forget(hash);
    }

    /// The next call to the namenode. `Err` where nothing was wanted for long: then nobody keeps the lease any more, and this
    /// call gives it back.
    pub(super) fn next_call(&self) -> Result<Hold, Hold> {
        let mut memory = self.memory();
        let hold = Hold {
            holder: memory.lease.holder,
            forgotten: memory.lease.forgotten,
            release: false,
        };
        if memory.wanted_at.elapsed() < IDLE_AFTER {
            return Ok(hold);
        }
        memory.kept = false;
        Err(memory.give_back())
    }

    /// The lease is given back, by the call that this returns.
    pub(super) fn give_back(&self) -> Hold {
        self.memory().give_back()
    }

    /// Does what the namenode answered to a call that was sent at `sent`.
    pub(super) fn answered(&self, sent: Instant, held: Held) {
        let mut memory = self.memory();
        if memory.lease.holder != Some(held.holder) {
            memory.forget_all();
        }
        match held.forget {
            Forget::All => memory.forget_all(),
            Forget::These(hashes) => hashes.iter().for_each(|hash| memory.forget(hash)),
        }
        memory.lease = Lease {
            holder: Some(held.holder),
            forgotten: held.sequence,
            until: Some(sent + Duration::from_millis(held.lease_ms)),
        };
    }

    /// Since the start.
    pub(crate) fn counts(&self) -> LookUpCounts {
        LookUpCounts {
            remembered: self.found.load(Ordering::Relaxed),
            asked: self.missed.load(Ordering::Relaxed),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn find(&mut self, hash: &ContentHash, now: Instant) -> Option<(Arc<LocatedFile>, usize)> {
        if !self.lease.is_usable(now) {
            return None;
        }
        let known = match self.young.get_mut(hash) {
            Some(known) => known,
            None => self.old.get_mut(hash)?,
        };
        if known.until <= now {
            return None;
        }
        self.wanted_at = now;
        known.turn = known.turn.wrapping_add(1);
        Some((known.located.clone(), known.turn))
    }

    fn ticket(&self, hash: &ContentHash) -> Ticket {
        Ticket(self.changes[usize::from(hash.as_bytes()[0])])
    }

    fn forget(&mut self, hash: &ContentHash) {
        self.changes[usize::from(hash.as_bytes()[0])] += 1;
        self.young.remove(hash);
        self.old.remove(hash);
    }

    fn forget_all(&mut self) {
        self.changes.iter_mut().for_each(|changes| *changes += 1);
        self.young.clear();
        self.old.clear();
    }

    fn give_back(&mut self) -> Hold {
        self.forget_all();
        let lease = std::mem::take(&mut self.lease);
        Hold {
            holder: lease.holder,
            forgotten: lease.forgotten,
            release: true,
        }
    }
}

impl Lease {
    fn is_usable(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{Blake3Root, DataNodeInfo, FileInfo, Generation, NodeId, NodeState};

    const LEASE_MS: u64 = 900;

    fn located(number: u8) -> LocatedFile {
        let node = |number: u8| DataNodeInfo {
            node_id: NodeId::new([number; 16]),
            address: format!("node-{number}:1"),
            state: NodeState::Live,
            name: format!("node-{number}"),
            rack: String::new(),
            generation: Generation(1),
        };
        LocatedFile {
            locations: FileLocations {
                file: FileInfo {
                    hash: ContentHash::new([number; 32]),
                    size: 1,
                    blake3_root: Blake3Root::new([number; 32]),
                    generation: Generation(1),
                    replication: 3,
                    created_ms: 0,
                },
                nodes: [1, 2, 3].map(node).to_vec(),
            },
            equal_nodes: 2,
        }
    }

    fn hash(number: u8) -> ContentHash {
        located(number).locations.file.hash
    }

    fn held(holder: u64, sequence: u64, forget: &[u8]) -> Held {
        Held {
            holder: HolderId(holder),
            forget: Forget::These(forget.iter().map(|number| hash(*number)).collect()),
            sequence: Sequence(sequence),
            lease_ms: LEASE_MS,
        }
    }

    /// A memory under a lease, with files 1 and 2 in it.
    fn known() -> KnownLocations {
        let known = KnownLocations::new(100);
        known.answered(Instant::now(), held(7, 0, &[]));
        for number in [1, 2] {
            let (ticket, _) = known.begin(&hash(number));
            known.remember(ticket, &located(number));
        }
        known
    }

    fn finds(known: &KnownLocations) -> [bool; 2] {
        [1, 2].map(|number| known.find(&hash(number)).is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn i03_what_is_remembered_is_not_used_when_the_lease_has_run_out() {
        let known = known();
        tokio::time::advance(Duration::from_millis(LEASE_MS - 1)).await;
        assert_eq!(finds(&known), [true, true]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(finds(&known), [false, false]);
        known.answered(Instant::now(), held(7, 0, &[]));
        assert_eq!(finds(&known), [true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn i03_a_lease_runs_from_when_it_was_asked_for() {
        let known = known();
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(LEASE_MS)).await;
        known.answered(sent, held(7, 0, &[]));
        assert_eq!(finds(&known), [false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn i03_a_file_that_is_about_to_be_deleted_is_forgotten_and_that_is_told_in_the_next_call()
    {
        let known = known();
        known.answered(Instant::now(), held(7, 5, &[1]));
        assert_eq!(finds(&known), [false, true]);
        let hold = known.next_call().unwrap();
        assert_eq!(
            (hold.holder, hold.forgotten),
            (Some(HolderId(7)), Sequence(5))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn i03_an_answer_that_was_under_way_when_something_was_forgotten_is_not_remembered() {
        let known = known();
        let (ticket, _) = known.begin(&hash(1));
        known.answered(Instant::now(), held(7, 5, &[1]));
        known.remember(ticket, &located(1));
        assert_eq!(finds(&known), [false, true]);
        let (other, _) = known.begin(&hash(2));
        known.forget(&hash(2));
        known.remember(other, &located(2));
        assert_eq!(finds(&known), [false, false]);
        // What is forgotten meanwhile is another one.
        let (other, _) = known.begin(&hash(2));
        known.answered(Instant::now(), held(7, 6, &[1]));
        known.remember(other, &located(2));
        assert_eq!(finds(&known), [false, true]);
        let (ticket, _) = known.begin(&hash(1));
        known.remember(ticket, &located(1));
        assert_eq!(finds(&known), [true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn i03_under_another_name_everything_is_forgotten_and_what_was_under_way_too() {
        let known = known();
        let (ticket, _) = known.begin(&hash(1));
        known.answered(Instant::now(), held(8, 5, &[]));
        known.remember(ticket, &located(1));
        assert_eq!(finds(&known), [false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_failed_makes_the_file_forgotten_and_no_other() {
        let known = known();
        known.forget(&hash(2));
        assert_eq!(finds(&known), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_namenode_does_not_let_be_remembered_is_not() {
        let known = known();
        let (ticket, _) = known.begin(&hash(3));
        let unsure = LocatedFile {
            equal_nodes: 0,
            ..located(3)
        };
        known.remember(ticket, &unsure);
        assert!(known.find(&hash(3)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn readers_of_one_file_take_turns_among_the_nodes_that_are_equally_good() {
        let known = known();
        let first = || {
            let nodes = known.find(&hash(1)).unwrap().nodes;
            assert_eq!((nodes.len(), &nodes[2].name[..]), (3, "node-3"));
            nodes[0].name.clone()
        };
        assert_eq!([first(), first(), first()], ["node-2", "node-1", "node-2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn i11_no_more_is_remembered_than_was_said_and_the_youngest_are() {
        let known = KnownLocations::new(10);
        known.answered(Instant::now(), held(7, 0, &[]));
        for number in 0..100 {
            let (ticket, _) = known.begin(&hash(number));
            known.remember(ticket, &located(number));
        }
        let left: Vec<u8> = (0..100)
            .filter(|n| known.find(&hash(*n)).is_some())
            .collect();
        assert_eq!(left, (90..100).collect::<Vec<u8>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_needs_is_given_back_and_begun_anew_by_the_next_look_up() {
        let known = KnownLocations::new(100);
        assert!(known.begin(&hash(1)).1);
        assert!(!known.begin(&hash(1)).1);
        known.answered(Instant::now(), held(7, 3, &[]));
        tokio::time::advance(IDLE_AFTER).await;
        let hold = known.next_call().unwrap_err();
        assert!(hold.release && hold.holder == Some(HolderId(7)));
        assert!(known.begin(&hash(1)).1);
        assert_eq!(known.next_call().unwrap().holder, None);
    }

    #[test]
    fn a_memory_of_nothing_asks_for_no_lease() {
        let known = KnownLocations::new(0);
        assert!(!known.begin(&hash(1)).1);
    }
}
