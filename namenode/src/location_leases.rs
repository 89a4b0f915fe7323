//! [`LocationLeases`]: who remembers where files are, and when a delete may go on. Pure.
//!
//! A gateway that remembers where a file is would go on to serve it after somebody else had deleted it (I3). So one who
//! remembers holds a lease, and a delete tells all holders before it is committed and waits until each has said that the file is
//! forgotten, or its lease has run out: when the delete is there, nobody remembers the file. After a start it waits until every
//! lease that an earlier start gave has run out. (C. Gray and D. Cheriton, "Leases", 1989.)
//!
//! A holder that let its lease run out is another one when it comes again: what it was not told of, it has to forget.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use richardstore_proto::{
    ContentHash, ErrorCode, Forget, Held, Hold, HolderId, MAX_FORGOTTEN, NamenodeEpoch, Sequence,
    StoreError,
};

const MAX_HOLDERS: usize = 1_024;
/// Deletes that are remembered for holders that have not heard of them. One further behind forgets everything.
const MAX_DELETES: usize = 16_384;

/// The holders and the deletes they have to hear of. Times are monotonic milliseconds since the start.
#[derive(Debug)]
pub struct LocationLeases {
    /// What is remembered may be used for so long after it was last asked for, and so long a delete waits for one who is gone.
    lease_ms: u64,
    holders: BTreeMap<HolderId, Holder>,
    next_holder: HolderId,
    /// Leases of earlier starts run until then.
    earlier_until_ms: u64,
    /// The last ones, the newest at the end.
    deletes: VecDeque<ContentHash>,
    /// Of the newest.
    newest: Sequence,
    /// Of which deletes are not committed yet, by the sequence of each.
    under_way: BTreeSet<(ContentHash, Sequence)>,
}

#[derive(Debug)]
struct Holder {
    /// What it said it has forgotten.
    forgotten: Sequence,
    /// What it was told to forget.
    told: Sequence,
    until_ms: u64,
    /// Its last call made the lease longer.
    keeps_up: bool,
}

impl LocationLeases {
    /// Nobody remembers anything, except for those whom an earlier start allowed to. Starts of one database give different ids.
    pub fn at_start(epoch: NamenodeEpoch, lease_ms: u64) -> Self {
        Self {
            lease_ms,
            holders: BTreeMap::new(),
            next_holder: HolderId((epoch.0 << 32) | 1),
            earlier_until_ms: if epoch.0 > 1 { lease_ms } else { 0 },
            deletes: VecDeque::new(),
            newest: Sequence(0),
            under_way: BTreeSet::new(),
        }
    }

    /// Event: somebody asked to remember. The lease runs from now, unless it was told to forget something and has not: one that does
    /// not hear what it is told would hold up a delete for ever. `Err`: there are too many (I11).
    pub fn asked(&mut self, hold: &Hold, now_ms: u64) -> Result<HolderId, StoreError> {
        self.holders.retain(|_, holder| holder.until_ms > now_ms);
        let until_ms = now_ms.saturating_add(self.lease_ms);
        if let Some(id) = hold.holder
            && let Some(holder) = self.holders.get_mut(&id)
        {
            holder.forgotten = holder.forgotten.max(hold.forgotten.min(self.newest));
            holder.keeps_up = holder.forgotten >= holder.told;
            if holder.keeps_up {
                holder.until_ms = until_ms;
            }
            return Ok(id);
        }
        if self.holders.len() >= MAX_HOLDERS {
            return Err(StoreError::new(
                ErrorCode::Unavailable,
                "too many remember where files are",
            ));
        }
        let id = self.next_holder;
        self.next_holder = id.next();
        let holder = Holder {
            forgotten: self.newest,
            told: self.newest,
            until_ms,
            keeps_up: true,
        };
        self.holders.insert(id, holder);
        Ok(id)
    }

    /// Event: a holder remembers nothing any more.
    pub fn released(&mut self, holder: HolderId) {
        self.holders.remove(&holder);
    }

    /// Whether there is something for `holder` to forget.
    pub fn has_news(&self, holder: HolderId) -> bool {
        let holder = self.holders.get(&holder);
        holder.is_some_and(|holder| holder.forgotten < self.newest)
    }

    /// What `holder` is told now. To be asked behind [`LocationLeases::asked`].
    pub fn tell(&mut self, holder: HolderId) -> Held {
        let Some(known) = self.holders.get_mut(&holder) else {
            // Its lease is over: it gets another one by asking again.
            return Held {
                holder,
                forget: Forget::All,
                sequence: self.newest,
                lease_ms: 0,
            };
        };
        let behind = usize::try_from(self.newest.0 - known.forgotten.0).unwrap_or(usize::MAX);
        let (forget, sequence) = match self.deletes.len().checked_sub(behind) {
            Some(from) => {
                let named = behind.min(MAX_FORGOTTEN);
                let hashes = self.deletes.range(from..from + named).copied().collect();
                let left = (behind - named) as u64;
                (Forget::These(hashes), Sequence(self.newest.0 - left))
            }
            None => (Forget::All, self.newest),
        };
        known.told = sequence;
        // Nine tenths: its clock may be slower than the namenode's.
        let may_use_ms = self.lease_ms / 10 * 9;
        Held {
            holder,
            forget,
            sequence,
            lease_ms: if known.keeps_up { may_use_ms } else { 0 },
        }
    }

    /// Event: a delete of `hash` begins. Until it is over, nobody may remember where the file is.
    pub fn delete_begins(&mut self, hash: ContentHash) -> Sequence {
        self.newest = self.newest.next();
        self.deletes.push_back(hash);
        if self.deletes.len() > MAX_DELETES {
            self.deletes.pop_front();
        }
        self.under_way.insert((hash, self.newest));
        self.newest
    }

    /// Event: the delete of `sequence` was committed, or will not be.
    pub fn delete_over(&mut self, hash: ContentHash, sequence: Sequence) {
        self.under_way.remove(&(hash, sequence));
    }

    /// Whether one who asks now where a file is may remember the answer. To be asked before the snapshot is taken that the answer
    /// is from: a delete that begins later is told to those who may.
    pub fn may_be_remembered(&self, hash: &ContentHash) -> bool {
        let all = (*hash, Sequence(0))..=(*hash, Sequence(u64::MAX));
        self.under_way.range(all).next().is_none()
    }

    /// When the delete of `sequence` may go on if nobody is heard of until then. `None`: now.
    pub fn waits_until_ms(&self, sequence: Sequence, now_ms: u64) -> Option<u64> {
        let remember = self.holders.values();
        let remember = remember.filter(|holder| holder.forgotten < sequence);
        let latest = remember.map(|holder| holder.until_ms);
        let latest = latest.chain([self.earlier_until_ms]).max()?;
        (latest > now_ms).then_some(latest)
    }

    /// Those who may remember something now.
    pub fn holders(&self, now_ms: u64) -> usize {
        let holders = self.holders.values();
        holders.filter(|holder| holder.until_ms > now_ms).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: NamenodeEpoch = NamenodeEpoch(1);
    const LEASE_MS: u64 = 1_000;

    fn hash(number: u16) -> ContentHash {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        ContentHash::new(bytes)
    }

    fn says(holder: HolderId, forgotten: Sequence) -> Hold {
        Hold {
            holder: Some(holder),
            forgotten,
            release: false,
        }
    }

    fn joins(leases: &mut LocationLeases, now_ms: u64) -> HolderId {
        let hold = Hold {
            holder: None,
            forgotten: Sequence(0),
            release: false,
        };
        leases.asked(&hold, now_ms).unwrap()
    }

    #[test]
    fn a_delete_that_nobody_has_to_hear_of_waits_for_nobody() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let delete = leases.delete_begins(hash(1));
        assert_eq!(leases.waits_until_ms(delete, 0), None);
    }

    #[test]
    fn i03_a_delete_waits_until_each_holder_has_said_that_the_file_is_forgotten() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let (one, other) = (joins(&mut leases, 0), joins(&mut leases, 10));
        let delete = leases.delete_begins(hash(1));
        assert_eq!(leases.waits_until_ms(delete, 20), Some(10 + LEASE_MS));
        for holder in [one, other] {
            assert!(leases.has_news(holder));
            let told = leases.tell(holder);
            assert_eq!(
                (told.forget, told.sequence),
                (Forget::These(vec![hash(1)]), delete)
            );
        }
        // That it was told is not yet that it forgot.
        assert!(leases.waits_until_ms(delete, 20).is_some());
        leases.asked(&says(other, delete), 30).unwrap();
        assert_eq!(leases.waits_until_ms(delete, 30), Some(LEASE_MS));
        leases.asked(&says(one, delete), 40).unwrap();
        assert_eq!(leases.waits_until_ms(delete, 40), None);
        assert!(!leases.has_news(one));
    }

    #[test]
    fn i03_a_holder_that_is_silent_is_waited_for_until_its_lease_has_run_out() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let holder = joins(&mut leases, 100);
        let delete = leases.delete_begins(hash(1));
        let until_ms = 100 + LEASE_MS;
        assert_eq!(leases.waits_until_ms(delete, until_ms - 1), Some(until_ms));
        assert_eq!(leases.waits_until_ms(delete, until_ms), None);
        // It may use what it remembers for less than that.
        assert!(leases.tell(holder).lease_ms < LEASE_MS);
    }

    #[test]
    fn i03_a_holder_that_does_not_hear_holds_up_a_delete_for_one_lease_and_may_use_nothing() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let holder = joins(&mut leases, 0);
        let delete = leases.delete_begins(hash(1));
        assert!(leases.tell(holder).lease_ms > 0);
        let deaf = says(holder, Sequence(0));
        for now_ms in [300, 600, 900] {
            assert_eq!(leases.asked(&deaf, now_ms), Ok(holder));
            let told = leases.tell(holder);
            assert_eq!((told.sequence, told.lease_ms), (delete, 0));
            assert_eq!(leases.waits_until_ms(delete, now_ms), Some(LEASE_MS));
        }
        leases.asked(&says(holder, delete), 950).unwrap();
        assert_eq!(leases.waits_until_ms(delete, 950), None);
        assert!(leases.tell(holder).lease_ms > 0);
    }

    #[test]
    fn i03_a_holder_that_comes_when_its_lease_has_run_out_is_another_one() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let holder = joins(&mut leases, 0);
        let late = says(holder, Sequence(0));
        assert_eq!(leases.asked(&late, LEASE_MS - 1), Ok(holder));
        let again = leases.asked(&late, 2 * LEASE_MS - 1).unwrap();
        assert_ne!(again, holder);
        assert_eq!(leases.holders(2 * LEASE_MS), 1);
    }

    #[test]
    fn i03_after_a_start_a_delete_waits_for_those_who_were_let_remember_before() {
        let mut leases = LocationLeases::at_start(NamenodeEpoch(2), LEASE_MS);
        let delete = leases.delete_begins(hash(1));
        assert_eq!(leases.waits_until_ms(delete, 5), Some(LEASE_MS));
        assert_eq!(leases.waits_until_ms(delete, LEASE_MS), None);
        let before = joins(&mut LocationLeases::at_start(FIRST, LEASE_MS), 0);
        assert_ne!(leases.asked(&says(before, Sequence(0)), 0), Ok(before));
    }

    #[test]
    fn i03_nobody_may_remember_a_file_between_the_begin_and_the_end_of_its_delete() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        assert!(leases.may_be_remembered(&hash(1)));
        let (one, two) = (leases.delete_begins(hash(1)), leases.delete_begins(hash(1)));
        leases.delete_over(hash(1), one);
        assert!(!leases.may_be_remembered(&hash(1)));
        assert!(leases.may_be_remembered(&hash(2)));
        leases.delete_over(hash(1), two);
        assert!(leases.may_be_remembered(&hash(1)));
    }

    #[test]
    fn what_a_new_holder_cannot_know_it_is_not_told() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let delete = leases.delete_begins(hash(1));
        let holder = joins(&mut leases, 0);
        assert!(!leases.has_news(holder));
        assert_eq!(leases.waits_until_ms(delete, 0), None);
        assert_eq!(leases.tell(holder).forget, Forget::These(vec![]));
    }

    #[test]
    fn a_holder_that_gave_its_lease_back_is_not_waited_for() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let holder = joins(&mut leases, 0);
        let delete = leases.delete_begins(hash(1));
        leases.released(holder);
        assert_eq!(leases.waits_until_ms(delete, 0), None);
        assert_eq!(leases.tell(holder).lease_ms, 0);
    }

    #[test]
    fn i11_a_long_list_is_told_in_parts_and_one_that_is_too_long_as_everything() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let holder = joins(&mut leases, 0);
        let parts = 2 * MAX_FORGOTTEN + 1;
        for number in 0..parts {
            leases.delete_begins(hash(u16::try_from(number).unwrap()));
        }
        let mut told = Vec::new();
        while leases.has_news(holder) {
            let held = leases.tell(holder);
            let Forget::These(hashes) = held.forget else {
                panic!("the list is there");
            };
            assert!(hashes.len() <= MAX_FORGOTTEN);
            told.extend(hashes);
            leases.asked(&says(holder, held.sequence), 0).unwrap();
        }
        assert_eq!(told.len(), parts);
        assert!(told.is_sorted(), "each once, in order");
        for _ in 0..=MAX_DELETES {
            leases.delete_begins(hash(1));
        }
        assert_eq!(leases.deletes.len(), MAX_DELETES);
        let held = leases.tell(holder);
        assert_eq!((held.forget, held.sequence), (Forget::All, leases.newest));
    }

    #[test]
    fn i11_too_many_holders_are_refused_until_others_are_gone() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        for _ in 0..MAX_HOLDERS {
            joins(&mut leases, 0);
        }
        let hold = Hold {
            holder: None,
            forgotten: Sequence(0),
            release: false,
        };
        let refused = leases.asked(&hold, 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(leases.asked(&hold, LEASE_MS).is_ok());
    }

    #[test]
    fn a_holder_cannot_have_forgotten_what_is_still_to_come() {
        let mut leases = LocationLeases::at_start(FIRST, LEASE_MS);
        let holder = joins(&mut leases, 0);
        leases.asked(&says(holder, Sequence(u64::MAX)), 0).unwrap();
        let delete = leases.delete_begins(hash(1));
        assert!(leases.has_news(holder));
        assert!(leases.waits_until_ms(delete, 0).is_some());
    }
}
