//! [`Hand`]: what a drill does inside a node's data directory, where only a process on that machine can reach.
//!
//! It cannot hurt what is not a drill's. A replica is damaged only where its hash is that of a canary, which the hand
//! computes itself from the seed it is given: there is no seed for a file of somebody else. A directory is wiped only by someone
//! who can name its cluster. A disk is filled up only where a node's directory is on it, and it is small enough to be the node's own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::Content;

/// What a datanode keeps besides its identity.
const REPLICAS: &str = "replicas";
const QUARANTINE: &str = "quarantine";
/// Says which datanode this is, and of which cluster.
const DATANODE_IDENTITY: &str = "identity.json";
/// Says the same of a namenode.
const NAMENODE_IDENTITY: &str = "cluster.json";
/// The file that takes up all room.
const FILLER: &str = "drill-filler";
/// A larger disk is taken for one that a node shares with others.
const LARGEST_FILLED_BYTES: u64 = 16 << 30;
/// What a filesystem keeps in its own root, which is not ours and may not even be readable.
const OF_THE_FILESYSTEM: &str = "lost+found";
/// Whoever runs in a directory goes on making files while it is emptied.
const MOST_ATTEMPTS: u32 = 20;
/// Larger identities are none.
const MAX_IDENTITY_BYTES: u64 = 64 << 10;

/// A node's data directory.
#[derive(Debug, Clone)]
pub struct Hand {
    directory: PathBuf,
}

/// What is on a datanode's disk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// Its bytes.
    Whole,
    /// Other bytes under its name.
    Damaged,
    /// Nothing.
    Absent,
}

impl ReplicaState {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::Absent => "absent",
        }
    }

    /// The state that `word` means.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Whole, Self::Damaged, Self::Absent]
            .into_iter()
            .find(|state| state.word() == word)
    }
}

impl Hand {
    /// Works in `directory`, the `--dir` of a role.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Compares the replica of `canary` with what it has to be.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn look(&self, canary: Content) -> Result<ReplicaState> {
        let Some(path) = self.replica(&canary.hash())? else {
            return Ok(ReplicaState::Absent);
        };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(ReplicaState::Absent);
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        for chunk in canary.chunks() {
            let mut found = vec![0; chunk.len()];
            match file.read_exact(&mut found) {
                Ok(()) if found == chunk => {}
                Ok(()) => return Ok(ReplicaState::Damaged),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(ReplicaState::Damaged);
                }
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        Ok(match file.read(&mut [0])? {
            0 => ReplicaState::Whole,
            _ => ReplicaState::Damaged,
        })
    }

    /// Flips one bit in the middle of the replica of `canary`, in place, as a disk would.
    ///
    /// # Errors
    /// When there is no such replica.
    pub fn damage(&self, canary: Content) -> Result<()> {
        let hash = canary.hash();
        let path = self.replica(&hash)?;
        let path = path.with_context(|| format!("there is no replica of {hash} here"))?;
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        let middle = SeekFrom::Start(canary.size / 2);
        let mut byte = [0];
        file.seek(middle)?;
        file.read_exact(&mut byte)?;
        file.seek(middle)?;
        file.write_all(&[byte[0] ^ 1])?;
        file.sync_all()?;
        Ok(())
    }

    /// Removes the damaged replicas of `canary` that the datanode put aside.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn discard(&self, canary: Content) -> Result<()> {
        let hash = canary.hash();
        for path in entries(&self.directory.join(REPLICAS).join(QUARANTINE))? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.starts_with(&hash)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Empties the directory of a node of `cluster`. A datanode keeps the file that says who it is, as a machine does whose data
    /// disk was replaced; a namenode keeps nothing.
    ///
    /// # Errors
    /// When the directory is not that of a node of this cluster, or something in it cannot be removed.
    pub fn wipe(&self, cluster: &str) -> Result<()> {
        let identity = self.identity()?;
        let ours = cluster_of(&identity)?;
        if ours != cluster {
            bail!(
                "{} belongs to cluster {ours}, not to {cluster}",
                self.directory.display()
            );
        }
        let is_namenode = identity.ends_with(NAMENODE_IDENTITY);
        let spared =
            |path: &Path| path.ends_with(OF_THE_FILESYSTEM) || (!is_namenode && path == identity);
        for path in entries(&self.directory)? {
            if !spared(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Why the disk of this directory cannot be filled up.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn fill_obstacle(&self) -> Result<Option<String>> {
        let disk = statvfs(&self.directory)?;
        let capacity = disk.f_blocks.saturating_mul(disk.f_frsize);
        Ok((capacity > LARGEST_FILLED_BYTES).then(|| {
            format!(
                "its volume has {} GiB; above {} GiB it is taken for one that is shared with others",
                capacity >> 30,
                LARGEST_FILLED_BYTES >> 30
            )
        }))
    }

    /// Takes up all room on the disk of this directory.
    ///
    /// # Errors
    /// When the directory is not that of a node, the disk is too large for that, or it cannot be filled.
    pub fn fill(&self) -> Result<()> {
        self.identity()?;
        if let Some(obstacle) = self.fill_obstacle()? {
            bail!("{obstacle}");
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join(FILLER))?;
        let disk = statvfs(&self.directory)?;
        let room = disk.f_bavail.saturating_mul(disk.f_frsize);
        let length = file.metadata()?.len();
        // Halved until it fits: how much a filesystem needs for its own bookkeeping is only found out by trying.
        let mut more = room;
        let mut end = length;
        while more >= disk.f_frsize {
            match fallocate(&file, FallocateFlags::empty(), end, more) {
                Ok(()) => end += more,
                Err(rustix::io::Errno::NOSPC) => more /= 2,
                Err(error) => return Err(error).context("cannot take up the room"),
            }
        }
        Ok(())
    }

    /// Gives back what [`Hand::fill`] took.
    ///
    /// # Errors
    /// When it cannot.
    pub fn free(&self) -> Result<()> {
        match fs::remove_file(self.directory.join(FILLER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The file that says whose directory this is.
    fn identity(&self) -> Result<PathBuf> {
        let names = [DATANODE_IDENTITY, NAMENODE_IDENTITY];
        let mut paths = names.map(|name| self.directory.join(name)).into_iter();
        paths.find(|path| path.exists()).with_context(|| {
            let directory = self.directory.display();
            format!("{directory} is not the directory of a node that has joined a cluster")
        })
    }

    /// Where the replica of `hash` lies, whatever the layout: below directories whose names spell its digits.
    fn replica(&self, hash: &str) -> Result<Option<PathBuf>> {
        let mut waiting = vec![self.directory.join(REPLICAS)];
        while let Some(directory) = waiting.pop() {
            for path in entries(&directory)? {
                let name = path.file_name().and_then(|name| name.to_str());
                if name == Some(hash) && path.is_file() {
                    return Ok(Some(path));
                }
                if name.is_some_and(|name| hash.contains(name)) && path.is_dir() {
                    waiting.push(path);
                }
            }
        }
        Ok(None)
    }
}

/// What is in `directory`; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| directory.display().to_string())?,
    };
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect::<Result<_>>()
}

fn remove(path: &Path) -> Result<()> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let removed = match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempts < MOST_ATTEMPTS => {
            }
            removed => return removed.with_context(|| path.display().to_string()),
        }
    }
}

fn cluster_of(identity: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(identity)?;
    file.take(MAX_IDENTITY_BYTES).read_to_string(&mut text)?;
    let identity: serde_json::Value = serde_json::from_str(&text)?;
    let cluster = identity["cluster_id"].as_str();
    Ok(cluster.context("it has joined no cluster")?.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test fails by panicking
mod tests {
    use super::*;

    fn datanode() -> (tempfile::TempDir, Hand) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("replicas/quarantine")).unwrap();
        let identity = r#"{"cluster_id": "c"}"#;
        fs::write(directory.path().join(DATANODE_IDENTITY), identity).unwrap();
        let hand = Hand::new(directory.path());
        (directory, hand)
    }

    #[test]
    fn a_canary_is_found_damaged_and_nothing_else_is() {
        let (directory, hand) = datanode();
        let (canary, other) = (Content::new(1, 1000), Content::new(2, 1000));
        for content in [canary, other] {
            let hash = content.hash();
            let below = directory.path().join("replicas").join(&hash[..2]);
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join(hash), content.bytes()).unwrap();
        }
        assert_eq!(hand.look(canary).unwrap(), ReplicaState::Whole);
        hand.damage(canary).unwrap();
        assert_eq!(hand.look(canary).unwrap(), ReplicaState::Damaged);
        assert_eq!(hand.look(other).unwrap(), ReplicaState::Whole);
        let stranger = Content::new(3, 1000);
        assert_eq!(hand.look(stranger).unwrap(), ReplicaState::Absent);
        assert!(hand.damage(stranger).is_err());
    }

    #[test]
    fn only_who_knows_the_cluster_wipes_its_nodes() {
        let (directory, hand) = datanode();
        assert!(hand.wipe("d").is_err());
        assert!(directory.path().join(REPLICAS).exists());
        fs::create_dir(directory.path().join(OF_THE_FILESYSTEM)).unwrap();
        hand.wipe("c").unwrap();
        assert!(!directory.path().join(REPLICAS).exists());
        assert!(directory.path().join(OF_THE_FILESYSTEM).exists());
        assert!(directory.path().join(DATANODE_IDENTITY).exists());
        let empty = tempfile::tempdir().unwrap();
        assert!(Hand::new(empty.path()).wipe("c").is_err());
    }

    #[test]
    fn only_the_disk_of_a_node_is_filled_up() {
        let stranger = tempfile::tempdir().unwrap();
        let refused = Hand::new(stranger.path()).fill().unwrap_err();
        assert!(refused.to_string().contains("not the directory of a node"));
        assert!(!stranger.path().join(FILLER).exists());
    }

    #[test]
    fn what_was_put_aside_of_a_canary_can_be_thrown_away() {
        let (directory, hand) = datanode();
        let aside = directory.path().join("replicas/quarantine");
        let canary = Content::new(1, 10);
        fs::write(aside.join(format!("{}.7", canary.hash())), b"x").unwrap();
        fs::write(aside.join("f00.7"), b"kept").unwrap();
        hand.discard(canary).unwrap();
        assert_eq!(entries(&aside).unwrap(), [aside.join("f00.7")]);
    }
}
