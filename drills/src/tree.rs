//! [`inspect_tree`]: what lies in a datanode's directory when nobody serves it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::content::hex;

/// What was found below one directory.
#[derive(Debug, Default)]
pub struct TreeFindings {
    /// Names of files that are replicas, and hold what they say.
    pub replicas: Vec<String>,
    /// Replicas whose bytes have another hash than their name.
    pub wrong: Vec<PathBuf>,
    /// Files in the temp directory.
    pub temporary: Vec<PathBuf>,
}

/// Reads every replica below `root` and compares its SHA-256 with its name.
///
/// A replica is a file named by 64 hex digits whose path below `root` spells the same digits; sidecars that carry a
/// hash for a name lie elsewhere and are left alone. What goes while the others are looked at is not there.
///
/// # Errors
/// The first I/O error; a root without a temp directory is one too, or its absence would pass for cleanliness.
pub fn inspect_tree(root: &Path) -> io::Result<TreeFindings> {
    let mut findings = TreeFindings::default();
    let temporary = root.join("temp");
    std::fs::read_dir(&temporary)?;
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Some(entries) = still_there(std::fs::read_dir(&directory))? else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            } else if directory == temporary {
                findings.temporary.push(path);
            } else if let Some(name) = replica_name(root, &path) {
                match still_there(hash_of(&path))? {
                    Some(hash) if hash == name => findings.replicas.push(name),
                    Some(_) => findings.wrong.push(path),
                    None => {}
                }
            }
        }
    }
    findings.replicas.sort();
    Ok(findings)
}

/// `None` for what is gone.
fn still_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn replica_name(root: &Path, path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let directories: String = path
        .parent()?
        .strip_prefix(root)
        .ok()?
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .collect();
    (is_hash && name.starts_with(&directories)).then(|| name.to_owned())
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..length]);
    }
}
