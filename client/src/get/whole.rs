//! [`WholeReads`]: small files of all downloads of one client, several in a call.
//!
//! What is wanted from one datanode while a call to it is under way goes together in the next one. Each has its own result, but
//! not its own time: so only the first try of a read goes this way, and what is asked after it, as a hedge or after a failure,
//! goes alone.

use std::time::Duration;

use futures_util::future::join_all;
use richardstore_proto::wire;
use richardstore_proto::wire::data_node_client::DataNodeClient;
use richardstore_proto::{
    DataNodeInfo, ErrorCode, MAX_WANTED_BYTES, MAX_WANTED_FILES, NodeId, StoreError, WantedFile,
    WantedFiles, WholeReads as Answers,
};
use richardstore_runtime::{Channels, KeyedCalls, Tasks};

use super::replica::{ReplicaRead, WantedRange, silent};

/// One read of all of a small file.
struct Wish {
    node: DataNodeInfo,
    wanted: WantedRange,
    progress_timeout: Duration,
}

type Answer = Result<ReplicaRead, StoreError>;

/// The small files that one client reads. A node with its address: one that comes back with another is reached there.
pub(crate) struct WholeReads {
    calls: KeyedCalls<(NodeId, String), Wish, Answer>,
}

impl WholeReads {
    pub(crate) fn new(channels: &Channels, tasks: &Tasks) -> Self {
        let channels = channels.clone();
        let calls = KeyedCalls::new(tasks, MAX_WANTED_FILES, move |wishes| {
            let channels = channels.clone();
            Box::pin(async move { read_together(&channels, wishes).await })
        });
        Self { calls }
    }

    /// Whether `wanted` is all of a file that is small enough.
    pub(super) fn take(wanted: &WantedRange) -> bool {
        (wanted.offset, wanted.end) == (0, wanted.file.size)
            && wanted.file.size <= MAX_WANTED_BYTES as u64
    }

    /// Reads all of the file from `node`.
    ///
    /// # Errors
    /// As [`ReplicaRead::open`].
    pub(super) async fn read(
        &self,
        node: DataNodeInfo,
        wanted: WantedRange,
        progress_timeout: Duration,
    ) -> Answer {
        let key = (node.node_id, node.address.clone());
        let wish = Wish {
            node,
            wanted,
            progress_timeout,
        };
        let answer = tokio::time::timeout(progress_timeout, self.calls.answer(key, wish));
        let answer = answer.await.map_err(|_| silent(progress_timeout))?;
        answer.unwrap_or_else(|| {
            Err(StoreError::new(
                ErrorCode::Unavailable,
                "the call was cut off",
            ))
        })
    }
}

/// Files of one node.
async fn read_together(channels: &Channels, wishes: Vec<Wish>) -> Vec<Answer> {
    let wanted = wishes.iter().map(|wish| WantedFile {
        hash: wish.wanted.file.hash,
        request_id: wish.wanted.request_id.clone(),
    });
    let request = WantedFiles(wanted.collect());
    let limit = wishes[0].progress_timeout;
    let sent = async {
        let channel = channels.get(&wishes[0].node.address)?;
        let mut client = DataNodeClient::new(channel);
        let answer = client.read_files(wire::ReadFilesRequest::from(request));
        let answer = tokio::time::timeout(limit, answer).await;
        answer.map_err(|_| silent(limit))
    };
    let answer = match sent.await {
        Ok(Ok(answer)) => Answers::try_from(answer.into_inner()).map_err(StoreError::from),
        // An older datanode, in the middle of an upgrade.
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {
            return join_all(wishes.into_iter().map(|wish| stream(channels, wish))).await;
        }
        Ok(Err(status)) => Err(status.into()),
        Err(error) => Err(error),
    };
    let error = match answer {
        Ok(Answers(reads)) if reads.len() == wishes.len() => {
            let reads = reads.into_iter().zip(wishes);
            return reads
                .map(|(read, wish)| ReplicaRead::of_whole(wish.node, &wish.wanted, read?))
                .collect();
        }
        Ok(_) => StoreError::new(ErrorCode::Internal, "not one answer for each file"),
        Err(error) => error,
    };
    wishes.iter().map(|_| Err(error.clone())).collect()
}

async fn stream(channels: &Channels, wish: Wish) -> Answer {
    ReplicaRead::open(channels, wish.node, wish.wanted, wish.progress_timeout).await
}
