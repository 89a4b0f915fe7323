//! Formatting and opening a root: `format.json` says how the tree is laid out, `LOCK` who may use it.
//!
//! A root is formatted in steps that a crash may part: `FORMATTING` first, directories, then `format.json`, complete and
//! synced, in one rename. As long as `FORMATTING` is there without `format.json`, formatting begins again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::volume::{QUARANTINE_DIRECTORY, TEMP_DIRECTORY, TREES_DIRECTORY, Volume};
use crate::{Depth, Layout, OpenError};

const FORMAT_FILE: &str = "format.json";
const FORMAT_FILE_NEW: &str = "format.json.new";
const FORMATTING_FILE: &str = "FORMATTING";
const LOCK_FILE: &str = "LOCK";
/// The root of an ext4 filesystem has it.
const LOST_AND_FOUND: &str = "lost+found";
const VERSION: u32 = 1;
/// No `format.json` of ours is as long as this.
const MAX_FORMAT_BYTES: u64 = 4096;

/// What `format.json` holds.
#[derive(Serialize, Deserialize)]
struct Format {
    version: u32,
    block_size: u8,
    depth: Depth,
}

/// Whether `name`, in a root, is one of the files that describe it.
pub(crate) fn is_own_file(name: &str) -> bool {
    matches!(
        name,
        FORMAT_FILE | FORMAT_FILE_NEW | FORMATTING_FILE | LOCK_FILE | LOST_AND_FOUND
    )
}

/// Opens `root`, formatting it where it is empty, and sweeps what a crash left behind.
pub(crate) fn open_volume(
    root: &Path,
    wanted: Option<Layout>,
    disk: Box<dyn Disk>,
) -> Result<Volume, OpenError> {
    fs::create_dir_all(root).map_err(|source| failed(root, source))?;
    let lock = lock(root)?;
    let layout = match read_format(root)? {
        Some(found) => check_layout(root, found, wanted)?,
        None => {
            let layout = wanted.unwrap_or_default();
            format(root, layout, disk.as_ref())?;
            layout
        }
    };
    for directory in [TEMP_DIRECTORY, TREES_DIRECTORY, QUARANTINE_DIRECTORY] {
        let path = root.join(directory);
        fs::create_dir_all(&path).map_err(|source| failed(&path, source))?;
    }
    sweep(root)?;
    probe_attributes(root, disk.as_ref())?;
    let handle = File::open(root).map_err(|source| failed(root, source))?;
    // A process that was killed may have made names that are visible but not durable. From here on whatever is seen is.
    disk.sync_filesystem(&handle)
        .map_err(|source| failed(root, source))?;
    Ok(Volume::new(root.to_owned(), layout, disk, handle, lock))
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| failed(&path, source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked { path }),
        Err(error) => Err(failed(&path, error.into())),
    }
}

fn read_format(root: &Path) -> Result<Option<Layout>, OpenError> {
    let path = root.join(FORMAT_FILE);
    let broken = |reason: String| OpenError::Format {
        path: path.clone(),
        reason,
    };
    match fs::metadata(&path) {
        Ok(stat) if stat.len() > MAX_FORMAT_BYTES => return Err(broken("too long".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(&path, source)),
    }
    let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
    let format: Format =
        serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if format.version != VERSION {
        let version = format.version;
        return Err(broken(format!(
            "version {version}, this program knows {VERSION}"
        )));
    }
    let layout = Layout::new(format.block_size, format.depth);
    layout.map(Some).map_err(|error| broken(error.to_string()))
}

fn check_layout(root: &Path, found: Layout, wanted: Option<Layout>) -> Result<Layout, OpenError> {
    match wanted {
        Some(wanted) if wanted != found => Err(OpenError::LayoutMismatch {
            root: root.to_owned(),
            found: found.to_string(),
            wanted: wanted.to_string(),
        }),
        _ => Ok(found),
    }
}

fn format(root: &Path, layout: Layout, disk: &dyn Disk) -> Result<(), OpenError> {
    if !is_formattable(root)? {
        return Err(OpenError::NotAStore {
            root: root.to_owned(),
        });
    }
    let marker = root.join(FORMATTING_FILE);
    File::create(&marker)
        .and_then(|_| disk.sync_directory(root))
        .map_err(|source| failed(&marker, source))?;
    // The first thing after the marker: an unfit filesystem is left with the marker and nothing else.
    let temp = root.join(TEMP_DIRECTORY);
    fs::create_dir_all(&temp).map_err(|source| failed(&temp, source))?;
    probe_attributes(root, disk)?;
    for directory in layout.premade_directories() {
        let path = root.join(directory);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(&path, source)),
        }
    }
    let handle = File::open(root).map_err(|source| failed(root, source))?;
    write_format(root, layout).map_err(|source| failed(&root.join(FORMAT_FILE), source))?;
    disk.sync_filesystem(&handle)
        .map_err(|source| failed(root, source))?;
    let (new, path) = (root.join(FORMAT_FILE_NEW), root.join(FORMAT_FILE));
    disk.rename(&new, &path)
        .and_then(|()| disk.sync_directory(root))
        .and_then(|()| fs::remove_file(&marker))
        .map_err(|source| failed(&path, source))
}

fn write_format(root: &Path, layout: Layout) -> io::Result<()> {
    let format = Format {
        version: VERSION,
        block_size: layout.block_size(),
        depth: layout.depth(),
    };
    let mut text = serde_json::to_string_pretty(&format)?;
    text.push('\n');
    fs::write(root.join(FORMAT_FILE_NEW), text)
}

/// Empty, or left by a formatting that did not end. Anything else may be somebody's files.
fn is_formattable(root: &Path) -> Result<bool, OpenError> {
    let mut empty = true;
    for entry in fs::read_dir(root).map_err(|source| failed(root, source))? {
        let name = entry.map_err(|source| failed(root, source))?.file_name();
        if name == FORMATTING_FILE {
            return Ok(true);
        }
        empty &= name == LOCK_FILE || name == LOST_AND_FOUND;
    }
    Ok(empty)
}

/// Removes the files of writes that a crash cut off.
fn sweep(root: &Path) -> Result<(), OpenError> {
    let temp = root.join(TEMP_DIRECTORY);
    let mut swept = 0u64;
    for entry in fs::read_dir(&temp).map_err(|source| failed(&temp, source))? {
        let path: PathBuf = entry.map_err(|source| failed(&temp, source))?.path();
        // A directory is none of ours.
        if path.is_dir() {
            continue;
        }
        fs::remove_file(&path).map_err(|source| failed(&path, source))?;
        swept += 1;
    }
    if swept > 0 {
        tracing::info!(root = %root.display(), swept, "temp files of unfinished writes removed");
    }
    Ok(())
}

fn probe_attributes(root: &Path, disk: &dyn Disk) -> Result<(), OpenError> {
    let path = root.join(TEMP_DIRECTORY).join("probe");
    let file = File::create(&path).map_err(|source| failed(&path, source))?;
    let set = disk.set_record(&file, b"probe");
    fs::remove_file(&path).map_err(|source| failed(&path, source))?;
    set.map_err(|source| match Errno::from_io_error(&source) {
        Some(Errno::OPNOTSUPP) => OpenError::NoExtendedAttributes {
            root: root.to_owned(),
        },
        _ => failed(&path, source),
    })
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}
