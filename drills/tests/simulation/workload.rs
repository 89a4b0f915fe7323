//! [`Workload`]: uploads, reads and deletes of one client, what was promised to it, and whether that was kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use richardstore_client::{Client, ClientConfig, ClientError, GetOptions, PutOptions};
use richardstore_drills::{Content, Oracle, Random};
use richardstore_proto::{ContentHash, ErrorCode};
use richardstore_runtime::Environment;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{DATANODES, NAMENODE_ADDRESS};
use crate::faults::HEALED_AT;

/// What is known of a run.
#[derive(Default)]
pub struct Record {
    /// What happened, in order.
    pub log: Vec<String>,
    /// What was promised.
    pub oracle: Oracle,
    /// After healing: all files that were ever uploaded, and whether they are there.
    pub end: BTreeMap<String, bool>,
}

/// A record that the client and the simulation write together.
pub type SharedRecord = Rc<RefCell<Record>>;

/// For one operation, after which it counts as cut.
const OPERATION_LIMIT: Duration = Duration::from_secs(20);
/// For the cluster to be whole again after the last fault: dead timeouts, rebuilt indexes, repairs.
const HEALING_LIMIT: Duration = Duration::from_secs(120);
const LONGEST_PAUSE_MS: u64 = 400;
const LARGEST_BYTES: u64 = 400_000;

/// One client and what it remembers.
pub struct Workload {
    client: Client,
    random: Random,
    record: SharedRecord,
    /// Acknowledged and not deleted.
    there: Vec<Content>,
    /// Deleted, acknowledged.
    deleted: Vec<Content>,
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
        }
    }

    /// Works through the faults, waits until the cluster is whole, and reads everything again.
    pub async fn run(mut self) -> turmoil::Result {
        while turmoil::sim_elapsed().unwrap_or_default() < HEALED_AT {
            self.step().await;
            sleep(Duration::from_millis(self.random.below(LONGEST_PAUSE_MS))).await;
        }
        self.whole_again().await?;
        let touched = self.record.borrow().oracle.touched();
        for (hash, content) in touched {
            let found = timeout(OPERATION_LIMIT, self.find(content)).await?;
            let found = found.map_err(|error| format!("after healing: {error}"))?;
            self.observe(content, found);
            self.record.borrow_mut().end.insert(hash, found.is_some());
        }
        Ok(())
    }

    async fn step(&mut self) {
        match self.random.below(10) {
            0..5 => self.upload_new().await,
            5 => self.upload_deleted().await,
            6 | 7 => self.delete().await,
            _ => self.read().await,
        }
    }

    async fn upload_new(&mut self) {
        let size = match self.random.below(4) {
            0 => self.random.below(LARGEST_BYTES),
            _ => self.random.below(5_000),
        };
        let content = Content::new(self.random.number(), size);
        self.upload(content).await;
    }

    /// A file that was deleted may come again, and then stays (I4).
    async fn upload_deleted(&mut self) {
        if let Some(content) = take(&mut self.random, &mut self.deleted) {
            self.upload(content).await;
        }
    }

    async fn upload(&mut self, content: Content) {
        let hash = content.hash();
        self.record
            .borrow_mut()
            .oracle
            .upload_started(&hash, content);
        let source = stream::iter(content.chunks().map(Ok));
        let put = self.client.put(source, PutOptions::default());
        match timeout(OPERATION_LIMIT, put).await {
            Ok(Ok(outcome)) => {
                let replicas = outcome.replicas;
                self.note(format!("put {hash:.8}: {replicas} replicas"));
                self.record.borrow_mut().oracle.upload_acknowledged(&hash);
                self.there.push(content);
            }
            failed => self.cut("put", content, failed.ok().and_then(Result::err)),
        }
    }

    async fn delete(&mut self) {
        let Some(content) = take(&mut self.random, &mut self.there) else {
            return;
        };
        let hash = content.hash();
        self.record.borrow_mut().oracle.delete_started(&hash);
        let parsed = parse(content);
        match timeout(OPERATION_LIMIT, self.client.delete(&parsed)).await {
            Ok(Ok(existed)) => {
                self.note(format!("delete {hash:.8}: {existed}"));
                self.record.borrow_mut().oracle.delete_acknowledged(&hash);
                self.deleted.push(content);
            }
            failed => self.cut("delete", content, failed.ok().and_then(Result::err)),
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
        if let Ok(Ok(found)) = timeout(OPERATION_LIMIT, self.find(content)).await {
            self.observe(content, found);
        } else {
            self.note(format!("get {:.8}: not now", content.hash()));
        }
    }

    /// Nobody knows whether it happened or will. The file is not touched again, so that this stays the only doubt.
    fn cut(&self, operation: &str, content: Content, error: Option<ClientError>) {
        let why = error.map_or("no answer".to_owned(), |error| {
            format!("{:?}", error.code())
        });
        self.note(format!("{operation} {:.8}: cut, {why}", content.hash()));
        self.record.borrow_mut().oracle.request_cut();
    }

    fn observe(&self, content: Content, found: Option<bool>) {
        let hash = content.hash();
        self.note(format!("get {hash:.8}: {found:?}"));
        self.record.borrow_mut().oracle.observed(&hash, found);
    }

    /// Whether the file is there, and then whether its bytes are right.
    async fn find(&self, content: Content) -> Result<Option<bool>, ClientError> {
        let found = self
            .client
            .get(&parse(content), 0, None, GetOptions::default())
            .await;
        let mut stream = match found {
            Ok(stream) => stream,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(Some(bytes == content.bytes()))
    }

    /// Waits until nothing is left to repair, to delete or to report.
    async fn whole_again(&self) -> turmoil::Result {
        let until = Instant::now() + HEALING_LIMIT;
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
            sleep(Duration::from_millis(500)).await;
        }
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
