//! [`TempFile`]: a file without a name of its own yet. Dropped before it got one, it is gone.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::WriteError;
use crate::volume::Volume;

pub(crate) struct TempFile {
    volume: Arc<Volume>,
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl TempFile {
    /// A new empty file on the volume, open for reading and writing.
    pub(crate) fn create(volume: &Arc<Volume>) -> Result<Self, WriteError> {
        let path = volume.next_temp_path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| volume.write_failed(&path, source))?;
        Ok(Self {
            volume: volume.clone(),
            file,
            path,
            renamed: false,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `bytes`.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), WriteError> {
        self.volume
            .disk
            .write(&self.file, bytes)
            .map_err(|source| self.volume.write_failed(&self.path, source))
    }

    /// Gives it the name `target` and replaces what has it. Returns whether directories had to be made for it. Not
    /// durable until data and directories are synced.
    pub(crate) fn rename_to(&mut self, target: &Path) -> io::Result<bool> {
        let disk = &self.volume.disk;
        let made_directories = match disk.rename(&self.path, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = target.parent().ok_or(error)?;
                std::fs::create_dir_all(parent)?;
                disk.rename(&self.path, target)?;
                true
            }
            result => result.map(|()| false)?,
        };
        self.renamed = true;
        Ok(made_directories)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        // Through the filesystem itself: dropping must work on a failed volume too. What cannot be removed is swept at
        // the next start.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "temp file left behind");
        }
    }
}
