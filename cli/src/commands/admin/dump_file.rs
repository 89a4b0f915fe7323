//! [`DumpFile`]: a dump in a file, which has its name only when it is whole and on disk.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use richardstore_namenode::{DumpSummary, verify_dump};

pub struct DumpFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl DumpFile {
    /// Begins the file that will be `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        Ok(Self {
            file,
            temporary,
            path: path.to_owned(),
        })
    }

    /// Where the bytes go.
    pub fn writer(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// All of it was written: it gets its name, durably.
    pub fn keep(&self) -> Result<()> {
        let keep = || {
            self.file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            let parent = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        keep().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Reads it back and checks that it is a whole dump of everything.
    pub fn verify(&self) -> Result<DumpSummary> {
        let file = File::open(&self.temporary)?;
        verify_dump(BufReader::new(file))
            .with_context(|| format!("{} is not what was written", self.temporary.display()))
    }
}
