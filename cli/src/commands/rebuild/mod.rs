//! `namenode rebuild`: metadata from a copy, from the datanodes, or from both. It refuses to guess: datanodes of several
//! clusters, a namenode that still answers, or a directory with a database end it before anything is made.

mod told;

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use richardstore_namenode::{DumpSummary, Rebuild, Seen, verify_dump};
use richardstore_proto::{ClusterId, ContentHash, MetadataCopy};
use richardstore_runtime::{Channels, tcp_dial};
use richardstore_store::ContentHasher;
use serde_json::json;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use self::told::{Told, ask, namenode_of, read_file, tell};
use crate::exit::Interrupted;
use crate::output::Output;

/// Where a copy from the store is kept until it was loaded. The directory counts as empty beside it.
const FETCHED: &str = "restore.new";

/// From what, into what.
#[derive(Debug, Args)]
pub struct RebuildArguments {
    /// The directory of the namenode, without a database
    #[arg(
        long,
        env = "RICHARDSTORE_DIR",
        default_value = "./richardstore-data/namenode"
    )]
    dir: PathBuf,
    /// A copy of the metadata, or a dump of everything
    #[arg(
        long,
        env = "RICHARDSTORE_COPY",
        value_name = "FILE",
        required_unless_present = "from_datanodes"
    )]
    copy: Option<PathBuf>,
    /// The datanodes, all that can be reached; without --copy the newest copy in the store is looked for
    #[arg(
        long,
        env = "RICHARDSTORE_FROM_DATANODES",
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    from_datanodes: Vec<String>,
    /// Do not look for a copy in the store: take what the datanodes hold and nothing else
    #[arg(long, env = "RICHARDSTORE_IGNORE_COPIES", conflicts_with = "copy")]
    ignore_copies: bool,
    /// Replicas of files whose target nobody remembers
    #[arg(long, env = "RICHARDSTORE_REPLICATION", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    replication: u32,
}

/// Rebuilds it.
pub async fn run(
    arguments: RebuildArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    tokio::select! {
        rebuilt = rebuild(&arguments, output) => rebuilt,
        // What was begun has no name yet, and is swept by the next attempt.
        () = stop.cancelled() => Err(Interrupted.into()),
    }
}

async fn rebuild(arguments: &RebuildArguments, output: Output) -> Result<()> {
    let channels = Channels::new(tcp_dial());
    let mut told = Vec::new();
    for address in &arguments.from_datanodes {
        let answer = ask(&channels, address).await;
        told.push(answer.with_context(|| format!("datanode {address}"))?);
    }
    let cluster = one_cluster(&told)?;
    for node in &told {
        if let Some(cluster) = cluster
            && namenode_of(&channels, &node.namenode).await == Some(cluster)
        {
            bail!(
                "the namenode at {} answers: stop it first, or leave everything as it is",
                node.namenode
            );
        }
    }
    let (mut rebuild, base) = begin(arguments, &channels, cluster, &told, output).await?;
    let seen = Seen {
        epoch: told.iter().map(|node| node.epoch).max().unwrap_or_default(),
        generation: told
            .iter()
            .map(|node| node.generation)
            .max()
            .unwrap_or_default(),
    };
    block_in_place(|| rebuild.recover(seen))?;
    for node in &told {
        let telling = tell(&channels, node, &mut rebuild).await;
        let damaged = telling.with_context(|| format!("datanode {}", node.address))?;
        if damaged > 0 {
            output.error(
                &format!(
                    "datanode {} cannot read {damaged} of the deletes that it remembered: where no other datanode remembers them, \
                     such a file may be back",
                    node.address
                ),
                0,
            );
        }
    }
    let summary = block_in_place(|| rebuild.finish())?;
    let _ = std::fs::remove_file(arguments.dir.join(FETCHED));
    print(&summary, &base, told.len(), output)
}

/// The cluster of the datanodes; `None` without any.
fn one_cluster(told: &[Told]) -> Result<Option<ClusterId>> {
    let mut cluster = None;
    for node in told {
        let Some(theirs) = node.cluster_id else {
            bail!("datanode {} never joined a cluster", node.address);
        };
        match cluster {
            Some(cluster) if cluster != theirs => bail!(
                "the datanodes are of several clusters: {} is of {theirs}, others of {cluster}",
                node.address
            ),
            _ => cluster = Some(theirs),
        }
        let same = |other: &&Told| other.node.node_id == node.node.node_id;
        if told.iter().filter(same).count() > 1 {
            bail!("datanode {} was named twice", node.node.node_id);
        }
    }
    Ok(cluster)
}

/// Begins with the copy that was given, with the newest that can be read from the store, or with nothing. Returns which.
async fn begin(
    arguments: &RebuildArguments,
    channels: &Channels,
    cluster: Option<ClusterId>,
    told: &[Told],
    output: Output,
) -> Result<(Rebuild, String)> {
    if let Some(path) = &arguments.copy {
        let rebuild = block_in_place(|| from_copy(arguments, path, cluster))?;
        return Ok((rebuild, path.display().to_string()));
    }
    let cluster = cluster.context("no datanode was named")?;
    if !arguments.ignore_copies {
        let copies = copies_told_of(told);
        for copy in &copies {
            let path = arguments.dir.join(FETCHED);
            match fetch(channels, told, copy, &path).await {
                Ok(()) => {
                    let rebuild = block_in_place(|| from_copy(arguments, &path, Some(cluster)))?;
                    return Ok((rebuild, format!("{} from the store", copy.hash)));
                }
                Err(error) => output.error(
                    &format!("the copy {} cannot be used: {error:#}", copy.hash),
                    0,
                ),
            }
        }
        if !copies.is_empty() {
            bail!(
                "the datanodes know of copies of the metadata, and none can be read from those that were named: name the others, \
                 too, give a file with --copy, or say --ignore-copies to begin with nothing"
            );
        }
    }
    let rebuild = block_in_place(|| {
        Rebuild::from_nothing(&arguments.dir, cluster, arguments.replication, now_ms())
    })?;
    Ok((rebuild, "no copy".to_owned()))
}

/// The copies that datanodes were told of, newest first.
fn copies_told_of(told: &[Told]) -> Vec<MetadataCopy> {
    let mut copies: Vec<MetadataCopy> = told.iter().filter_map(|node| node.newest_copy).collect();
    copies.sort_by_key(|copy| std::cmp::Reverse((copy.namenode_epoch, copy.taken_ms)));
    copies.dedup();
    copies
}

fn from_copy(
    arguments: &RebuildArguments,
    path: &Path,
    cluster: Option<ClusterId>,
) -> Result<Rebuild> {
    let open = || File::open(path).with_context(|| path.display().to_string());
    let summary =
        verify_dump(BufReader::new(open()?)).with_context(|| path.display().to_string())?;
    if cluster.is_some_and(|cluster| cluster != summary.cluster_id) {
        bail!(
            "{} is of cluster {}, the datanodes are of another",
            path.display(),
            summary.cluster_id
        );
    }
    let copy = BufReader::with_capacity(256 << 10, open()?);
    let (rebuild, _) = Rebuild::from_copy(&arguments.dir, copy, arguments.replication, now_ms())?;
    Ok(rebuild)
}

/// Reads a copy from whichever datanode has it, and checks that it is that copy, and whole.
async fn fetch(channels: &Channels, told: &[Told], copy: &MetadataCopy, path: &Path) -> Result<()> {
    let mut last = None;
    for node in told {
        match fetch_from(channels, &node.address, &copy.hash, path).await {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error.context(format!("datanode {}", node.address))),
        }
    }
    Err(last.context("no datanode was named")?)
}

async fn fetch_from(
    channels: &Channels,
    address: &str,
    hash: &ContentHash,
    path: &Path,
) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut hasher = ContentHasher::new();
    read_file(channels, address, hash, |bytes| {
        hasher.update(bytes);
        Ok(file.write_all(bytes)?)
    })
    .await?;
    if hasher.finish().hash != *hash {
        bail!("it sent other bytes");
    }
    verify_dump(BufReader::new(File::open(path)?))?;
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn print(summary: &DumpSummary, base: &str, datanodes: usize, output: Output) -> Result<()> {
    let value = json!({
        "cluster_id": summary.cluster_id.to_string(),
        "base": base,
        "datanodes": datanodes,
        "files": summary.files,
        "bytes": summary.bytes,
        "tombstones": summary.tombstones,
        "epoch": summary.epoch,
    });
    output.line(&value, |_| {
        format!(
            "cluster {}, from {base} and {datanodes} datanodes: {} files of {} bytes, {} deletes under way. \
             Start the namenode; datanodes that were not asked bring the rest",
            summary.cluster_id, summary.files, summary.bytes, summary.tombstones
        )
    })?;
    Ok(())
}
