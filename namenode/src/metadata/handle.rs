//! [`Metadata`]: mutations in, durable replies out. One writer task commits what has gathered while it wrote before, and leaves
//! large pieces for their turn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use richardstore_proto::ClusterId;
use richardstore_runtime::{Environment, Offload, Tasks};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::commits::Commits;
use super::ledger::{Ledger, LedgerFailure, Replies};
use super::open::{OpenError, open_directory};
use super::room::Tight;
use super::tables::ViewError;
use super::turns::{Turns, records};
use super::view::View;
use crate::mutation::{Mutation, MutationError, Reply};

/// Limits of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataOptions {
    /// Memory for pages of the database, in bytes.
    pub cache_bytes: usize,
    /// Mutations in one commit at most. Each commit costs two syncs, whatever its size.
    pub batch_limit: usize,
    /// Mutations waiting in the queue at most, and as many for their turn; past it, `submit` waits.
    pub queue_limit: usize,
    /// Room on the disk that stays free, in bytes; see `Tight`. 0 looks at nothing.
    pub reserve_bytes: u64,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            batch_limit: 1024,
            queue_limit: 4096,
            reserve_bytes: 0,
        }
    }
}

/// How long closing waits for the batch under way.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// The metadata. Cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    queue: mpsc::Sender<Request>,
    ledger: Arc<Ledger>,
    cluster_id: ClusterId,
    tasks: Tasks,
    failed: CancellationToken,
    commits: Arc<Commits>,
}

struct Request {
    mutation: Mutation,
    reply: oneshot::Sender<Result<Reply, MutationError>>,
}

/// The task that owns all writing.
struct Writer {
    ledger: Arc<Ledger>,
    queue: mpsc::Receiver<Request>,
    turns: Turns<Request>,
    turns_limit: usize,
    batch_limit: usize,
    offload: Offload,
    stopping: CancellationToken,
    failed: CancellationToken,
    commits: Arc<Commits>,
}

impl Metadata {
    /// Opens the metadata in `dir`, or makes new metadata where there never was any. To be called within a tokio
    /// runtime: it starts the writer.
    ///
    /// # Errors
    /// [`OpenError`]. A missing database beside a known cluster id is one of them: new metadata would know no file, and
    /// every replica in the cluster would look like an orphan (I8).
    pub fn open(
        dir: &Path,
        options: &MetadataOptions,
        env: &Environment,
    ) -> Result<Self, OpenError> {
        let opened = open_directory(
            dir,
            options.cache_bytes,
            options.reserve_bytes,
            env.entropy.as_ref(),
        )?;
        Ok(Self::start(opened.ledger, opened.cluster_id, options, env))
    }

    fn start(
        ledger: Arc<Ledger>,
        cluster_id: ClusterId,
        options: &MetadataOptions,
        env: &Environment,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(options.queue_limit.max(1));
        let tasks = Tasks::new();
        let failed = CancellationToken::new();
        let commits = Arc::new(Commits::default());
        let writer = Writer {
            ledger: Arc::clone(&ledger),
            queue: receiver,
            turns: Turns::default(),
            turns_limit: options.queue_limit.max(1),
            batch_limit: options.batch_limit.max(1),
            offload: env.offload,
            stopping: tasks.stopping(),
            failed: failed.clone(),
            commits: commits.clone(),
        };
        tasks.spawn(writer.run());
        Self {
            inner: Arc::new(Inner {
                queue,
                ledger,
                cluster_id,
                tasks,
                failed,
                commits,
            }),
        }
    }

    /// Applies a mutation and returns when it is durable, together with others that were waiting. Mutations of one caller
    /// that waits for each reply are applied in order; of others, those with few records may be applied before those with many.
    /// Dropping the future does not take the mutation back.
    ///
    /// # Errors
    /// The refusals of [`MutationError`]. After [`MutationError::Storage`] it is not known whether the mutation is on disk.
    pub async fn submit(&self, mutation: Mutation) -> Result<Reply, MutationError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { mutation, reply };
        if self.inner.queue.send(request).await.is_err() {
            return Err(self.why_not());
        }
        answer.await.unwrap_or_else(|_| Err(self.why_not()))
    }

    /// A snapshot of what is durable now. It sees every mutation that has been answered.
    ///
    /// # Errors
    /// [`ViewError::Storage`] when the database failed.
    pub fn view(&self) -> Result<View, ViewError> {
        self.inner.ledger.view()
    }

    /// The cluster that this metadata describes.
    pub fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id
    }

    /// What the disk lacks; `None` while there is enough. Asks the filesystem, which does not wait for the disk.
    pub fn tight(&self) -> Option<Tight> {
        self.inner.ledger.tight()
    }

    /// Cancelled when the database has failed. Every mutation is refused from then on; the process has to exit and open
    /// the database again, since nobody knows how much of the last batch is on disk.
    pub fn failed(&self) -> CancellationToken {
        self.inner.failed.clone()
    }

    /// The commits since the start.
    pub fn commits(&self) -> &Commits {
        &self.inner.commits
    }

    /// Mutations that wait for the writer.
    pub fn queued(&self) -> usize {
        let queue = &self.inner.queue;
        let left = self.inner.commits.left.load(Ordering::Relaxed);
        left + queue.max_capacity() - queue.capacity()
    }

    /// Takes no more mutations, finishes those that were taken, and closes the file once the last clone and the last view
    /// are gone.
    pub async fn close(self) {
        self.inner.tasks.stop(CLOSE_LIMIT).await;
    }

    fn why_not(&self) -> MutationError {
        if self.inner.failed.is_cancelled() {
            MutationError::Storage("it failed before".to_owned())
        } else {
            MutationError::Closed
        }
    }
}

impl Writer {
    async fn run(mut self) {
        while self.gather().await {
            let requests = self.turns.next(self.batch_limit);
            let left = self.turns.len();
            self.commits.left.store(left, Ordering::Relaxed);
            if let Err(failure) = self.commit(requests).await {
                self.fail(&failure).await;
                return;
            }
        }
    }

    /// Takes in what waits. Where that is nothing, waits for it; `false` where nothing will come any more.
    async fn gather(&mut self) -> bool {
        if self.stopping.is_cancelled() {
            // What was sent before is still received, then the channel ends.
            self.queue.close();
        }
        // Pieces that wait take no place from what is short.
        let mut received = Vec::new();
        while received.len() < self.batch_limit
            && self.turns.len() + received.len() < self.turns_limit
            && let Ok(request) = self.queue.try_recv()
        {
            received.push(request);
        }
        while received.is_empty() && self.turns.len() == 0 {
            tokio::select! {
                biased;
                () = self.stopping.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                count = self.queue.recv_many(&mut received, self.batch_limit) => {
                    if count == 0 {
                        return false;
                    }
                }
            }
        }
        for request in received {
            self.turns.push(records(&request.mutation), request);
        }
        true
    }

    async fn commit(&self, requests: Vec<Request>) -> Result<(), LedgerFailure> {
        let (mutations, answers): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.mutation, request.reply))
            .unzip();
        let replies = match self.run_batch(mutations).await {
            Ok(replies) => replies,
            Err(failure) => {
                // Before the answers: who gets one must find the failure announced.
                self.failed.cancel();
                for answer in answers {
                    let _ = answer.send(Err(MutationError::Storage(failure.0.clone())));
                }
                return Err(failure);
            }
        };
        for (answer, reply) in answers.into_iter().zip(replies) {
            // A caller that went away does not need its answer.
            let _ = answer.send(reply);
        }
        Ok(())
    }

    async fn run_batch(&self, mutations: Vec<Mutation>) -> Result<Replies, LedgerFailure> {
        let ledger = Arc::clone(&self.ledger);
        let (count, begun) = (mutations.len(), Instant::now());
        let replies = self
            .offload
            .run(move || ledger.run(&mutations))
            .await
            .unwrap_or_else(|error| Err(LedgerFailure(error.to_string())));
        self.commits.observe(count, begun.elapsed());
        replies
    }

    async fn fail(&mut self, failure: &LedgerFailure) {
        tracing::error!(%failure, "the metadata database failed; the namenode has to be restarted");
        self.failed.cancel();
        self.queue.close();
        self.commits.left.store(0, Ordering::Relaxed);
        let refused = || Err(MutationError::Storage(failure.0.clone()));
        for request in self.turns.drain() {
            let _ = request.reply.send(refused());
        }
        while let Some(request) = self.queue.recv().await {
            let _ = request.reply.send(refused());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::crash_disk::CrashDisk;
    use super::super::database::format;
    use super::super::fixture::{
        CLUSTER, EXPIRES, JOURNAL, allocation, commit, generation, hash, registration,
    };
    use super::*;
    use redb::Builder;

    fn on_disk(disk: &CrashDisk, options: &MetadataOptions) -> Metadata {
        let database = Builder::new().create_with_backend(disk.backend()).unwrap();
        format(&database, CLUSTER).unwrap();
        let ledger = Ledger::new(database, None);
        Metadata::start(ledger, CLUSTER, options, &Environment::system())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_callers_get_each_its_own_answer_and_see_it_in_the_next_view() {
        let dir = tempfile::tempdir().unwrap();
        let options = MetadataOptions {
            batch_limit: 7,
            queue_limit: 3,
            ..MetadataOptions::default()
        };
        let metadata = Metadata::open(dir.path(), &options, &Environment::system()).unwrap();
        metadata.submit(registration(1, 1, JOURNAL)).await.unwrap();
        let callers: Vec<_> = (0..50u8)
            .map(|file| {
                let metadata = metadata.clone();
                tokio::spawn(async move {
                    let Ok(Reply::Writes { first }) = metadata.submit(allocation(1)).await else {
                        panic!("no allocation");
                    };
                    metadata.submit(commit(first, file, &[1])).await.unwrap();
                    let found = metadata.view().unwrap().file(&hash(file)).unwrap();
                    assert_eq!(found.unwrap().generation, first);
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(metadata.view().unwrap().counts().unwrap().files, 50);
        metadata.close().await;
    }

    #[tokio::test]
    async fn i01_what_was_answered_is_there_after_closing_and_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let (options, env) = (MetadataOptions::default(), Environment::system());
        let metadata = Metadata::open(dir.path(), &options, &env).unwrap();
        let cluster_id = metadata.cluster_id();
        metadata.submit(allocation(5)).await.unwrap();
        let late = metadata.clone();
        metadata.close().await;
        assert_eq!(late.submit(allocation(1)).await, Err(MutationError::Closed));
        drop(late);
        let metadata = Metadata::open(dir.path(), &options, &env).unwrap();
        assert_eq!(metadata.cluster_id(), cluster_id);
        let first = generation(6);
        assert_eq!(
            metadata.submit(allocation(1)).await,
            Ok(Reply::Writes { first })
        );
    }

    #[tokio::test]
    async fn closing_answers_what_was_taken_in() {
        let disk = CrashDisk::default();
        let metadata = on_disk(&disk, &MetadataOptions::default());
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let metadata = metadata.clone();
                tokio::spawn(async move { metadata.submit(allocation(1)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        metadata.close().await;
        for caller in waiting {
            assert!(caller.await.unwrap().is_ok());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closing_ends_though_mutations_keep_coming() {
        let options = MetadataOptions {
            batch_limit: 4,
            queue_limit: 4,
            ..MetadataOptions::default()
        };
        let metadata = on_disk(&CrashDisk::default(), &options);
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let metadata = metadata.clone();
                tokio::spawn(async move { while metadata.submit(allocation(1)).await.is_ok() {} })
            })
            .collect();
        metadata.submit(allocation(1)).await.unwrap();
        metadata.close().await;
        let ended = futures_util::future::join_all(callers);
        let ended = tokio::time::timeout(CLOSE_LIMIT, ended).await;
        ended.expect("callers are refused once it is closed");
    }

    #[tokio::test]
    async fn after_a_storage_error_everything_is_refused_and_the_role_is_told() {
        let disk = CrashDisk::default();
        let metadata = on_disk(&disk, &MetadataOptions::default());
        metadata.submit(allocation(1)).await.unwrap();
        let failed = metadata.failed();
        assert!(!failed.is_cancelled());
        disk.die_in(3);
        let reply = metadata.submit(allocation(1)).await;
        assert!(matches!(reply, Err(MutationError::Storage(_))), "{reply:?}");
        assert!(failed.is_cancelled());
        disk.crash(|| true);
        let reply = metadata.submit(allocation(1)).await;
        assert!(matches!(reply, Err(MutationError::Storage(_))), "{reply:?}");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_take_its_mutation_back() {
        let disk = CrashDisk::default();
        let metadata = on_disk(&disk, &MetadataOptions::default());
        {
            let submit = metadata.submit(allocation(2));
            tokio::pin!(submit);
            // Polled once: the mutation is in the queue.
            let polled = futures_poll_once(submit.as_mut()).await;
            assert!(polled.is_none());
        }
        let first = generation(3);
        assert_eq!(
            metadata.submit(allocation(1)).await,
            Ok(Reply::Writes { first })
        );
    }

    #[tokio::test]
    async fn a_start_counts_up_over_reopening() {
        let dir = tempfile::tempdir().unwrap();
        for epoch in 1..=3 {
            let metadata = Metadata::open(
                dir.path(),
                &MetadataOptions::default(),
                &Environment::system(),
            )
            .unwrap();
            let start = Mutation::StartEpoch {
                now_ms: 1,
                writes_expire_at_ms: EXPIRES,
            };
            let epoch = richardstore_proto::NamenodeEpoch(epoch);
            assert_eq!(metadata.submit(start).await, Ok(Reply::Epoch(epoch)));
            assert_eq!(metadata.view().unwrap().epoch(), Ok(epoch));
            metadata.close().await;
        }
    }

    async fn futures_poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
