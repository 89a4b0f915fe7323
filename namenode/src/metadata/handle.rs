//! [`Metadata`]: mutations in, durable replies out. One writer task commits what has gathered while it wrote before.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::ClusterId;
use richardstore_runtime::{Environment, Offload, Tasks};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::ledger::{Ledger, LedgerFailure, Replies};
use super::open::{OpenError, open_directory};
use super::tables::ViewError;
use super::view::View;
use crate::mutation::{Mutation, MutationError, Reply};

/// Limits of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataOptions {
    /// Memory for pages of the database, in bytes.
    pub cache_bytes: usize,
    /// Mutations in one commit at most. Each commit costs two syncs, whatever its size.
    pub batch_limit: usize,
    /// Mutations waiting at most; past it, `submit` waits.
    pub queue_limit: usize,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            batch_limit: 1024,
            queue_limit: 4096,
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
}

struct Request {
    mutation: Mutation,
    reply: oneshot::Sender<Result<Reply, MutationError>>,
}

/// The task that owns all writing.
struct Writer {
    ledger: Arc<Ledger>,
    queue: mpsc::Receiver<Request>,
    batch_limit: usize,
    offload: Offload,
    stopping: CancellationToken,
    failed: CancellationToken,
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
        let opened = open_directory(dir, options.cache_bytes)?;
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
        let writer = Writer {
            ledger: Arc::clone(&ledger),
            queue: receiver,
            batch_limit: options.batch_limit.max(1),
            offload: env.offload,
            stopping: tasks.stopping(),
            failed: failed.clone(),
        };
        tasks.spawn(writer.run());
        Self {
            inner: Arc::new(Inner {
                queue,
                ledger,
                cluster_id,
                tasks,
                failed,
            }),
        }
    }

    /// Applies a mutation and returns when it is durable, together with whatever else was waiting. Mutations of one caller
    /// that waits for each reply are applied in order. Dropping the future does not take the mutation back.
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

    /// Cancelled when the database has failed. Every mutation is refused from then on; the process has to exit and open
    /// the database again, since nobody knows how much of the last batch is on disk.
    pub fn failed(&self) -> CancellationToken {
        self.inner.failed.clone()
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
        let mut requests = Vec::new();
        let mut closing = false;
        loop {
            let received = tokio::select! {
                biased;
                () = self.stopping.cancelled(), if !closing => {
                    // What was sent before is still received, then the channel ends.
                    self.queue.close();
                    closing = true;
                    continue;
                }
                received = self.queue.recv_many(&mut requests, self.batch_limit) => received,
            };
            if received == 0 {
                return;
            }
            if let Err(failure) = self.commit(&mut requests).await {
                self.fail(&failure).await;
                return;
            }
        }
    }

    async fn commit(&self, requests: &mut Vec<Request>) -> Result<(), LedgerFailure> {
        let (mutations, answers): (Vec<_>, Vec<_>) = requests
            .drain(..)
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
        self.offload
            .run(move || ledger.run(&mutations))
            .await
            .unwrap_or_else(|error| Err(LedgerFailure(error.to_string())))
    }

    async fn fail(&mut self, failure: &LedgerFailure) {
        tracing::error!(%failure, "the metadata database failed; the namenode has to be restarted");
        self.failed.cancel();
        self.queue.close();
        while let Some(request) = self.queue.recv().await {
            let _ = request
                .reply
                .send(Err(MutationError::Storage(failure.0.clone())));
        }
    }
}
