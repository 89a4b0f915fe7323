//! [`Workload`]: uploads, reads and deletes of one client, what was promised to it, and whether that was kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::stream;
use richardstore_client::{Client, ClientConfig, ClientError, NodeStatus, NodeWish, PutOptions};
use richardstore_drills::{Content, Oracle, Random};
use richardstore_proto::{ContentHash, NodeState};
use richardstore_runtime::Environment;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{DATANODES, NAMENODE_ADDRESS};
use crate::disks::{Disks, REPLICATION};
use crate::faults::HEALED_AT;
use crate::figures::Figures;
use crate::reader::{WATCHED, find};

/// What is known of a run.
#[derive(Default)]
pub struct Record {
    /// What happened, in order.
    pub log: Vec<String>,
    /// What was promised.
    pub oracle: Oracle,
    /// Files that were acknowledged with all their replicas by the only upload they ever had, and never deleted. Others may
    /// have replicas on disks that no file counts on, and that go rightly.
    pub kept_whole: BTreeSet<String>,
    /// The files that were acknowledged last, the oldest first.
    pub watched: VecDeque<Content>,
    /// How often what happened.
    pub figures: Figures,
}

/// A record that the client and the simulation write together.
pub type SharedRecord = Rc<RefCell<Record>>;

/// Disks that the client and the simulation look at together.
pub type SharedDisks = Rc<RefCell<Disks>>;

/// For one operation, after which it counts as cut.
const OPERATION_LIMIT: Duration = Duration::from_secs(20);
/// For the cluster to be whole again after the last fault: dead timeouts, rebuilt indexes, repairs.
const HEALING_LIMIT: Duration = Duration::from_secs(240);
const LONGEST_PAUSE_MS: u64 = 400;
const LARGEST_BYTES: u64 = 400_000;
/// Uploads at once at most.
const MOST_TOGETHER: u64 = 12;

/// One client and what it remembers.
pub struct Workload {
    client: Client,
    random: Random,
    record: SharedRecord,
    /// Acknowledged and not deleted.
    there: Vec<Content>,
    /// Deleted, acknowledged.
    deleted: Vec<Content>,
    /// Uploads without an answer. Asking again must end as if the first time had been the only one.
    unanswered: Vec<Content>,
    /// Deletes without an answer, likewise. Such a file is not uploaded again: the delete may still be on its way.
    undeleted: Vec<Content>,
    /// The datanode that is being emptied.
    emptying: Option<&'static str>,
}

impl Workload {
    /// To be made on the host that runs it.
    pub fn new(random: Random, record: SharedRecord, environment: Environment) -> Self {
        Self {
            client: Client::new(ClientConfig::new(NAMENODE_ADDRESS), environment),
            random,
            record,
            there: Vec::new(),
            deleted: Vec::new(),
            unanswered: Vec::new(),
            undeleted: Vec::new(),
            emptying: None,
        }
    }

    /// Works through the faults, waits until the cluster is whole, and reads everything twice: what the first time found
    /// holds from then on.
    pub async fn run(mut self, disks: SharedDisks) -> turmoil::Result {
        while turmoil::sim_elapsed().unwrap_or_default() < HEALED_AT {
            self.step().await;
            sleep(Duration::from_millis(self.random.below(LONGEST_PAUSE_MS))).await;
        }
        let until = Instant::now() + HEALING_LIMIT;
        while self.emptying.is_some() && Instant::now() < until {
            // Two nodes of one name, and nobody can say which of them is meant.
            self.remove_the_replaced().await;
            self.stop_emptying().await;
        }
        self.whole_again(until).await?;
        let end = self.read_all().await?;
        loop {
            let settled = disks.borrow().settled(&end);
            match settled {
                Ok(()) => break,
                Err(why) if Instant::now() >= until => {
                    return Err(format!("not settled: {why}").into());
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
        self.read_all().await?;
        Ok(())
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..6 => self.upload_new().await,
            6 | 7 => self.upload_together().await,
            8 => self.upload_deleted().await,
            9 => self.upload_unanswered().await,
            10 | 11 => self.delete().await,
            12 => self.delete_undeleted().await,
            13 | 14 => self.race().await,
            15 if self.random.below(8) == 0 => self.start_emptying().await,
            15 => self.stop_emptying().await,
            _ => self.read().await,
        }
    }

    async fn start_emptying(&mut self) {
        let node = DATANODES[usize::try_from(self.random.below(4)).unwrap()];
        if self.emptying.is_none() {
            self.emptying = Some(node);
            let wish = self.client.set_node_admin(node, NodeWish::Decommission);
            let is_begun = matches!(timeout(OPERATION_LIMIT, wish).await, Ok(Ok(_)));
            self.note(format!("empty {node}: {is_begun}"));
            self.count("decommissions begun");
        }
    }

    async fn stop_emptying(&mut self) {
        if let Some(node) = self.emptying {
            let wish = self.client.set_node_admin(node, NodeWish::InService);
            if let Ok(Ok(_)) = timeout(OPERATION_LIMIT, wish).await {
                self.note(format!("{node} in service"));
                self.emptying = None;
            } else {
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn upload_new(&mut self) {
        let size = match self.random.below(4) {
            0 => self.random.below(LARGEST_BYTES),
            _ => self.random.below(5_000),
        };
        let content = Content::new(self.random.number(), size);
        let replicas = self.upload(content).await;
        self.note_whole(content, replicas);
    }

    /// Small files at once, which share calls and messages.
    async fn upload_together(&mut self) {
        let count = 2 + self.random.below(MOST_TOGETHER - 1);
        let contents: Vec<Content> = (0..count)
            .map(|_| Content::new(self.random.number(), 2 * self.random.below(2_500)))
            .collect();
        self.count("uploads at once");
        for content in &contents {
            self.upload_starts(*content);
        }
        let puts = contents.iter().map(|content| self.put(*content));
        let answers = join_all(puts).await;
        for (content, replicas) in contents.into_iter().zip(answers) {
            self.upload_ended(content, replicas);
            self.note_whole(content, replicas);
        }
    }

    fn note_whole(&self, content: Content, replicas: Option<u32>) {
        if usize::try_from(replicas.unwrap_or(0)).unwrap() >= REPLICATION {
            self.record.borrow_mut().kept_whole.insert(content.hash());
        }
    }

    /// A file that was deleted may come again, and then stays (I4).
    async fn upload_deleted(&mut self) {
        if let Some(content) = take(&mut self.random, &mut self.deleted) {
            self.upload(content).await;
        }
    }

    async fn upload_unanswered(&mut self) {
        if let Some(content) = take(&mut self.random, &mut self.unanswered) {
            self.count("uploads repeated");
            self.upload(content).await;
        }
    }

    async fn upload(&mut self, content: Content) -> Option<u32> {
        self.upload_starts(content);
        let replicas = self.put(content).await;
        self.upload_ended(content, replicas);
        replicas
    }

    fn upload_starts(&self, content: Content) {
        let mut record = self.record.borrow_mut();
        record.oracle.upload_started(&content.hash(), content);
    }

    fn upload_ended(&mut self, content: Content, replicas: Option<u32>) {
        if replicas.is_some() {
            let mut record = self.record.borrow_mut();
            record.oracle.upload_acknowledged(&content.hash());
            record.watched.push_back(content);
            if record.watched.len() > WATCHED {
                record.watched.pop_front();
            }
            self.there.push(content);
        } else {
            self.unanswered.push(content);
        }
    }

    async fn put(&self, content: Content) -> Option<u32> {
        let source = stream::iter(content.chunks().map(Ok));
        let options = PutOptions {
            // Half of the clients know how much they send. What is small then goes as a whole.
            size_hint: content.size.is_multiple_of(2).then_some(content.size),
            ..PutOptions::default()
        };
        let put = self.client.put(source, options);
        let answer = timeout(OPERATION_LIMIT, put).await;
        let replicas = answer.map(|answer| answer.map(|outcome| outcome.replicas));
        self.answered("put", content, replicas)
    }

    /// Half of the time one of those that are read just now.
    async fn delete(&mut self) {
        let content = match self.random.below(2) {
            0 => self.take_watched(),
            _ => take(&mut self.random, &mut self.there),
        };
        if let Some(content) = content {
            self.delete_one(content, true).await;
        }
    }

    fn take_watched(&mut self) -> Option<Content> {
        let watched = Vec::from(self.record.borrow().watched.clone());
        let content = watched[choose(&mut self.random, &watched)?];
        let at = self.there.iter().position(|there| *there == content)?;
        Some(self.there.swap_remove(at))
    }

    async fn delete_undeleted(&mut self) {
        if let Some(content) = take(&mut self.random, &mut self.undeleted) {
            self.count("deletes repeated");
            self.delete_one(content, false).await;
        }
    }

    async fn delete_one(&mut self, content: Content, may_return: bool) {
        let hash = content.hash();
        self.delete_starts(&hash);
        if !self.remove(content).await {
            self.undeleted.push(content);
            return;
        }
        self.record.borrow_mut().oracle.delete_acknowledged(&hash);
        if may_return {
            self.deleted.push(content);
        }
    }

    fn delete_starts(&self, hash: &str) {
        let mut record = self.record.borrow_mut();
        record.oracle.delete_started(hash);
        record.kept_whole.remove(hash);
    }

    async fn remove(&self, content: Content) -> bool {
        let hash = parse(content);
        let answer = timeout(OPERATION_LIMIT, self.client.delete(&hash)).await;
        self.answered("delete", content, answer).is_some()
    }

    /// A delete and an upload of the same file at once. Both orders are right; which one it was is seen by looking.
    async fn race(&mut self) {
        let Some(content) = take(&mut self.random, &mut self.there) else {
            return;
        };
        self.delete_starts(&content.hash());
        self.count("deletes racing uploads");
        let after = Duration::from_millis(self.random.below(40));
        let (put, removed) = join(self.put(content), async {
            sleep(after).await;
            self.remove(content).await
        })
        .await;
        // With an answer missing, one of them may still be on its way: then nobody knows until the end.
        if put.is_some()
            && removed
            && let Ok(Ok(found)) =
                timeout(OPERATION_LIMIT, find(&self.client, content, 0, None)).await
        {
            self.observe(content, found);
            match found {
                Some(_) => self.there.push(content),
                None => self.deleted.push(content),
            }
        }
    }

    /// While things are broken a read may fail, but not with a lie: neither other bytes nor "there is none".
    async fn read(&mut self) {
        let from = match self.random.below(4) {
            0 => &self.deleted,
            _ => &self.there,
        };
        let Some(content) = choose(&mut self.random, from).map(|at| from[at]) else {
            return;
        };
        let (offset, length) = match self.random.below(2) {
            0 => (0, None),
            _ => {
                let offset = self.random.below(content.size);
                (offset, Some(self.random.below(content.size - offset + 1)))
            }
        };
        let found = find(&self.client, content, offset, length);
        if let Ok(Ok(found)) = timeout(OPERATION_LIMIT, found).await {
            self.observe(content, found);
        } else {
            self.note(format!("get {:.8}: not now", content.hash()));
            self.count("reads refused");
        }
    }

    async fn read_all(&self) -> Result<BTreeMap<String, bool>, String> {
        let touched = self.record.borrow().oracle.touched();
        let mut end = BTreeMap::new();
        for (hash, content) in touched {
            let found = timeout(OPERATION_LIMIT, find(&self.client, content, 0, None)).await;
            let found = found.map_err(|_| format!("after healing: {hash:.8} takes too long"))?;
            let found = found.map_err(|error| format!("after healing: {hash:.8}: {error}"))?;
            self.observe(content, found);
            end.insert(hash, found.is_some());
        }
        Ok(end)
    }

    /// The answer. Where there was none, nobody knows whether it happened or will.
    fn answered<T: Debug>(
        &self,
        operation: &'static str,
        content: Content,
        answer: Result<Result<T, ClientError>, Elapsed>,
    ) -> Option<T> {
        let what = match &answer {
            Ok(Ok(answer)) => format!("{answer:?}"),
            Ok(Err(error)) => format!("cut, {:?}", error.code()),
            Err(_) => "cut, no answer".to_owned(),
        };
        self.note(format!("{operation} {:.8}: {what}", content.hash()));
        let answer = answer.ok().and_then(Result::ok);
        if answer.is_none() {
            self.record.borrow_mut().oracle.request_cut();
        }
        self.count(match (operation, answer.is_some()) {
            ("put", true) => "uploads acknowledged",
            ("put", false) => "uploads cut",
            (_, true) => "deletes acknowledged",
            (_, false) => "deletes cut",
        });
        answer
    }

    fn observe(&self, content: Content, found: Option<bool>) {
        let hash = content.hash();
        self.note(format!("get {hash:.8}: {found:?}"));
        self.count("reads answered");
        self.record.borrow_mut().oracle.observed(&hash, found);
    }

    /// Waits until nothing is left to repair, to delete or to report.
    async fn whole_again(&self, until: Instant) -> turmoil::Result {
        loop {
            let info = timeout(OPERATION_LIMIT, self.client.info()).await?;
            if let Ok(info) = &info
                && info.status == "running"
                && (info.tombstones, info.writes_in_flight) == (0, 0)
                && info.under_replicated == 0
                && usize::try_from(info.nodes_live) == Ok(DATANODES.len())
            {
                self.note("whole again".to_owned());
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(format!("not whole again: {info:?}").into());
            }
            self.remove_the_replaced().await;
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// A node that lost its identity with its disk came back under its name as another one. That the old one is gone for
    /// good is for an operator to say.
    async fn remove_the_replaced(&self) {
        let nodes = timeout(OPERATION_LIMIT, self.client.nodes()).await;
        let nodes: Vec<NodeStatus> = nodes.into_iter().flatten().flatten().collect();
        // One that was emptied before its disk was lost is never called dead.
        let is_gone =
            |node: &NodeStatus| matches!(node.state, NodeState::Dead | NodeState::Decommissioned);
        let is_replaced = |node: &NodeStatus| {
            let by = |other: &NodeStatus| other.name == node.name && other.node_id != node.node_id;
            is_gone(node) && nodes.iter().any(|other| by(other) && !is_gone(other))
        };
        for node in &nodes {
            if is_replaced(node) {
                let wish = NodeWish::Remove { accept_loss: false };
                let id = node.node_id.to_string();
                let removed = timeout(OPERATION_LIMIT, self.client.set_node_admin(&id, wish)).await;
                let is_removed = matches!(removed, Ok(Ok(_)));
                self.note(format!("remove {id} of {}: {removed:?}", node.name));
                if is_removed {
                    self.count("replaced nodes removed");
                }
            }
        }
    }

    fn count(&self, what: &'static str) {
        self.record.borrow_mut().figures.count(what);
    }

    fn note(&self, what: String) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        self.record.borrow_mut().log.push(format!("{at} {what}"));
    }
}

fn parse(content: Content) -> ContentHash {
    content.hash().parse().unwrap()
}

fn choose(random: &mut Random, from: &[Content]) -> Option<usize> {
    let at = usize::try_from(random.below(from.len() as u64)).unwrap();
    (!from.is_empty()).then_some(at)
}

fn take(random: &mut Random, from: &mut Vec<Content>) -> Option<Content> {
    choose(random, from).map(|at| from.swap_remove(at))
}
