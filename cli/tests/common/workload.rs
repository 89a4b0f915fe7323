//! [`Workload`]: uploads and deletes against a store that is about to be stopped the hard way, and the check afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use richardstore_drills::{Content, Http, Oracle, Random, Tally, inspect_tree, wait_until};
use tokio::task::JoinSet;

use super::panics;

const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// What the workers were promised, over all rounds.
#[derive(Clone, Default)]
pub struct Workload(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    oracle: Oracle,
    /// Uploaded since the last check and never asked to be deleted.
    held: BTreeSet<String>,
    /// The end has come: what is answered from here on may have been lost in it, and promises nothing.
    frozen: bool,
    late: u64,
    checked: BTreeSet<String>,
    /// Requests without an answer, to be made again.
    unanswered: Vec<Unanswered>,
}

enum Unanswered {
    Upload(Content),
    Delete(String),
}

impl Workload {
    /// Uploads and deletes until the store is gone. Each worker has contents of its own, so that what it knows of a file
    /// is the whole truth about it.
    pub async fn work(self, http: Http, seed: u64) {
        let mut random = Random::new(seed);
        let mut mine: Vec<String> = Vec::new();
        loop {
            let answered = if random.below(4) == 0 && !mine.is_empty() {
                let at = usize::try_from(random.below(mine.len() as u64)).unwrap();
                self.delete(&http, &mine.swap_remove(at)).await
            } else {
                let size = match random.below(20) {
                    0 => 0,
                    1..=2 => random.below(3 << 20),
                    _ => random.below(40 << 10),
                };
                let content = Content::new(random.number(), size.max(1));
                let uploaded = self.upload(&http, content).await;
                mine.extend(uploaded.clone());
                uploaded.is_some()
            };
            if !answered {
                return self.known().oracle.request_cut();
            }
        }
    }

    /// As [`Workload::work`], until `stop` at the latest. Some of what was deleted is uploaded again at once (I4), and what
    /// had no answer is kept for [`Workload::make_good`].
    pub async fn work_until(self, http: Http, seed: u64, stop: Arc<AtomicBool>) {
        let mut random = Random::new(seed);
        let mut mine: Vec<Content> = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let mut content = Content::new(random.number(), 1 + random.below(40 << 10));
            if random.below(3) == 0 && !mine.is_empty() {
                let at = usize::try_from(random.below(mine.len() as u64)).unwrap();
                content = mine.swap_remove(at);
                if !self.delete(&http, &content.hash()).await {
                    self.note(Unanswered::Delete(content.hash())).await;
                    continue;
                }
                if random.below(2) == 0 {
                    continue;
                }
            }
            match self.upload(&http, content).await {
                Some(_) => mine.push(content),
                None => self.note(Unanswered::Upload(content)).await,
            }
        }
    }

    async fn note(&self, unanswered: Unanswered) {
        {
            let mut known = self.known();
            known.oracle.request_cut();
            known.unanswered.push(unanswered);
        }
        // Paces a worker that is refused at once, for as long as there is nobody to answer.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Waits for one more acknowledged upload: however slow the machine is, the work has begun then.
    pub async fn wait_for_an_answer(&self) {
        let before = self.tally().acknowledged;
        wait_until("one upload is answered", ANSWER_LIMIT, || async {
            self.tally().acknowledged > before
        })
        .await
        .unwrap();
    }

    /// Makes every request again that had no answer: now it must have one, as if nothing had been.
    pub async fn make_good(&self, http: &Http) {
        let unanswered = std::mem::take(&mut self.known().unanswered);
        for request in unanswered {
            match request {
                Unanswered::Upload(content) => {
                    let again = self.upload(http, content).await;
                    assert_eq!(again, Some(content.hash()));
                }
                Unanswered::Delete(hash) => {
                    let path = format!("/files/{hash}");
                    let again = http.call(http::Method::DELETE, &path, &[]).await.unwrap();
                    assert!([200, 404].contains(&again.status.as_u16()), "{again:?}");
                    self.known().oracle.delete_acknowledged(&hash);
                }
            }
        }
    }

    /// The files that must be there.
    pub fn present(&self) -> BTreeSet<String> {
        self.known().oracle.present()
    }

    async fn upload(&self, http: &Http, content: Content) -> Option<String> {
        let hash = content.hash();
        self.known().oracle.upload_started(&hash, content);
        let answer = http.upload(content).await.ok()?;
        assert_eq!(answer, hash);
        let mut known = self.known();
        if known.frozen {
            known.late += 1;
        } else {
            known.oracle.upload_acknowledged(&hash);
            known.held.insert(hash.clone());
        }
        Some(hash)
    }

    async fn delete(&self, http: &Http, hash: &str) -> bool {
        self.delete_started(hash);
        let path = format!("/files/{hash}");
        match http.call(http::Method::DELETE, &path, &[]).await {
            Ok(answer) if answer.status == 200 => {
                let mut known = self.known();
                if known.frozen {
                    known.late += 1;
                } else {
                    known.oracle.delete_acknowledged(hash);
                }
                true
            }
            _ => false,
        }
    }

    fn delete_started(&self, hash: &str) {
        let mut known = self.known();
        known.held.remove(hash);
        known.oracle.delete_started(hash);
    }

    /// From now on answers are no promises, until [`Workload::thaw`]: what follows may be answered too late to count.
    pub fn freeze(&self) {
        self.known().frozen = true;
    }

    /// Answers count again, once the workers of the round have ended.
    pub fn thaw(&self) {
        self.known().frozen = false;
    }

    /// Files acknowledged since the last check that must be on the disks.
    pub fn held(&self) -> BTreeSet<String> {
        self.known().held.clone()
    }

    /// Reads every file touched since the last check.
    pub async fn check_fresh(&self, http: &Http) {
        let fresh = self.take_fresh();
        self.check(http, fresh).await;
    }

    fn take_fresh(&self) -> Vec<(String, Content)> {
        let mut known = self.known();
        known.held.clear();
        let touched = known.oracle.touched().into_iter();
        touched
            .filter(|(hash, _)| known.checked.insert(hash.clone()))
            .collect()
    }

    /// Reads every file that was ever touched.
    pub async fn check_all(&self, http: &Http) {
        let touched = self.known().oracle.touched();
        self.check(http, touched).await;
    }

    async fn check(&self, http: &Http, files: Vec<(String, Content)>) {
        let mut reads = JoinSet::new();
        for (hash, content) in files {
            if reads.len() >= 16 {
                reads.join_next().await.unwrap().unwrap();
            }
            let (http, workload) = (http.clone(), self.clone());
            reads.spawn(async move {
                let found = http.download_matches(&hash, content).await.unwrap();
                workload.known().oracle.observed(&hash, found);
            });
        }
        while let Some(read) = reads.join_next().await {
            read.unwrap();
        }
    }

    pub fn tally(&self) -> Tally {
        self.known().oracle.tally()
    }

    /// Answers that came while frozen.
    pub fn late(&self) -> u64 {
        self.known().late
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }
}

/// What lies on the disks of all datanodes of a `dev` store.
#[derive(Debug, Default)]
pub struct Disks {
    /// Replicas of each file.
    pub copies: BTreeMap<String, usize>,
    pub wrong: Vec<PathBuf>,
    pub temporary: Vec<PathBuf>,
}

impl Disks {
    /// Reads all of it; nobody may be serving it.
    pub fn inspect(data: &Path) -> Self {
        let mut disks = Self::default();
        for node in 1..=3 {
            let findings = inspect_tree(&data.join(format!("datanode-{node}/replicas"))).unwrap();
            for hash in findings.replicas {
                *disks.copies.entry(hash).or_default() += 1;
            }
            disks.wrong.extend(findings.wrong);
            disks.temporary.extend(findings.temporary);
        }
        disks
    }

    pub fn replicas(&self) -> usize {
        self.copies.values().sum()
    }

    /// Those of `files` with fewer than `copies` replicas.
    pub fn short<'a>(&self, files: &'a BTreeSet<String>, copies: usize) -> Vec<&'a str> {
        let few = |hash: &&String| self.copies.get(*hash).is_none_or(|&found| found < copies);
        files.iter().filter(few).map(String::as_str).collect()
    }
}

/// What has to hold at the end of every run, whatever was done to the store: real work, no broken promise, clean disks, no
/// panic in the log.
pub fn assert_kept(tally: Tally, disks: &Disks, rounds: u64, log: &str) {
    assert!(
        tally.acknowledged >= rounds,
        "the store did hardly any work"
    );
    assert_eq!((tally.lost, tally.wrong, tally.resurrected), (0, 0, 0));
    assert_eq!(disks.wrong, Vec::<PathBuf>::new());
    assert_eq!(disks.temporary, Vec::<PathBuf>::new());
    assert_eq!(panics(log), Vec::<&str>::new());
}
