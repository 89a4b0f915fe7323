//! Dumps: the records of one table, or of all, as JSON lines, streamed from one snapshot.
//!
//! A blocking task walks the table and waits for the reader, so that memory does not grow with the table (I11). It also
//! watches for the stop: a reader that stalls must not keep the process.

use std::ops::ControlFlow;
use std::pin::Pin;

use futures_util::{Stream, stream};
use richardstore_proto::{ErrorCode, StoreError, wire};
use richardstore_runtime::Offload;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::metadata::{DumpOf, UnknownTable, View, ViewError};
use crate::shared::{Shared, offload_failed};

/// Lines are sent together once they are this many bytes.
const PART_BYTES: usize = 256 << 10;
/// Parts that wait for the reader.
const PARTS_AHEAD: usize = 2;

/// The parts of a dump.
pub type DumpStream = Pin<Box<dyn Stream<Item = Result<wire::DumpResponse, Status>> + Send>>;

type Part = Result<wire::DumpResponse, Status>;

/// Streams a table.
pub async fn dump(shared: &Shared, request: wire::DumpRequest) -> Result<DumpStream, StoreError> {
    let what: DumpOf = request
        .table
        .parse()
        .map_err(|error: UnknownTable| StoreError::from(error))?;
    let view = shared.metadata.view()?;
    let offload = shared.environment.offload;
    let ahead = match offload {
        Offload::Threads => PARTS_AHEAD,
        // Nothing could read while the walk holds the only thread.
        Offload::Inline => Semaphore::MAX_PERMITS,
    };
    let (parts, received) = mpsc::channel(ahead);
    let stopping = shared.tasks.stopping();
    let outlet = Outlet {
        parts: parts.clone(),
        stopping: stopping.clone(),
    };
    shared.tasks.spawn(async move {
        let walked = offload.run(move || walk(&view, what, &outlet)).await;
        let failure = match walked {
            Ok(Ok(())) => return,
            Ok(Err(error)) => StoreError::from(error),
            Err(error) => offload_failed(error),
        };
        // A reader that went away does not need to know.
        let _ = parts.send(Err(failure.into())).await;
    });
    Ok(Box::pin(readable(received, stopping)))
}

/// The reader's end. When the namenode stops, the dump breaks with an error: it must not look complete.
fn readable(
    received: mpsc::Receiver<Part>,
    stopping: CancellationToken,
) -> impl Stream<Item = Part> {
    stream::unfold(Some((received, stopping)), |state| async move {
        let (mut received, stopping) = state?;
        tokio::select! {
            biased;
            () = stopping.cancelled() => {
                let error = StoreError::new(ErrorCode::Unavailable, "the namenode stops");
                Some((Err(error.into()), None))
            }
            part = received.recv() => part.map(|part| (part, Some((received, stopping)))),
        }
    })
}

fn walk(view: &View, what: DumpOf, outlet: &Outlet) -> Result<(), ViewError> {
    let mut lines = Vec::with_capacity(PART_BYTES);
    let mut broken = ControlFlow::Continue(());
    view.dump_of(what, &mut |line| {
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
        if lines.len() >= PART_BYTES {
            broken = outlet.send(std::mem::take(&mut lines));
        }
        broken
    })?;
    if broken.is_continue() && !lines.is_empty() {
        // Nothing comes after it, so it does not matter whether it was taken.
        let _ = outlet.send(lines);
    }
    Ok(())
}

/// The walker's end.
struct Outlet {
    parts: mpsc::Sender<Part>,
    stopping: CancellationToken,
}

impl Outlet {
    /// Waits until there is room. Breaks when the reader is gone or the namenode stops.
    fn send(&self, lines: Vec<u8>) -> ControlFlow<()> {
        let part = Ok(wire::DumpResponse {
            lines: lines.into(),
        });
        let part = match self.parts.try_send(part) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(TrySendError::Closed(_)) => return ControlFlow::Break(()),
            Err(TrySendError::Full(part)) => part,
        };
        let sent = Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => false,
                sent = self.parts.send(part) => sent.is_ok(),
            }
        });
        if sent {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}
