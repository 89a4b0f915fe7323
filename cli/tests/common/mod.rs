//! What the black-box tests share: starting the binary under test in a directory of its own.

#![allow(dead_code)] // each test binary uses its own part of this

pub mod cluster;

use std::path::{Path, PathBuf};

use richardstore_drills::{Http, Process, ProcessSpec};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_richardstore");

/// A number from the environment, so that `.ci/run` can ask for more than a quick local run.
pub fn scaled(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

pub fn process(directory: &Path, name: &str, arguments: &[&str]) -> ProcessSpec {
    ProcessSpec {
        binary: PathBuf::from(BINARY),
        arguments: arguments.iter().map(Into::into).collect(),
        log: directory.join(format!("{name}.log")),
    }
}

/// A whole store in one process, which can be killed and started again.
pub struct Dev {
    pub directory: TempDir,
    pub spec: ProcessSpec,
    pub process: Process,
    pub http: Http,
}

impl Dev {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(more: &[&str]) -> Self {
        // Under the target directory and not in /tmp, which may be a tmpfs: that proves nothing about syncs.
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data = directory.path().join("data").display().to_string();
        let mut arguments = vec![
            "dev",
            "--dir",
            &data,
            "--listen",
            "127.0.0.1:0",
            "--namenode-listen",
            "127.0.0.1:0",
        ];
        arguments.extend(more);
        let spec = process(directory.path(), "dev", &arguments);
        let process = spec.start("http://").await.unwrap();
        let http = Http::new(process.url().unwrap());
        Self {
            directory,
            spec,
            process,
            http,
        }
    }

    pub async fn kill_and_restart(self) -> Self {
        self.process.kill().await.unwrap();
        let process = self.spec.start("http://").await.unwrap();
        let http = Http::new(process.url().unwrap());
        Self {
            process,
            http,
            ..self
        }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

/// The lines of a log in which something panicked. Expected to be none, always.
pub fn panics(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| line.contains("panicked"))
        .collect()
}
