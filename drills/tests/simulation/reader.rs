//! [`run_reader`]: another client, which reads all the time what the first one uploads and deletes, and remembers where files are as a
//! gateway does. Links between it and the others are cut on their own, so it is not always told of a delete.

use std::time::Duration;

use futures_util::StreamExt;
use richardstore_client::{Client, ClientConfig, ClientError, GetOptions};
use richardstore_drills::{Content, Random};
use richardstore_proto::ErrorCode;
use richardstore_runtime::Environment;
use tokio::time::{sleep, timeout};

use crate::cluster::NAMENODE_ADDRESS;
use crate::faults::HEALED_AT;
use crate::workload::SharedRecord;

/// Files that it reads again and again, the newest ones.
pub const WATCHED: usize = 4;
const REMEMBERED_FILES: usize = 64;
const LONGEST_PAUSE_MS: u64 = 300;
/// For one read.
const LIMIT: Duration = Duration::from_secs(20);

/// Reads until the faults are over.
pub async fn run_reader(
    mut random: Random,
    record: SharedRecord,
    environment: Environment,
) -> turmoil::Result {
    let config = ClientConfig {
        remembered_files: REMEMBERED_FILES,
        ..ClientConfig::new(NAMENODE_ADDRESS)
    };
    let client = Client::new(config, environment);
    let mut before = client.look_up_counts();
    while turmoil::sim_elapsed().unwrap_or_default() < HEALED_AT {
        sleep(Duration::from_millis(random.below(LONGEST_PAUSE_MS))).await;
        let Some(content) = choose(&mut random, &record) else {
            continue;
        };
        let hash = content.hash();
        let standing = record.borrow().oracle.standing(&hash);
        let found = timeout(LIMIT, find(&client, content, 0, None)).await;
        let mut record = record.borrow_mut();
        if let Ok(Ok(found)) = found {
            record.oracle.observed_since(&hash, standing, found);
            record.figures.count("reads by another client");
        }
        let counts = client.look_up_counts();
        let remembered = counts.remembered - before.remembered;
        record.figures.add("places remembered", remembered);
        before = counts;
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        let how = if remembered > 0 { "as remembered" } else { "" };
        record
            .log
            .push(format!("{at} other get {hash:.8}: {found:?} {how}"));
    }
    Ok(())
}

fn choose(random: &mut Random, record: &SharedRecord) -> Option<Content> {
    let watched = &record.borrow().watched;
    let at = random.below(watched.len() as u64);
    watched.get(usize::try_from(at).unwrap()).copied()
}

/// Whether the file is there, and then whether its bytes are right.
pub async fn find(
    client: &Client,
    content: Content,
    offset: u64,
    length: Option<u64>,
) -> Result<Option<bool>, ClientError> {
    let hash = content.hash().parse().unwrap();
    let found = client.get(&hash, offset, length, GetOptions::default());
    let mut stream = match found.await {
        Ok(stream) => stream,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    let end = length.map_or(content.size, |length| offset + length);
    let range = usize::try_from(offset).unwrap()..usize::try_from(end).unwrap();
    Ok(Some(bytes == content.bytes()[range]))
}
