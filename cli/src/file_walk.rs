//! [`walk`]: the files below a path, one by one and in a fixed order. What cannot be read is reported and passed over.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file to store.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes, where they can be counted before they are read.
    pub size: Option<u64>,
}

/// Tells `visit` of `path`, or where it is a directory of all files in it, in the order of their names. Symbolic links below a
/// directory are passed over: they may lead in a circle, or out of it. Stops when `visit` returns `false`, and returns that.
pub fn walk(path: PathBuf, visit: &mut impl FnMut(Result<Found>) -> bool) -> bool {
    // What is still to be visited, last first. It holds the entries of one directory per level.
    let mut waiting = vec![path];
    let mut top = true;
    while let Some(path) = waiting.pop() {
        let kind = match std::mem::replace(&mut top, false) {
            true => fs::metadata(&path),
            false => fs::symlink_metadata(&path),
        };
        let reported = match kind {
            Ok(kind) if kind.is_dir() => match entries(&path) {
                Ok(mut entries) => {
                    waiting.append(&mut entries);
                    continue;
                }
                Err(error) => Err(error),
            },
            Ok(kind) if kind.is_symlink() => continue,
            Ok(kind) => Ok(Found {
                size: kind.is_file().then_some(kind.len()),
                path,
            }),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        if !visit(reported) {
            return false;
        }
    }
    true
}

/// The entries of a directory, last first.
fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(path)? {
            paths.push(entry?.path());
        }
        Ok(paths)
    };
    let mut paths = list().with_context(|| format!("cannot list {}", path.display()))?;
    paths.sort_unstable_by(|left, right| right.cmp(left));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: PathBuf) -> Vec<String> {
        let mut names = Vec::new();
        walk(path, &mut |found| {
            names.push(match found {
                Ok(found) => found
                    .path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
                Err(error) => format!("{error}"),
            });
            true
        });
        names
    }

    #[test]
    fn files_come_in_the_order_of_their_names_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("b")).unwrap();
        for name in ["c", "a", "b/2", "b/1"] {
            fs::write(path.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(path, path.join("b/circle")).unwrap();
        assert_eq!(found(path.to_owned()), ["a", "1", "2", "c"]);
        assert_eq!(found(path.join("a")), ["a"]);
    }

    #[test]
    fn what_cannot_be_read_is_reported() {
        let names = found(PathBuf::from("/does/not/exist"));
        assert_eq!(names, ["cannot read /does/not/exist"]);
    }
}
