//! A datanode with its disk in memory. The head of a chain puts the bytes onto the disks behind it itself.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use futures_util::{Stream, stream};
use richardstore_proto::wire::data_node_server::DataNode;
use richardstore_proto::wire::read_file_response_part::Part as ReadPart;
use richardstore_proto::wire::write_file_request_part::Part as WritePart;
use richardstore_proto::wire::{self, hash_field};
use richardstore_proto::{
    ContentHash, DataNodeInfo, ErrorCode, FileLocations, Generation, NodeFailure, NodeId,
    NodeState, PipelineResult, StoreError, WantedFiles, WholeFiles, WholeRead, WholeReads,
    WholeResults, WriteTrailer,
};
use tonic::{Request, Response, Status, Streaming};

use super::file_info;

/// Bytes of one message of a read.
const MESSAGE_BYTES: usize = 64 << 10;

/// What goes wrong when this node is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFault {
    /// Nothing.
    None,
    /// It accepts the call and says nothing.
    Silent,
    /// It sends this many bytes and then nothing.
    StallAfter(usize),
    /// It breaks after this many bytes.
    BreakAfter(usize),
    /// It ends the stream after this many bytes, as if that were all.
    EndAfter(usize),
    /// It found its replica to be corrupt.
    SaysCorrupt,
    /// It sends wrong bytes without noticing.
    WrongBytes,
    /// It has no such file.
    NotFound,
    /// It is of an older version, which knows no small files in one message.
    StreamsOnly,
}

/// What goes wrong when this node is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing.
    None,
    /// As the head, it breaks after this many bytes.
    BreakAfter(usize),
    /// As the head, it publishes and its answer gets lost.
    AnswerLost,
    /// It does not take the file, wherever in the chain it is.
    Refuses,
    /// It is gone, and cuts off all that are behind it in the chain.
    Gone,
    /// It is of an older version, which takes files only by streams.
    StreamsOnly,
}

/// One datanode.
pub struct Node {
    pub info: DataNodeInfo,
    /// All nodes of the cluster.
    pub all: OnceLock<Vec<Arc<Node>>>,
    disk: Mutex<BTreeMap<ContentHash, Bytes>>,
    read_fault: Mutex<ReadFault>,
    write_fault: Mutex<WriteFault>,
    /// Reads that were asked for.
    pub reads: AtomicUsize,
    /// Reads that were cancelled while this node was silent.
    pub cancelled: Arc<AtomicUsize>,
    /// Streams that ended without a trailer.
    pub cut_writes: AtomicUsize,
    /// Bytes that were sent to this node as the head of a chain.
    pub received_bytes: AtomicUsize,
    /// Copies this node was asked to make.
    pub copies: AtomicUsize,
    /// Files of each message with whole ones.
    pub whole: Mutex<Vec<usize>>,
    /// Files of each call that wanted whole ones.
    pub whole_reads: Mutex<Vec<usize>>,
}

impl Node {
    pub fn new(number: u8, address: String) -> Self {
        Self {
            info: DataNodeInfo {
                node_id: NodeId::new([number; 16]),
                address,
                state: NodeState::Live,
                name: format!("datanode-{number}"),
                rack: String::new(),
                generation: Generation(1),
            },
            all: OnceLock::new(),
            disk: Mutex::default(),
            read_fault: Mutex::new(ReadFault::None),
            write_fault: Mutex::new(WriteFault::None),
            reads: AtomicUsize::new(0),
            cancelled: Arc::default(),
            cut_writes: AtomicUsize::new(0),
            received_bytes: AtomicUsize::new(0),
            copies: AtomicUsize::new(0),
            whole: Mutex::default(),
            whole_reads: Mutex::default(),
        }
    }

    pub fn fail_reads(&self, fault: ReadFault) {
        *self.read_fault.lock().unwrap() = fault;
    }

    pub fn fail_writes(&self, fault: WriteFault) {
        *self.write_fault.lock().unwrap() = fault;
    }

    pub fn disk(&self) -> MutexGuard<'_, BTreeMap<ContentHash, Bytes>> {
        self.disk.lock().unwrap()
    }

    fn write_fault(&self) -> WriteFault {
        *self.write_fault.lock().unwrap()
    }

    /// Puts `bytes` onto the disks of `chain`, except of those that refuse.
    fn publish(&self, chain: &[NodeId], hash: ContentHash, bytes: &Bytes) -> PipelineResult {
        let mut result = PipelineResult::default();
        let mut cut_off = false;
        for id in chain {
            let all = self.all.get().unwrap();
            let node = all.iter().find(|node| node.info.node_id == *id).unwrap();
            cut_off |= node.write_fault() == WriteFault::Gone;
            if cut_off {
                result.failed.push(NodeFailure {
                    node_id: *id,
                    code: ErrorCode::Unavailable,
                    message: "the stream broke".into(),
                });
            } else if node.write_fault() == WriteFault::Refuses {
                result.failed.push(NodeFailure {
                    node_id: *id,
                    code: ErrorCode::StorageFull,
                    message: "no room".into(),
                });
            } else {
                node.disk().insert(hash, bytes.clone());
                result.acknowledged.push(*id);
            }
        }
        result
    }

    async fn receive(
        &self,
        mut stream: Streaming<wire::WriteFileRequestPart>,
    ) -> Result<PipelineResult, Status> {
        let mut chain = vec![self.info.node_id];
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await? {
            match part.part.unwrap() {
                WritePart::Header(header) => {
                    assert_eq!(header.cluster_id, super::CLUSTER);
                    let rest = header.stream.unwrap().nodes;
                    chain.extend(rest.into_iter().map(id_of));
                }
                WritePart::Chunk(chunk) => {
                    assert!(chunk.len() <= 256 << 10, "{} bytes", chunk.len());
                    self.received_bytes.fetch_add(chunk.len(), Ordering::SeqCst);
                    bytes.extend_from_slice(&chunk);
                }
                WritePart::Trailer(trailer) => {
                    let trailer = WriteTrailer::try_from(trailer).unwrap();
                    return self.take(&chain, &bytes.into(), trailer);
                }
            }
            self.break_after(bytes.len())?;
        }
        Err(Status::cancelled("no trailer"))
    }

    fn receive_whole(&self, whole: WholeFiles) -> Result<WholeResults, Status> {
        let mut chain = vec![self.info.node_id];
        chain.extend(whole.chain.iter().map(|node| node.node_id));
        self.whole.lock().unwrap().push(whole.files.len());
        let mut results = Vec::new();
        for file in whole.files {
            self.received_bytes
                .fetch_add(file.data.len(), Ordering::SeqCst);
            self.break_after(file.data.len())?;
            results.push(Ok(self.take(&chain, &file.data, file.trailer)?));
        }
        Ok(WholeResults(results))
    }

    fn take(
        &self,
        chain: &[NodeId],
        bytes: &Bytes,
        trailer: WriteTrailer,
    ) -> Result<PipelineResult, Status> {
        let file = file_info(bytes);
        assert_eq!((file.hash, file.size), (trailer.hash, trailer.size));
        assert_eq!(file.blake3_root, trailer.blake3_root);
        let result = self.publish(chain, file.hash, bytes);
        match self.write_fault() {
            WriteFault::AnswerLost => Err(Status::unavailable("answer lost")),
            _ => Ok(result),
        }
    }

    fn break_after(&self, bytes: usize) -> Result<(), Status> {
        match self.write_fault() {
            WriteFault::BreakAfter(limit) if bytes >= limit => {
                Err(Status::unavailable("power cut"))
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, request: wire::ReadReplicaRequest) -> Result<Parts, Status> {
        let hash = hash_field("hash", &request.hash)?;
        let fault = *self.read_fault.lock().unwrap();
        let stored = self.disk().get(&hash).cloned();
        let stored = match (stored, fault) {
            (None, _) | (_, ReadFault::NotFound) => {
                return Err(StoreError::new(ErrorCode::NotFound, "no such replica").into());
            }
            (_, ReadFault::SaysCorrupt) => {
                return Err(StoreError::new(ErrorCode::Corrupt, "a bit has flipped").into());
            }
            (_, ReadFault::Silent) => {
                let _cancelled = CountOnDrop(self.cancelled.clone());
                std::future::pending().await
            }
            (Some(stored), _) => stored,
        };
        let start = usize::try_from(request.offset).unwrap();
        let end = start + usize::try_from(request.length).unwrap();
        let mut bytes = stored.slice(start..end);
        if fault == ReadFault::WrongBytes {
            bytes = bytes.iter().map(|byte| !byte).collect();
        }
        let mut file = file_info(&stored);
        file.hash = hash;
        let info = FileLocations {
            file,
            nodes: Vec::new(),
        };
        let mut parts = vec![Ok(ReadPart::Info(info.into()))];
        let limit = match fault {
            ReadFault::BreakAfter(limit)
            | ReadFault::EndAfter(limit)
            | ReadFault::StallAfter(limit) => limit.min(bytes.len()),
            _ => bytes.len(),
        };
        for at in (0..limit).step_by(MESSAGE_BYTES) {
            let chunk = bytes.slice(at..limit.min(at + MESSAGE_BYTES));
            parts.push(Ok(ReadPart::Chunk(chunk)));
        }
        if matches!(fault, ReadFault::BreakAfter(_)) {
            parts.push(Err(Status::unavailable("connection lost")));
        }
        let parts = stream::iter(
            parts
                .into_iter()
                .map(|part| part.map(|part| wire::ReadFileResponsePart { part: Some(part) })),
        );
        Ok(match fault {
            ReadFault::StallAfter(_) => {
                Box::pin(futures_util::StreamExt::chain(parts, stream::pending()))
            }
            _ => Box::pin(parts),
        })
    }
}

impl Node {
    /// All of a file, by what a stream would deliver.
    async fn read_whole(&self, hash: ContentHash) -> Result<WholeRead, Status> {
        let length = self.disk().get(&hash).map_or(0, Bytes::len) as u64;
        let request = wire::ReadReplicaRequest {
            hash: wire::to_bytes(hash.as_bytes()),
            length,
            ..Default::default()
        };
        let (mut parts, mut file, mut data) = (self.read(request).await?, None, Vec::new());
        while let Some(part) = futures_util::StreamExt::next(&mut parts).await {
            match part?.part.unwrap() {
                ReadPart::Info(info) => file = Some(FileLocations::try_from(info).unwrap().file),
                ReadPart::Chunk(chunk) => data.extend_from_slice(&chunk),
            }
        }
        Ok(WholeRead {
            file: file.unwrap(),
            data: data.into(),
        })
    }
}

type Parts = Pin<Box<dyn Stream<Item = Result<wire::ReadFileResponsePart, Status>> + Send>>;

struct CountOnDrop(Arc<AtomicUsize>);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl DataNode for Node {
    type ReadFileStream = Parts;

    async fn write_file(
        &self,
        request: Request<Streaming<wire::WriteFileRequestPart>>,
    ) -> Result<Response<wire::WriteFileResult>, Status> {
        if self.write_fault() == WriteFault::Refuses {
            return Err(StoreError::new(ErrorCode::StorageFull, "no room").into());
        }
        let result = self.receive(request.into_inner()).await;
        if let Err(status) = &result
            && status.code() == tonic::Code::Cancelled
        {
            self.cut_writes.fetch_add(1, Ordering::SeqCst);
        }
        result.map(|result| Response::new(result.into()))
    }

    async fn write_files(
        &self,
        request: Request<wire::WriteFilesRequest>,
    ) -> Result<Response<wire::WriteFilesResponse>, Status> {
        match self.write_fault() {
            WriteFault::Refuses => Err(StoreError::new(ErrorCode::StorageFull, "no room").into()),
            WriteFault::StreamsOnly => Err(Status::unimplemented("not known")),
            _ => {
                let whole = WholeFiles::try_from(request.into_inner())?;
                assert_eq!(whole.cluster_id.to_string(), super::CLUSTER);
                Ok(Response::new(self.receive_whole(whole)?.into()))
            }
        }
    }

    async fn read_file(
        &self,
        request: Request<wire::ReadReplicaRequest>,
    ) -> Result<Response<Parts>, Status> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.read(request.into_inner()).await.map(Response::new)
    }

    async fn read_files(
        &self,
        request: Request<wire::ReadFilesRequest>,
    ) -> Result<Response<wire::ReadFilesResponse>, Status> {
        if *self.read_fault.lock().unwrap() == ReadFault::StreamsOnly {
            return Err(Status::unimplemented("not known"));
        }
        let wanted = WantedFiles::try_from(request.into_inner())?;
        self.whole_reads.lock().unwrap().push(wanted.0.len());
        let mut reads = Vec::new();
        for file in wanted.0 {
            self.reads.fetch_add(1, Ordering::SeqCst);
            reads.push(self.read_whole(file.hash).await.map_err(StoreError::from));
        }
        Ok(Response::new(WholeReads(reads).into()))
    }

    async fn copy_file(
        &self,
        request: Request<wire::CopyFileRequest>,
    ) -> Result<Response<wire::WriteFileResult>, Status> {
        self.copies.fetch_add(1, Ordering::SeqCst);
        let stream = FileLocations::try_from(request.into_inner().stream.unwrap()).unwrap();
        let hash = stream.file.hash;
        let bytes = self.disk().get(&hash).cloned().unwrap();
        let chain: Vec<NodeId> = stream.nodes.iter().map(|node| node.node_id).collect();
        Ok(Response::new(self.publish(&chain, hash, &bytes).into()))
    }

    async fn info(
        &self,
        _: Request<wire::DataNodeInfoRequest>,
    ) -> Result<Response<wire::DataNodeInfoResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

fn id_of(node: wire::DataNodeInfo) -> NodeId {
    DataNodeInfo::try_from(node).unwrap().node_id
}
