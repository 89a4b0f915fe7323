//! [`Position`]: how far the scrub has come, kept in `scrub.json` over restarts.
//!
//! The file is replaced as a whole. It is a convenience: where it is missing or damaged, a pass begins anew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use richardstore_proto::ContentHash;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "scrub.json";
const TEMPORARY_NAME: &str = "scrub.json.new";
const VERSION: u32 = 1;
/// No `scrub.json` of ours is as long as this.
const MAX_BYTES: u64 = 4096;

/// How far a pass has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// When the pass began, milliseconds since the Unix epoch.
    pub began_ms: u64,
    /// The last replica that was read.
    pub after: Option<ContentHash>,
    /// The pass has come to its end.
    pub complete: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    began_ms: u64,
    after: Option<String>,
    complete: bool,
}

impl Position {
    /// At the beginning of a pass.
    pub(super) fn begin(now_ms: u64) -> Self {
        Self {
            began_ms: now_ms,
            after: None,
            complete: false,
        }
    }

    /// What was kept in `directory`, if that can be understood.
    pub(super) fn load(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE_NAME);
        match read(&path) {
            Ok(position) => Some(position),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the scrub begins anew");
                None
            }
        }
    }

    /// Keeps it in `directory`, durably.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        let stored = Stored {
            version: VERSION,
            began_ms: self.began_ms,
            after: self.after.map(|hash| hash.to_hex()),
            complete: self.complete,
        };
        let temporary = directory.join(TEMPORARY_NAME);
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        // Without it a power loss could leave the new name on an empty file, and the pass would begin anew.
        file.sync_all()?;
        fs::rename(&temporary, directory.join(FILE_NAME))
    }
}

fn read(path: &Path) -> io::Result<Position> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(io::Error::other("too long"));
    }
    let stored: Stored = serde_json::from_slice(&fs::read(path)?)?;
    if stored.version != VERSION {
        return Err(io::Error::other("another version"));
    }
    let after = stored.after.map(|digits| digits.parse()).transpose();
    Ok(Position {
        began_ms: stored.began_ms,
        after: after.map_err(io::Error::other)?,
        complete: stored.complete,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_was_saved_last_and_nothing_where_the_file_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Position::load(directory.path()), None);
        let mut position = Position::begin(77);
        for after in [None, Some(ContentHash::EMPTY)] {
            position.after = after;
            position.complete = !position.complete;
            position.save(directory.path()).unwrap();
            assert_eq!(Position::load(directory.path()), Some(position));
        }
        for damaged in ["", "{", "{\"version\":2}", &"x".repeat(5000)] {
            fs::write(directory.path().join(FILE_NAME), damaged).unwrap();
            assert_eq!(Position::load(directory.path()), None);
        }
    }
}
