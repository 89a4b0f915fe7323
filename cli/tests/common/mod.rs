//! What the black-box tests share: starting the binary under test in a directory of its own.

#![allow(dead_code)] // each test binary uses its own part of this

pub mod admin;
pub mod cluster;
pub mod networked;
pub mod strace;
pub mod workload;

use std::path::{Path, PathBuf};

use richardstore_drills::{Http, LoopDisk, Process, ProcessSpec};
use tempfile::TempDir;

const BINARY_VARIABLE: &str = "RICHARDSTORE_TEST_BINARY";

/// The binary under test: the one that cargo built beside these tests, or the one that `.ci/run` names, so that the release
/// binary is tested without building the tests once more for release. A whole path, since tests have directories of their own.
pub fn binary() -> PathBuf {
    std::env::var_os(BINARY_VARIABLE)
        .map_or_else(|| env!("CARGO_BIN_EXE_richardstore").into(), PathBuf::from)
}

/// Whether it is an optimized one.
pub fn is_release() -> bool {
    std::env::var_os(BINARY_VARIABLE).is_some() || !cfg!(debug_assertions)
}

/// A number from the environment, so that `.ci/run` can ask for more than a quick local run.
pub fn scaled(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Whether this machine can mount disks of its own. Where it cannot, says why, and the test is over: unless
/// `POWER_LOSS=required` says that it has to.
#[allow(clippy::print_stdout)] // tells a test that was skipped from one that passed
pub async fn has_loop_disks() -> bool {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(obstacle) = LoopDisk::obstacle(directory.path()).await else {
        return true;
    };
    let required = std::env::var("POWER_LOSS").is_ok_and(|value| value == "required");
    assert!(!required, "disks of its own are required: {obstacle}");
    println!("skipped: this test needs root and loop-mounted ext4: {obstacle}");
    false
}

pub fn process(directory: &Path, name: &str, arguments: &[&str]) -> ProcessSpec {
    ProcessSpec {
        binary: binary(),
        arguments: arguments.iter().map(Into::into).collect(),
        log: directory.join(format!("{name}.log")),
    }
}

/// A whole store in one process, which can be killed and started again.
pub struct Dev {
    pub directory: TempDir,
    data: PathBuf,
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
        let data = directory.path().join("data");
        Self::start_in(directory, data, more).await
    }

    /// Logs to `directory` and keeps everything else in `data`.
    pub async fn start_in(directory: TempDir, data: PathBuf, more: &[&str]) -> Self {
        let dir = data.display().to_string();
        let mut arguments = vec![
            "dev",
            "--dir",
            &dir,
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
            data,
            spec,
            process,
            http,
        }
    }

    pub async fn kill_and_restart(self) -> Self {
        self.kill_and_restart_after(async |_| ()).await
    }

    /// Nothing runs during `meanwhile`, which may start and stop the store itself.
    pub async fn kill_and_restart_after(self, meanwhile: impl AsyncFnOnce(&ProcessSpec)) -> Self {
        self.process.kill().await.unwrap();
        meanwhile(&self.spec).await;
        let process = self.spec.start("http://").await.unwrap();
        let http = Http::new(process.url().unwrap());
        Self {
            process,
            http,
            ..self
        }
    }

    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }
}

/// The lines of a log in which something panicked. Expected to be none, always: but for sled, which panics where its disk
/// fails under it. That is contained, and the index is made anew (I9).
pub fn panics(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| line.contains("panicked") && !line.contains("/sled-0.34.7/"))
        .collect()
}
