//! [`Identity`]: who this datanode is, which cluster it belongs to, and the newest session and namenode it has seen.
//!
//! It lives on the volume, beside the replicas: a disk that is moved to another host is the same datanode. The file is
//! replaced as a whole and synced with its directory, so that after a crash it is the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use richardstore_proto::{ClusterId, NamenodeEpoch, NodeId, SessionEpoch};
use richardstore_runtime::Entropy;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "identity.json";
const TEMPORARY_NAME: &str = "identity.json.new";
const FORMAT: u32 = 1;
/// A larger file is not ours.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Why the identity cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or replaced.
    #[error("cannot keep the identity in {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is there and does not say who this is. A new identity is never made over an old one: it would turn every
    /// replica here into one of a stranger.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The namenode belongs to another cluster.
    #[error(
        "this directory belongs to cluster {ours}, the namenode to cluster {theirs}; refusing to mix them"
    )]
    WrongCluster {
        /// What the directory says.
        ours: ClusterId,
        /// What the namenode says.
        theirs: ClusterId,
    },
    /// The namenode is older than one that was seen before.
    #[error("the namenode answers with epoch {answered}, but epoch {seen} was seen before")]
    OldNamenode {
        /// Its epoch.
        answered: NamenodeEpoch,
        /// The newest known.
        seen: NamenodeEpoch,
    },
}

/// Who this datanode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its own id, for ever.
    pub node_id: NodeId,
    /// The cluster it has joined.
    pub cluster_id: Option<ClusterId>,
    /// Counts the starts.
    pub session_epoch: SessionEpoch,
    /// The newest namenode that was obeyed (I10).
    pub namenode_epoch: NamenodeEpoch,
}

/// The file, with ids in the text form that people grep for.
#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    node_id: String,
    cluster_id: Option<String>,
    session_epoch: u64,
    #[serde(default)]
    namenode_epoch: u64,
}

impl Identity {
    /// Begins a new session in `directory`: the identity that is there with the next session epoch, or a new one. The
    /// caller holds the directory's lock.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`] where a file is there that cannot be understood.
    pub fn begin_session(directory: &Path, entropy: &dyn Entropy) -> Result<Self, IdentityError> {
        let mut identity = match read(&directory.join(FILE_NAME))? {
            Some(identity) => identity,
            None => Self {
                node_id: NodeId::new(entropy.id()),
                cluster_id: None,
                session_epoch: SessionEpoch(0),
                namenode_epoch: NamenodeEpoch(0),
            },
        };
        identity.session_epoch = identity.session_epoch.next();
        identity.save(directory)?;
        Ok(identity)
    }

    /// Replaces the file in `directory` by this identity, durably.
    ///
    /// # Errors
    /// [`IdentityError::File`] when the disk refuses; the old file is then still there.
    pub fn save(&self, directory: &Path) -> Result<(), IdentityError> {
        let path = directory.join(FILE_NAME);
        replace(directory, &self.to_text()).map_err(|source| IdentityError::File { path, source })
    }

    /// Whether a namenode of `cluster` and `epoch` may be obeyed. Returns the identity to save first, where the answer
    /// teaches something new.
    ///
    /// # Errors
    /// [`IdentityError::WrongCluster`] and [`IdentityError::OldNamenode`].
    pub fn meet(
        &self,
        cluster: ClusterId,
        epoch: NamenodeEpoch,
    ) -> Result<Option<Self>, IdentityError> {
        if let Some(ours) = self.cluster_id
            && ours != cluster
        {
            return Err(IdentityError::WrongCluster {
                ours,
                theirs: cluster,
            });
        }
        if epoch < self.namenode_epoch {
            return Err(IdentityError::OldNamenode {
                answered: epoch,
                seen: self.namenode_epoch,
            });
        }
        let met = Self {
            cluster_id: Some(cluster),
            namenode_epoch: epoch,
            ..*self
        };
        Ok((met != *self).then_some(met))
    }

    fn to_text(self) -> String {
        let file = IdentityFile {
            format: FORMAT,
            node_id: self.node_id.to_string(),
            cluster_id: self.cluster_id.map(|id| id.to_string()),
            session_epoch: self.session_epoch.0,
            namenode_epoch: self.namenode_epoch.0,
        };
        let mut text = serde_json::to_string_pretty(&file)
            .expect("a struct of numbers and strings always has a JSON form");
        text.push('\n');
        text
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let file: IdentityFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!(
                "format {} is not known here, only {FORMAT}",
                file.format
            ));
        }
        Ok(Self {
            node_id: file
                .node_id
                .parse()
                .map_err(|error| format!("node_id: {error}"))?,
            cluster_id: file
                .cluster_id
                .map(|id| id.parse())
                .transpose()
                .map_err(|error| format!("cluster_id: {error}"))?,
            session_epoch: SessionEpoch(file.session_epoch),
            namenode_epoch: NamenodeEpoch(file.namenode_epoch),
        })
    }
}

fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
    let failed = |source| IdentityError::File {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason| IdentityError::Damaged {
        path: path.to_owned(),
        reason,
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            return Err(damaged(format!("{} bytes are too many", metadata.len())));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
    Identity::from_text(text).map(Some).map_err(damaged)
}

fn replace(directory: &Path, text: &str) -> io::Result<()> {
    let temporary = directory.join(TEMPORARY_NAME);
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    // Without this sync a power loss could leave the new name on an empty file, which is refused as damaged.
    file.sync_all()?;
    fs::rename(&temporary, directory.join(FILE_NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_runtime::SystemEntropy;

    fn cluster(byte: u8) -> ClusterId {
        ClusterId::new([byte; 16])
    }

    #[test]
    fn a_restart_keeps_the_id_and_counts_the_session() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::begin_session(directory.path(), &SystemEntropy).unwrap();
        let joined = first.meet(cluster(1), NamenodeEpoch(4)).unwrap().unwrap();
        joined.save(directory.path()).unwrap();
        let second = Identity::begin_session(directory.path(), &SystemEntropy).unwrap();
        assert_eq!(second.session_epoch, first.session_epoch.next());
        assert_eq!(
            second,
            Identity {
                session_epoch: second.session_epoch,
                ..joined
            }
        );
    }

    #[test]
    fn a_damaged_identity_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for noise in [&b""[..], b"{}", b"\xff\xfe", b"{\"format\":99}"] {
            fs::write(&path, noise).unwrap();
            let error = Identity::begin_session(directory.path(), &SystemEntropy).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), noise);
        }
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_identity() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::begin_session(directory.path(), &SystemEntropy).unwrap();
        fs::write(directory.path().join(TEMPORARY_NAME), "half").unwrap();
        let second = Identity::begin_session(directory.path(), &SystemEntropy).unwrap();
        assert_eq!(second.node_id, first.node_id);
    }

    #[test]
    fn i10_another_cluster_and_an_older_namenode_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let new = Identity::begin_session(directory.path(), &SystemEntropy).unwrap();
        let joined = new.meet(cluster(1), NamenodeEpoch(4)).unwrap().unwrap();
        assert_eq!(joined.meet(cluster(1), NamenodeEpoch(4)).unwrap(), None);
        assert!(matches!(
            joined.meet(cluster(2), NamenodeEpoch(9)),
            Err(IdentityError::WrongCluster { .. })
        ));
        assert!(matches!(
            joined.meet(cluster(1), NamenodeEpoch(3)),
            Err(IdentityError::OldNamenode { .. })
        ));
        let newer = joined.meet(cluster(1), NamenodeEpoch(5)).unwrap().unwrap();
        assert_eq!(newer.namenode_epoch, NamenodeEpoch(5));
    }
}
