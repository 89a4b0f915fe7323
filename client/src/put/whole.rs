//! [`WholeWrites`]: small files of all uploads of one client on their way to datanodes, several in a call.
//!
//! What goes to one head while a call to it is under way goes together in the next one, as far as it goes down one chain. The
//! namenode gives what asks together one chain for that reason.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use richardstore_proto::wire;
use richardstore_proto::{
    DataNodeInfo, ErrorCode, MAX_WHOLE_FILES, PipelineResult, StoreError, WholeFile, WholeFiles,
    WholeResults, WriteTrailer,
};
use richardstore_runtime::{Channels, JointCalls, Tasks, answer_limit};

use super::pipeline::{WriteDescription, connect, silent, write_whole};

/// Heads that are remembered. To forget one only costs what goes to it some company.
const MOST_HEADS: usize = 1024;

type Result = std::result::Result<PipelineResult, StoreError>;

/// A file whose bytes are all here, and its chain.
#[derive(Clone)]
pub(crate) struct WholeWrite {
    pub(crate) head: DataNodeInfo,
    pub(crate) rest: Vec<DataNodeInfo>,
    pub(crate) write: WriteDescription,
    pub(crate) data: Bytes,
    pub(crate) trailer: WriteTrailer,
}

/// The small files of one client.
pub(crate) struct WholeWrites {
    channels: Channels,
    tasks: Tasks,
    /// By the head's address.
    heads: Mutex<HashMap<String, JointCalls<WholeWrite, Result>>>,
}

impl WholeWrites {
    pub(crate) fn new(channels: &Channels, tasks: &Tasks) -> Self {
        Self {
            channels: channels.clone(),
            tasks: tasks.clone(),
            heads: Mutex::default(),
        }
    }

    /// Sends a file down its chain. Returns who of the chain has it.
    ///
    /// # Errors
    /// What the head said, or that it took too long.
    pub(crate) async fn write(&self, write: WholeWrite) -> Result {
        let calls = self.calls(&write.head.address);
        calls.answer(write).await.unwrap_or_else(|| {
            Err(StoreError::new(
                ErrorCode::Unavailable,
                "the call was cut off",
            ))
        })
    }

    fn calls(&self, address: &str) -> JointCalls<WholeWrite, Result> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = heads.get(address) {
            return calls.clone();
        }
        if heads.len() >= MOST_HEADS {
            heads.clear();
        }
        let channels = self.channels.clone();
        let calls = JointCalls::new(&self.tasks, MAX_WHOLE_FILES, move |writes| {
            let channels = channels.clone();
            Box::pin(async move { write_all(&channels, writes).await })
        });
        heads.insert(address.to_owned(), calls.clone());
        calls
    }
}

/// One call for each chain, side by side.
async fn write_all(channels: &Channels, writes: Vec<WholeWrite>) -> Vec<Result> {
    let mut chains: Vec<Vec<(usize, WholeWrite)>> = Vec::new();
    for (place, write) in writes.into_iter().enumerate() {
        let fits = |chain: &&mut Vec<(usize, WholeWrite)>| {
            chain[0].1.rest == write.rest && chain[0].1.write.cluster_id == write.write.cluster_id
        };
        match chains.iter_mut().find(fits) {
            Some(chain) => chain.push((place, write)),
            None => chains.push(vec![(place, write)]),
        }
    }
    let calls = chains.into_iter().map(|chain| async {
        let (places, writes): (Vec<usize>, Vec<_>) = chain.into_iter().unzip();
        let results = write_together(channels, writes).await;
        places.into_iter().zip(results)
    });
    let mut results: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Files of one chain.
async fn write_together(channels: &Channels, writes: Vec<WholeWrite>) -> Vec<Result> {
    let (head, rest) = (&writes[0].head, &writes[0].rest);
    let whole = WholeFiles {
        chain: rest.clone(),
        cluster_id: writes[0].write.cluster_id,
        files: writes.iter().map(WholeFile::from).collect(),
    };
    let limit = answer_limit(1 + rest.len(), whole.bytes());
    let sent = async {
        let mut client = connect(channels, head)?;
        let answer = client.write_files(wire::WriteFilesRequest::from(whole));
        let answer = tokio::time::timeout(limit, answer).await;
        answer.map_err(|_| silent(limit))
    };
    let answer = match sent.await {
        Ok(Ok(answer)) => WholeResults::try_from(answer.into_inner()).map_err(StoreError::from),
        // An older datanode, in the middle of an upgrade.
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {
            let alone = writes.into_iter().map(|write| write_alone(channels, write));
            return join_all(alone).await;
        }
        Ok(Err(status)) => Err(status.into()),
        Err(error) => Err(error),
    };
    match answer {
        Ok(WholeResults(results)) if results.len() == writes.len() => results,
        Ok(_) => {
            let error = StoreError::new(ErrorCode::Internal, "not one answer for each file");
            vec![Err(error); writes.len()]
        }
        Err(error) => vec![Err(error); writes.len()],
    }
}

async fn write_alone(channels: &Channels, write: WholeWrite) -> Result {
    let chain = (&write.head, &write.rest[..]);
    write_whole(channels, chain, &write.write, write.data, write.trailer).await
}

impl From<&WholeWrite> for WholeFile {
    fn from(write: &WholeWrite) -> Self {
        Self {
            generation: write.write.generation,
            request_id: write.write.request_id.clone(),
            data: write.data.clone(),
            trailer: write.trailer,
        }
    }
}
