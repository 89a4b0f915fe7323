//! [`EventLog`]: the last things that happened, in memory. Pure and bounded: times come from outside, the oldest events go
//! first, and what comes in floods is told as one (I11).

use std::collections::{BTreeMap, VecDeque};

use richardstore_proto::{ContentHash, Event, EventKind, EventNode, NodeId, Sequence};

use crate::repair::Progress;

/// Events kept.
const MAX_EVENTS: usize = 1_024;
/// Events of one kind between two ticks that are told one by one; the others of that time are counted.
const MAX_SINGLE: u64 = 16;
/// Repair is over when nothing was to be copied for this long, in milliseconds: between a copy and its report there is a
/// moment in which nothing is under way.
const QUIET_MS: u64 = 2_000;

/// The log.
#[derive(Debug, Clone)]
pub struct EventLog {
    events: VecDeque<Event>,
    next: Sequence,
    floods: BTreeMap<EventKind, Flood>,
    repair: Option<Spell>,
    /// Not told yet.
    copies: u64,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    kind: EventKind,
    node: Option<EventNode>,
    hash: Option<ContentHash>,
    count: u64,
}

/// Events from the log, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// They do not follow what was asked for.
    pub gap: bool,
    /// The events.
    pub events: Vec<Event>,
}

/// How many of one kind came since the last tick.
#[derive(Debug, Clone, Copy, Default)]
struct Flood {
    single: u64,
    counted: u64,
}

/// Repair from its first to its last copy.
#[derive(Debug, Clone, Copy, Default)]
struct Spell {
    quiet_since_ms: Option<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            next: Sequence(1),
            floods: BTreeMap::new(),
            repair: None,
            copies: 0,
        }
    }
}

impl News {
    /// About nothing in particular.
    pub fn of(kind: EventKind) -> Self {
        Self {
            kind,
            node: None,
            hash: None,
            count: 1,
        }
    }

    /// About this datanode.
    #[must_use]
    pub fn node(mut self, node_id: NodeId, name: &str) -> Self {
        let name = name.to_owned();
        self.node = Some(EventNode { node_id, name });
        self
    }

    /// About this file.
    #[must_use]
    pub fn hash(mut self, hash: ContentHash) -> Self {
        self.hash = Some(hash);
        self
    }

    /// So many.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }
}

impl EventLog {
    /// Event: something happened at `wall_ms`, milliseconds since the Unix epoch.
    pub fn tell(&mut self, news: News, wall_ms: u64) {
        let flood = self.floods.entry(news.kind).or_default();
        if flood.single < MAX_SINGLE {
            flood.single += 1;
            self.push(news, wall_ms);
        } else {
            flood.counted = flood.counted.saturating_add(news.count);
        }
    }

    /// Event: a datanode made a copy.
    pub fn copied(&mut self) {
        self.copies = self.copies.saturating_add(1);
    }

    /// Event: time passed, and repair is as far as `progress`.
    pub fn tick(&mut self, progress: Progress, wall_ms: u64) {
        for (kind, flood) in std::mem::take(&mut self.floods) {
            if flood.counted > 0 {
                self.push(News::of(kind).count(flood.counted), wall_ms);
            }
        }
        let busy = progress.copying.saturating_add(progress.waiting);
        let busy = u64::try_from(busy).unwrap_or(u64::MAX);
        match &mut self.repair {
            // Small files may have been copied before a tick saw them.
            None if busy > 0 || self.copies > 0 => {
                self.repair = Some(Spell::default());
                let files = busy.saturating_add(self.copies);
                self.push(News::of(EventKind::RepairStarted).count(files), wall_ms);
            }
            None => {}
            Some(spell) if busy > 0 => spell.quiet_since_ms = None,
            Some(spell) => {
                let since_ms = *spell.quiet_since_ms.get_or_insert(wall_ms);
                if wall_ms.saturating_sub(since_ms) >= QUIET_MS {
                    let copies = std::mem::take(&mut self.copies);
                    self.repair = None;
                    self.push(News::of(EventKind::RepairFinished).count(copies), wall_ms);
                }
            }
        }
    }

    /// At most `limit` events behind `after`; with 0 from the oldest that is kept.
    pub fn behind(&self, after: Sequence, limit: usize) -> Excerpt {
        let oldest = self
            .events
            .front()
            .map_or(self.next, |event| event.sequence);
        let known = after.0 == 0 || (after.next() >= oldest && after < self.next);
        let from = if known {
            after.next().max(oldest)
        } else {
            oldest
        };
        let skip = usize::try_from(from.0.saturating_sub(oldest.0)).unwrap_or(usize::MAX);
        Excerpt {
            gap: !known,
            events: self.events.iter().skip(skip).take(limit).cloned().collect(),
        }
    }

    fn push(&mut self, news: News, wall_ms: u64) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            sequence: self.next,
            at_ms: wall_ms,
            kind: news.kind,
            node: news.node,
            hash: news.hash,
            count: news.count,
        });
        self.next = self.next.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &EventLog) -> Vec<(EventKind, u64)> {
        let excerpt = log.behind(Sequence(0), usize::MAX);
        excerpt
            .events
            .iter()
            .map(|event| (event.kind, event.count))
            .collect()
    }

    fn deleted() -> News {
        News::of(EventKind::FileDeleted).hash(ContentHash::new([1; 32]))
    }

    fn progress(copying: usize) -> Progress {
        Progress {
            copying,
            waiting: 0,
            ..Progress::default()
        }
    }

    #[test]
    fn a_watcher_goes_on_where_it_stopped_and_is_told_of_what_it_missed() {
        let mut log = EventLog::default();
        assert_eq!(log.behind(Sequence(0), 9).events, []);
        for time in 0..3 {
            log.tell(deleted(), time);
            log.tick(progress(0), time);
        }
        let excerpt = log.behind(Sequence(1), 1);
        assert!(!excerpt.gap);
        assert_eq!(excerpt.events[0].sequence, Sequence(2));
        assert_eq!(excerpt.events.len(), 1);
        assert_eq!(log.behind(Sequence(3), 9).events, []);
        assert!(!log.behind(Sequence(3), 9).gap);
        // Of another start of the namenode, or invented.
        let strange = log.behind(Sequence(u64::MAX), 9);
        assert!(strange.gap);
        assert_eq!(strange.events.len(), 3);
    }

    #[test]
    fn i11_the_oldest_events_are_forgotten_and_that_is_a_gap() {
        let mut log = EventLog::default();
        for time in 0..2_000 {
            log.tell(deleted(), time);
            log.tick(progress(0), time);
        }
        assert_eq!(log.events.len(), MAX_EVENTS);
        assert!(log.behind(Sequence(1), 9).gap);
        assert!(!log.behind(Sequence(0), 9).gap);
        assert!(!log.behind(Sequence(2_000 - 1_024), 9).gap);
    }

    #[test]
    fn i11_a_flood_of_deletes_is_told_as_one() {
        let mut log = EventLog::default();
        for _ in 0..1_000 {
            log.tell(deleted(), 0);
        }
        log.tell(News::of(EventKind::NodeDead), 0);
        log.tick(progress(0), 1);
        let told = told(&log);
        assert_eq!(told.len(), 16 + 1 + 1);
        assert!(told.contains(&(EventKind::NodeDead, 1)));
        assert_eq!(told.last(), Some(&(EventKind::FileDeleted, 984)));
    }

    #[test]
    fn repair_starts_once_and_is_finished_after_a_quiet_while() {
        let mut log = EventLog::default();
        log.copied();
        log.tick(progress(4), 0);
        log.copied();
        log.tick(progress(0), 500);
        log.tick(progress(1), 1_000);
        log.copied();
        log.tick(progress(0), 1_500);
        log.tick(progress(0), 3_499);
        let started = (EventKind::RepairStarted, 5);
        assert_eq!(told(&log), [started]);
        log.tick(progress(0), 3_500);
        assert_eq!(told(&log), [started, (EventKind::RepairFinished, 3)]);
    }
}
