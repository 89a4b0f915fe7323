//! What readers and listers ask: where a file is, which files there are, and that one be deleted.

use std::sync::Arc;

use richardstore_failpoint::failpoint;
use richardstore_proto::wire::{self, hash_field, list_field, optional_hash_field};
use richardstore_proto::{ContentHash, ErrorCode, EventKind, LocatedFile, StoreError};

use crate::event_log::News;
use crate::file_history::Deed;
use crate::mutation::{Mutation, Reply};
use crate::record::FileRecord;
use crate::service::unexpected;
use crate::shared::{Shared, offload_failed, place_among};

/// Files of one page.
const MAX_PAGE: usize = 1_000;
/// Files looked up in one call.
const MAX_LOCATED: usize = 256;
/// Replicas named in one page: with many of them a page is shorter, since a message has a limit.
const MAX_PAGE_REPLICAS: usize = 8_192;

/// Where a file is, best replica first.
pub async fn read_file(
    shared: &Shared,
    request: wire::ReadFileRequest,
) -> Result<wire::StreamInfo, StoreError> {
    let hash = hash_field("hash", &request.hash)?;
    let may_be_remembered = shared.leases.may_be_remembered(&hash);
    let record = shared.metadata.view()?.file(&hash)?;
    let record = record.ok_or_else(|| not_found(&hash))?;
    Ok(located(shared, hash, &record, may_be_remembered).into())
}

/// The same of several files, from one snapshot that was taken after they were asked for.
pub async fn locate_files(
    shared: &Shared,
    request: wire::LocateFilesRequest,
) -> Result<wire::LocateFilesResponse, StoreError> {
    let hashes = list_field("hashes", request.hashes, MAX_LOCATED, |hash| {
        hash_field("hashes", &hash)
    })?;
    // All of them before the snapshot.
    let may_be_remembered = |hash| shared.leases.may_be_remembered(hash);
    let may_be_remembered: Vec<bool> = hashes.iter().map(may_be_remembered).collect();
    let view = shared.metadata.view()?;
    let found = hashes.into_iter().zip(may_be_remembered);
    let found = found.map(|(hash, may_be_remembered)| {
        let found = match view.file(&hash) {
            Ok(Some(record)) => Ok(located(shared, hash, &record, may_be_remembered)),
            Ok(None) => Err(not_found(&hash)),
            // A damaged record is the trouble of its own file alone.
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(located) => wire::LocatedFile {
                file: Some(located.into()),
                ..wire::LocatedFile::default()
            },
            Err(error) => wire::LocatedFile {
                file: None,
                error_code: error.code.number(),
                error: error.message,
            },
        }
    });
    Ok(wire::LocateFilesResponse {
        files: found.collect(),
    })
}

fn located(
    shared: &Shared,
    hash: ContentHash,
    record: &FileRecord,
    may_be_remembered: bool,
) -> LocatedFile {
    let (locations, equal) = shared.locate(hash, record);
    LocatedFile {
        locations,
        equal_nodes: if may_be_remembered { equal } else { 0 },
    }
}

fn not_found(hash: &ContentHash) -> StoreError {
    StoreError::new(ErrorCode::NotFound, format!("no file {hash}"))
}

/// Deletes a file. When this has answered it is gone for every reader (I3); the bytes go when the datanodes come by. Who hangs up
/// while others still remember the file wants nothing any more.
pub async fn delete_file(
    shared: &Arc<Shared>,
    request: wire::DeleteFileRequest,
) -> Result<wire::DeleteFileResponse, StoreError> {
    let hash = hash_field("hash", &request.hash)?;
    let place = place_among(&shared.deletes).await;
    let forgotten = shared.forgotten(&[hash]).await?;
    let deleting = shared.clone();
    // Until the delete is committed nobody may remember the file, whether or not the caller is still there.
    let deleted = shared.to_the_end(place, async move {
        let _forgotten = forgotten;
        delete(&deleting, hash).await
    });
    let existed = deleted.await??;
    Ok(wire::DeleteFileResponse { existed })
}

/// Deletes a file that nobody remembers, so that with the commit it is gone for all readers at once.
async fn delete(shared: &Shared, hash: ContentHash) -> Result<bool, StoreError> {
    let mutation = Mutation::DeleteFile {
        hash,
        now_ms: shared.wall_ms(),
    };
    let deleted = shared.metadata.submit(mutation).await?;
    failpoint("namenode-tombstone-committed");
    match deleted {
        Reply::Deleted { existed } => {
            if existed {
                shared.tell(News::of(EventKind::FileDeleted).hash(hash));
                shared.note(hash, Deed::Deleted);
            }
            Ok(existed)
        }
        other => Err(unexpected(&other)),
    }
}

/// A page of files in the order of their hashes.
pub async fn list_files(
    shared: &Shared,
    request: wire::ListFilesRequest,
) -> Result<wire::ListFilesResponse, StoreError> {
    let after = optional_hash_field("after", &request.after)?;
    let limit = match usize::try_from(request.limit).unwrap_or(MAX_PAGE) {
        0 => MAX_PAGE,
        limit => limit.min(MAX_PAGE),
    };
    let view = shared.metadata.view()?;
    let rows = shared
        .environment
        .offload
        .run(move || view.files(after, &request.prefix, limit + 1))
        .await
        .map_err(offload_failed)??;
    let fit = page_length(&rows, limit);
    let more = rows.len() > fit;
    let files = rows
        .into_iter()
        .take(fit)
        .map(|(hash, record)| shared.locate(hash, &record).0.into())
        .collect();
    Ok(wire::ListFilesResponse { files, more })
}

/// How many rows go into a page; always one, so that a listing gets on.
fn page_length(rows: &[(ContentHash, FileRecord)], limit: usize) -> usize {
    let mut replicas = 0;
    rows.iter()
        .take(limit)
        .take_while(|(_, record)| {
            let first = replicas == 0;
            replicas += record.replicas.len().max(1);
            first || replicas <= MAX_PAGE_REPLICAS
        })
        .count()
}
