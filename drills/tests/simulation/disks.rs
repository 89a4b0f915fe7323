//! [`Disks`]: what lies in the directories of the datanodes, behind the back of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use richardstore_drills::{Random, inspect_tree};

use crate::cluster::DATANODES;

/// Replicas that each file gets.
pub const REPLICATION: usize = 3;

/// How long the namenode may count on a disk that is lost: until its node is dead, and the last order is carried out.
const BELIEVED: Duration = Duration::from_secs(12);

/// The disks of all datanodes, those of crashed ones included.
pub struct Disks {
    root: PathBuf,
    /// Files that had all of their replicas at some time, and how many they must keep from then on (I6).
    whole: BTreeMap<String, usize>,
    /// From when on the namenode knows that a disk is lost.
    believed_until: Duration,
    /// Files a replica of which was damaged here. It is put aside at some time.
    damaged: BTreeSet<String>,
}

impl Disks {
    /// Those below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            whole: BTreeMap::new(),
            believed_until: Duration::ZERO,
            damaged: BTreeSet::new(),
        }
    }

    /// Whether a file of those that must keep all replicas they ever had (`stays`) fell below its target, which one then.
    pub fn fallen(&mut self, at: Duration, stays: impl Fn(&str) -> bool) -> Option<String> {
        let replicas = self.replicas();
        self.whole.retain(|hash, _| stays(hash));
        let left = |hash: &str| replicas.get(hash).map_or(0, Vec::len);
        let fallen = self
            .whole
            .iter()
            .find(|(hash, least)| left(hash) < **least && !self.damaged.contains(*hash));
        if let Some((hash, _)) = fallen {
            return Some(format!("{hash:.8} fell to {} replicas", left(hash)));
        }
        let now_least = match at < self.believed_until {
            true => REPLICATION - 1,
            false => REPLICATION,
        };
        for (hash, on) in &replicas {
            if of_newest_write(on) >= REPLICATION && stays(hash) {
                let least = self.whole.entry(hash.clone()).or_default();
                *least = now_least.max(*least);
            }
        }
        None
    }

    /// Takes the disk of `node` away, its identity too where `all`.
    ///
    /// A file that had a replica there may be left with one fewer than its target for a while, however many it had: a surplus
    /// one may be removed, rightly, as long as the namenode believes in the disk that is lost.
    pub fn wipe(&mut self, node: &str, all: bool, at: Duration) {
        self.believed_until = at + BELIEVED;
        for (hash, on) in self.replicas() {
            if on.iter().any(|(holder, _)| *holder == node)
                && let Some(least) = self.whole.get_mut(&hash)
            {
                *least = REPLICATION - 1;
            }
        }
        let directory = self.root.join(node);
        for name in ["replicas", "index"] {
            fs::remove_dir_all(directory.join(name)).unwrap();
        }
        // Only there after a clean stop.
        let _ = fs::remove_file(directory.join("index.clean"));
        if all {
            fs::remove_file(directory.join("identity.json")).unwrap();
        }
    }

    /// Changes one byte of one replica on `node`, of a file that has other ones and none of them damaged before. Which
    /// one.
    pub fn rot(&mut self, node: &str, random: &mut Random) -> Option<String> {
        let replicas = self.replicas();
        let fit: Vec<(&String, &PathBuf)> = replicas
            .iter()
            .filter(|(hash, on)| on.len() >= REPLICATION && !self.damaged.contains(*hash))
            .filter_map(|(hash, on)| Some((hash, &on.iter().find(|(at, _)| *at == node)?.1)))
            .filter(|(_, path)| fs::metadata(path).is_ok_and(|file| file.len() > 0))
            .collect();
        let (hash, path) = fit.get(usize::try_from(random.below(fit.len() as u64)).ok()?)?;
        let file = fs::File::options().read(true).write(true).open(path).ok()?;
        let at = random.below(file.metadata().ok()?.len());
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).ok()?;
        file.write_all_at(&[byte[0] ^ 0x10], at).ok()?;
        let hash = (*hash).clone();
        self.damaged.insert(hash.clone());
        Some(hash)
    }

    /// Whether the disks hold what they should: as many replicas as the target of each file that `end` says is there, none of
    /// the others, right bytes, and nothing half done (I2, I5).
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn settled(&self, end: &BTreeMap<String, bool>) -> Result<(), String> {
        for node in DATANODES {
            let findings = inspect_tree(&self.root.join(node).join("replicas"));
            let findings = findings.map_err(|error| format!("{node}: {error}"))?;
            if !findings.wrong.is_empty() || !findings.temporary.is_empty() {
                return Err(format!(
                    "{node} has {:?} {:?}",
                    findings.wrong, findings.temporary
                ));
            }
        }
        let replicas = self.replicas();
        for (hash, is_there) in end {
            let on = replicas.get(hash).into_iter().flatten();
            let on: Vec<&str> = on.map(|(node, _)| *node).collect();
            if on.len() != if *is_there { REPLICATION } else { 0 } {
                return Err(format!("{hash:.8}, there: {is_there}, is on {on:?}"));
            }
        }
        match replicas.keys().find(|hash| !end.contains_key(*hash)) {
            Some(hash) => Err(format!("nobody knows of {hash:.8}")),
            None => Ok(()),
        }
    }

    /// Node and path of every replica, by hash.
    fn replicas(&self) -> BTreeMap<String, Vec<(&'static str, PathBuf)>> {
        let mut found = BTreeMap::<String, Vec<_>>::new();
        for node in DATANODES {
            // The layout that the cluster here is given: one level. A disk that was just wiped has none.
            let root = self.root.join(node).join("replicas");
            for directory in entries(&root).into_iter().filter(|path| is_level(path)) {
                for path in entries(&directory) {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    found.entry(name).or_default().push((node, path));
                }
            }
        }
        found
    }
}

/// Replicas with the newest generation among them. An older one may be what an abandoned write has left, which is no replica of
/// the file and goes when its node is told.
fn of_newest_write(on: &[(&'static str, PathBuf)]) -> usize {
    if on.len() < REPLICATION {
        return 0;
    }
    let generations: Vec<u64> = on.iter().map(|(_, path)| generation(path)).collect();
    let newest = generations.iter().max();
    generations
        .iter()
        .filter(|one| Some(*one) == newest)
        .count()
}

/// What the attribute of a replica says, behind its version; 0 where there is none.
fn generation(path: &Path) -> u64 {
    let mut record = [0; 64];
    let read = rustix::fs::getxattr(path, "user.richardstore", &mut record);
    let bytes: [u8; 8] = record[1..9].try_into().unwrap();
    read.map_or(0, |_| u64::from_le_bytes(bytes))
}

fn is_level(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.len() == 1 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is in a directory, sorted; nothing where there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
