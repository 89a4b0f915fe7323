//! [`Local`]: a cluster of its own for one run of drills, every role a process on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Node, Substrate};
use crate::hand::{Hand, ReplicaState};
use crate::{Content, Link, LoopDisk, Process, ProcessSpec};

const DATANODES: u16 = 4;
const GATEWAYS: u16 = 2;
/// A process that is told to stop ends within five seconds, or has broken its word.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The disk that can be full, and what its datanode leaves free on it.
const SMALL_DISK_BYTES: u64 = 256 << 20;
const SMALL_HEADROOM: &str = "16MiB";
/// On a disk that this machine needs for other things, little is asked to stay free: canaries are small.
const USUAL_HEADROOM: &str = "64MiB";
/// Silence is noticed after seconds and not after half a minute: these are what a drill mostly waits for.
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms",
    "250",
    "--stale-after-ms",
    "1500",
    "--dead-after-ms",
    "4000",
];

/// How to make a local cluster.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The binary to run.
    pub binary: PathBuf,
    /// Where it keeps everything; a new directory that goes afterwards where there is none.
    pub directory: Option<PathBuf>,
    /// One datanode gets a small disk of its own, where this machine lets us mount one.
    pub small_disk: bool,
}

/// One process and the ways to it. Others know only the addresses of its links, which stay when it restarts on another port.
#[derive(Debug)]
struct Seat {
    spec: ProcessSpec,
    process: Option<Process>,
    /// It was told to end, and may not be gone yet: a drill can be interrupted while it waits for that.
    ending: Option<Process>,
    /// Others reach it by this.
    front: Link,
    /// It reaches the namenode by this.
    to_namenode: Option<Link>,
    directory: PathBuf,
}

/// The cluster. Dropping it kills its processes and removes its directory. Fields are dropped in this order.
#[derive(Debug)]
pub struct Local {
    seats: BTreeMap<Node, Seat>,
    disk: Result<LoopDisk, String>,
    directory: PathBuf,
    _temporary: Option<TempDir>,
}

impl Local {
    /// Starts one namenode, four datanodes and two gateways.
    ///
    /// # Errors
    /// When one does not start; the end of its log is in the error.
    pub async fn start(options: LocalOptions) -> Result<Self> {
        let temporary = match &options.directory {
            None => Some(tempfile::Builder::new().prefix("drill-").tempdir()?),
            Some(directory) => {
                std::fs::create_dir_all(directory)?;
                None
            }
        };
        let directory = match (&temporary, options.directory) {
            (Some(temporary), _) => temporary.path().to_owned(),
            (None, directory) => directory.context("there is one")?,
        };
        let disk = match options.small_disk {
            true => LoopDisk::create(&directory, "small-disk", SMALL_DISK_BYTES)
                .map_err(|error| format!("{error:#}")),
            false => Err("this run has no drill for it".to_owned()),
        };
        let mut local = Self {
            seats: BTreeMap::new(),
            disk,
            directory,
            _temporary: temporary,
        };
        local.add_all(&options.binary).await?;
        Ok(local)
    }

    /// Ends all processes and removes the directory, where it was made for this run.
    pub async fn close(mut self) {
        for seat in self.seats.values_mut() {
            if let Some(process) = seat.process.take() {
                // Nobody needs what it holds any more; one that cannot be killed is killed again when it is dropped.
                let _ = process.kill().await;
            }
        }
    }

    async fn add_all(&mut self, binary: &Path) -> Result<()> {
        self.add(binary, Node::Namenode, &QUICK).await?;
        for number in 1..=DATANODES {
            let small = number == DATANODES && self.disk.is_ok();
            let headroom = if small {
                SMALL_HEADROOM
            } else {
                USUAL_HEADROOM
            };
            let flags = ["--headroom", headroom];
            self.add(binary, Node::Datanode(number), &flags).await?;
        }
        for number in 1..=GATEWAYS {
            self.add(binary, Node::Gateway(number), &[]).await?;
        }
        Ok(())
    }

    async fn add(&mut self, binary: &Path, node: Node, flags: &[&str]) -> Result<()> {
        let name = node.to_string();
        let directory = match (&self.disk, node) {
            (Ok(disk), Node::Datanode(DATANODES)) => disk.path().join(&name),
            _ => self.directory.join(&name),
        };
        let front = Link::start().await?;
        let to_namenode = match node {
            Node::Namenode => None,
            Node::Datanode(_) | Node::Gateway(_) => {
                let link = Link::start().await?;
                link.lead_to(&self.seat(Node::Namenode)?.front.address());
                Some(link)
            }
        };
        let mut arguments: Vec<OsString> = match node {
            Node::Namenode => vec!["namenode".into()],
            Node::Datanode(_) => vec!["datanode".into(), "--name".into(), name.clone().into()],
            Node::Gateway(_) => vec!["gateway".into()],
        };
        if let Node::Namenode | Node::Datanode(_) = node {
            arguments.extend(["--dir".into(), directory.clone().into()]);
            arguments.extend(["--advertise".into(), front.address().into()]);
        }
        if let Some(link) = &to_namenode {
            arguments.extend(["--namenode".into(), link.address().into()]);
        }
        arguments.extend(["--listen".into(), "127.0.0.1:0".into()]);
        arguments.extend(flags.iter().map(OsString::from));
        let spec = ProcessSpec {
            binary: binary.to_owned(),
            arguments,
            log: self.directory.join(format!("{name}.log")),
        };
        let seat = Seat {
            spec,
            process: None,
            ending: None,
            front,
            to_namenode,
            directory,
        };
        self.seats.insert(node, seat);
        self.start_process(node).await
    }

    async fn start_process(&mut self, node: Node) -> Result<()> {
        let seat = self.seat(node)?;
        if seat.process.is_some() {
            return Ok(());
        }
        // Two processes on one directory: the second would be refused.
        seat.die().await?;
        let started = seat.spec.start_apart("listening on").await;
        let process = started.with_context(|| format!("{node} does not start"))?;
        let line = process.ready_line().rsplit(' ').next();
        let address = line.map(|word| word.trim_start_matches("http://").to_owned());
        let address = address.with_context(|| format!("{node} does not say where it listens"))?;
        seat.process = Some(process);
        seat.front.lead_to(&address);
        Ok(())
    }

    fn seat(&mut self, node: Node) -> Result<&mut Seat> {
        let seat = self.seats.get_mut(&node);
        seat.with_context(|| format!("there is no {node}"))
    }

    fn hand(&mut self, node: Node) -> Result<Hand> {
        Ok(Hand::new(self.seat(node)?.directory.clone()))
    }
}

impl Substrate for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn datanodes(&self) -> Vec<Node> {
        (1..=DATANODES).map(Node::Datanode).collect()
    }

    fn gateways(&self) -> Vec<Node> {
        (1..=GATEWAYS).map(Node::Gateway).collect()
    }

    fn urls(&self) -> Vec<String> {
        let gateways = self.gateways().into_iter();
        gateways
            .filter_map(|gateway| self.seats.get(&gateway))
            .map(|seat| format!("http://{}", seat.front.address()))
            .collect()
    }

    async fn restart(&mut self, node: Node) -> Result<()> {
        let seat = self.seat(node)?;
        if let Some(process) = seat.process.take() {
            seat.ending.insert(process).stop(STOP_LIMIT).await?;
        }
        self.start_process(node).await
    }

    async fn kill(&mut self, node: Node) -> Result<()> {
        let seat = self.seat(node)?;
        if let Some(process) = seat.process.take() {
            seat.ending = Some(process);
        }
        seat.die().await
    }

    async fn start(&mut self, node: Node) -> Result<()> {
        self.start_process(node).await
    }

    async fn cut(&mut self, node: Node) -> Result<()> {
        self.seat(node)?.links().for_each(Link::cut);
        Ok(())
    }

    async fn reconnect(&mut self, node: Node) -> Result<()> {
        self.seat(node)?.links().for_each(Link::restore);
        Ok(())
    }

    async fn look(&mut self, datanode: Node, canaries: &[Content]) -> Result<Vec<ReplicaState>> {
        let hand = self.hand(datanode)?;
        canaries.iter().map(|canary| hand.look(*canary)).collect()
    }

    async fn damage(&mut self, datanode: Node, canary: Content) -> Result<()> {
        self.hand(datanode)?.damage(canary)
    }

    async fn discard(&mut self, datanode: Node, canary: Content) -> Result<()> {
        self.hand(datanode)?.discard(canary)
    }

    async fn wipe(&mut self, node: Node, cluster: &str) -> Result<()> {
        self.kill(node).await?;
        self.hand(node)?.wipe(cluster)
    }

    async fn rebuild_namenode(&mut self) -> Result<()> {
        let fronts = self.datanodes().into_iter();
        let fronts = fronts.filter_map(|node| Some(self.seats.get(&node)?.front.address()));
        let datanodes: Vec<_> = fronts.collect();
        let namenode = self.seat(Node::Namenode)?;
        let output = tokio::process::Command::new(&namenode.spec.binary)
            .args(["namenode", "rebuild", "--dir"])
            .arg(&namenode.directory)
            .args(["--from-datanodes", &datanodes.join(",")])
            .kill_on_drop(true)
            .output()
            .await?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    async fn fill_obstacle(&mut self, _: Node) -> Option<String> {
        let obstacle = self.disk.as_ref().err();
        obstacle.map(|why| format!("no small disk can be mounted here: {why}"))
    }

    async fn fill(&mut self, datanode: Node) -> Result<()> {
        self.hand(datanode)?.fill()
    }

    async fn free(&mut self, datanode: Node) -> Result<()> {
        self.hand(datanode)?.free()
    }
}

impl Seat {
    /// Waits until what was told to end is gone.
    async fn die(&mut self) -> Result<()> {
        if let Some(process) = &mut self.ending {
            process.die().await?;
        }
        self.ending = None;
        Ok(())
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        [Some(&self.front), self.to_namenode.as_ref()]
            .into_iter()
            .flatten()
    }
}
