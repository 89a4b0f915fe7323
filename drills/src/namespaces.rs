//! [`Namespaces`]: machines with a network of their own, as network namespaces joined by a bridge. Needs root on Linux.
//!
//! The machine's own network has no part in it: the bridge stands in a namespace, too, so that there is nothing to route, nothing
//! to clash with, and nothing left once the namespaces are gone.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ProcessSpec;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// The first three numbers of every address.
const NETWORK: [u8; 3] = [10, 77, 0];
/// The one interface of a machine.
const INTERFACE: &str = "eth0";
/// Networks of one process, counted.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A network. Dropping it removes it, once the processes in it have ended.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    machines: Vec<String>,
}

/// Which way nothing passes, seen from the machine that is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Neither way.
    Both,
    /// It hears nobody.
    Inward,
    /// Nobody hears it.
    Outward,
}

impl Namespaces {
    /// Joins `machines`, which get the addresses from 1 on in this order.
    ///
    /// # Errors
    /// When this machine cannot: no root, no `ip`, no namespaces, bridges or veths in the kernel.
    pub fn create(machines: &[&str]) -> Result<Self> {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            prefix: format!("richardstore-{}-{number}", std::process::id()),
            machines: machines.iter().map(|&name| name.to_owned()).collect(),
        };
        let hub = network.namespace("hub");
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for (at, machine) in machines.iter().enumerate() {
            let (namespace, port) = (network.namespace(machine), format!("port{at}"));
            let address = format!("{}/24", network.address(machine));
            ip(&["netns", "add", &namespace])?;
            ip(&[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", INTERFACE,
                "netns", &namespace,
            ])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&[
                "-n", &namespace, "address", "add", &address, "dev", INTERFACE,
            ])?;
            ip(&["-n", &namespace, "link", "set", INTERFACE, "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// Why there can be no such network here; `None` when a small one was made and cut.
    pub fn obstacle() -> Option<String> {
        let trial = || {
            let network = Self::create(&["trial"])?;
            network.cut("trial", Cut::Both)?;
            network.restore("trial")
        };
        trial().err().map(|error| format!("{error:#}"))
    }

    /// The address of `machine`.
    pub fn address(&self, machine: &str) -> String {
        let [a, b, c] = NETWORK;
        format!("{a}.{b}.{c}.{}", self.number(machine))
    }

    /// What is to be started, on `machine`.
    pub fn on(&self, machine: &str, spec: ProcessSpec) -> ProcessSpec {
        // `ip netns exec` becomes the program, so that a signal to it is one to the program.
        let mut arguments: Vec<OsString> = ["netns", "exec", &self.namespace(machine)]
            .map(OsString::from)
            .into();
        arguments.push(spec.binary.into());
        arguments.extend(spec.arguments);
        ProcessSpec {
            binary: PathBuf::from("ip"),
            arguments,
            log: spec.log,
        }
    }

    /// From here on the calling thread is on `machine`, with every socket it opens, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self, machine: &str) -> Result<()> {
        let path = Path::new(NAMES).join(self.namespace(machine));
        let namespace = File::open(&path).with_context(|| path.display().to_string())?;
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network)?;
        Ok(())
    }

    /// Drops everything that would pass, resets and ends of connections included.
    ///
    /// # Errors
    /// When `nft` cannot.
    pub fn cut(&self, machine: &str, cut: Cut) -> Result<()> {
        let mut rules = String::from(
            "add table inet cut; \
             add chain inet cut inward { type filter hook input priority 0; }; \
             add chain inet cut outward { type filter hook output priority 0; };",
        );
        if cut != Cut::Outward {
            rules += &format!(" add rule inet cut inward iifname {INTERFACE} drop;");
        }
        if cut != Cut::Inward {
            rules += &format!(" add rule inet cut outward oifname {INTERFACE} drop;");
        }
        self.run(machine, &["nft", &rules]).map(drop)
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// When there is none.
    pub fn restore(&self, machine: &str) -> Result<()> {
        self.run(machine, &["nft", "delete table inet cut"])
            .map(drop)
    }

    /// Lets `machine` send so many kilobits a second, and says by what: the kernel's token bucket, or without that by dropping
    /// what is more.
    ///
    /// # Errors
    /// When neither works.
    pub fn slow(&self, machine: &str, kilobits: u64) -> Result<&'static str> {
        let rate = format!("{kilobits}kbit");
        let bucket = [
            "tc", "qdisc", "replace", "dev", INTERFACE, "root", "tbf", "rate", &rate, "burst",
            "16kb", "latency", "400ms",
        ];
        if self.run(machine, &bucket).is_ok() {
            return Ok("tbf");
        }
        let bytes = kilobits * 125;
        let rules = format!(
            "add table inet slow; \
             add chain inet slow outward {{ type filter hook output priority 0; }}; \
             add rule inet slow outward oifname {INTERFACE} limit rate over {bytes} bytes/second burst 64 kbytes drop"
        );
        self.run(machine, &["nft", &rules])?;
        Ok("drops over a rate")
    }

    /// Connections that `machine` holds for alive, with `peer` at the other end.
    ///
    /// # Errors
    /// When its table of connections cannot be read.
    pub fn connections(&self, machine: &str, peer: &str) -> Result<usize> {
        let table = self.run(machine, &["cat", "/proc/net/tcp"])?;
        let [a, b, c] = NETWORK;
        // As the kernel prints it: the bytes of the address read as a number of this machine.
        let address = u32::from_ne_bytes([a, b, c, self.number(peer)]);
        let remote = format!("{address:08X}:");
        const ESTABLISHED: &str = "01";
        let alive = |line: &&str| {
            let mut words = line.split_whitespace().skip(2);
            words.next().is_some_and(|word| word.starts_with(&remote))
                && words.next() == Some(ESTABLISHED)
        };
        Ok(table.lines().filter(alive).count())
    }

    fn number(&self, machine: &str) -> u8 {
        let at = self.machines.iter().position(|name| name == machine);
        let at = at.and_then(|at| u8::try_from(at + 1).ok());
        at.expect("a machine of this network")
    }

    fn namespace(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    fn run(&self, machine: &str, program: &[&str]) -> Result<String> {
        let namespace = self.namespace(machine);
        let inside = ["netns", "exec", &namespace];
        ip(&[&inside[..], program].concat())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for machine in self.machines.iter().map(String::as_str).chain(["hub"]) {
            let namespace = self.namespace(machine);
            // One that was not made yet when making the network failed.
            if Path::new(NAMES).join(&namespace).exists()
                && let Err(error) = ip(&["netns", "delete", &namespace])
            {
                eprintln!("{error:#}");
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "ip {}: {}, {}",
            arguments.join(" "),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
