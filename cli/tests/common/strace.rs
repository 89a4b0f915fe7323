//! [`Strace`]: system calls of a running process that fail, as those of a failing disk do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use richardstore_drills::{Process, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// An attached tracer. Dropping it lets the calls succeed again.
pub struct Strace {
    tracer: Child,
}

impl Strace {
    /// Whether this machine has a tracer that may attach. Where not, says why, and the test is over: unless
    /// `POWER_LOSS=required` says that this has to run.
    #[allow(clippy::print_stdout)] // tells a test that was skipped from one that passed
    pub fn is_possible() -> bool {
        let trial = Command::new("strace")
            .args(["-qq", "-e", "inject=getppid:error=EIO", "true"])
            .stderr(Stdio::null())
            .status();
        let possible = trial.as_ref().is_ok_and(|status| status.success());
        if !possible {
            let required = std::env::var("POWER_LOSS").is_ok_and(|value| value == "required");
            assert!(!required, "strace is required: {trial:?}");
            println!("skipped: this test needs a strace that may attach: {trial:?}");
        }
        possible
    }

    /// From when this returns, `calls` (names joined by commas) of `process` do what `how` says: `error=EIO`,
    /// `delay_enter=100000`. Those that meet it are written to `log`.
    pub async fn attach(process: &Process, calls: &str, how: &str, log: &Path) -> Self {
        Self::attach_with(process, calls, how, log, &[]).await
    }

    /// As [`Strace::attach`], but only those calls that are about the file at `path`.
    pub async fn attach_to_file(
        process: &Process,
        path: &Path,
        calls: &str,
        how: &str,
        log: &Path,
    ) -> Self {
        Self::attach_with(process, calls, how, log, &["-P".as_ref(), path.as_os_str()]).await
    }

    async fn attach_with(
        process: &Process,
        calls: &str,
        how: &str,
        log: &Path,
        more: &[&OsStr],
    ) -> Self {
        let pid = process.id().unwrap();
        let tracer = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-o"])
            .arg(log)
            .args(more)
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{how}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let strace = Self { tracer };
        wait_until(
            "all threads are traced",
            Duration::from_secs(30),
            || async { is_traced(pid) },
        )
        .await
        .unwrap();
        strace
    }

    /// Lets go of the process and waits until it has.
    pub fn detach(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let pid = i32::try_from(self.tracer.id()).ok().and_then(Pid::from_raw);
        // SIGINT detaches; SIGKILL might leave a thread stopped.
        let _ = kill_process(pid.unwrap(), Signal::INT);
        let _ = self.tracer.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if matches!(self.tracer.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Whether every thread of the process has a tracer.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let mut status = String::new();
        let read = File::open(thread.path().join("status"))
            .and_then(|mut file| file.read_to_string(&mut status));
        // A thread that has just ended needs none.
        read.is_err() || !status.contains("TracerPid:\t0\n")
    })
}
