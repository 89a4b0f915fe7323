//! [`Lease`]: an allocation of the namenode's that is renewed while it is held, and given back unless it was committed (I2).

use std::time::Duration;

use richardstore_proto::Generation;
use richardstore_runtime::Tasks;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::namenode::NameNode;

/// A namenode that was away is asked again after this long, so that a restart does not cost a long upload its allocation.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Dropping it gives the allocation back in the background, also when the future of an upload is dropped in the middle.
pub(crate) struct Lease {
    namenode: NameNode,
    tasks: Tasks,
    generation: Generation,
    ended: CancellationToken,
    lost: CancellationToken,
    committed: bool,
    runtime: Handle,
}

impl Lease {
    /// Holds `generation`, which expires in `expires_in_ms` unless it is renewed. Must be called on a runtime.
    pub(crate) fn hold(
        namenode: &NameNode,
        tasks: &Tasks,
        generation: Generation,
        expires_in_ms: u64,
    ) -> Self {
        let lease = Self {
            namenode: namenode.clone(),
            tasks: tasks.clone(),
            generation,
            ended: CancellationToken::new(),
            lost: CancellationToken::new(),
            committed: false,
            runtime: Handle::current(),
        };
        // A third, so that two renewals may fail before anything is lost.
        let every = Duration::from_millis((expires_in_ms / 3).max(1));
        tasks.spawn(renew(
            namenode.clone(),
            generation,
            every,
            lease.ended.clone(),
            lease.lost.clone(),
        ));
        lease
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The namenode gave the write up: nothing that is still sent can be committed.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// The file is committed; there is nothing to give back.
    pub(crate) fn committed(mut self) {
        self.committed = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ended.cancel();
        if self.committed {
            return;
        }
        let namenode = self.namenode.clone();
        let generation = self.generation;
        let _context = self.runtime.enter();
        self.tasks.spawn(async move {
            // One that does not arrive is no leak: the namenode expires the allocation.
            if let Err(error) = namenode.abandon(&[generation]).await {
                tracing::warn!(%generation, %error, "could not abandon a write; it expires by itself");
            }
        });
    }
}

async fn renew(
    namenode: NameNode,
    generation: Generation,
    every: Duration,
    ended: CancellationToken,
    lost: CancellationToken,
) {
    let mut pause = every;
    loop {
        let renewal = async {
            tokio::time::sleep(pause).await;
            namenode.renew(generation).await
        };
        let known = tokio::select! {
            biased;
            () = ended.cancelled() => return,
            known = renewal => known,
        };
        match known {
            Ok(true) => pause = every,
            Ok(false) => return lost.cancel(),
            Err(error) => {
                tracing::debug!(%generation, %error, "could not renew a write");
                pause = RETRY_AFTER.min(every);
            }
        }
    }
}
