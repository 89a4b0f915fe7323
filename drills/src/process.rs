//! [`Process`]: one running richardstore process that can be killed, stopped and looked at.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// No role takes longer than this to be ready; a slower one is a failed drill.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How to start a process, again and again.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The binary.
    pub binary: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where what it logs is appended.
    pub log: PathBuf,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ready_line: String,
}

impl ProcessSpec {
    /// Starts it and waits for its first line on standard output that contains `ready`, which is printed once it serves.
    ///
    /// # Errors
    /// When it ends before that, or is not ready in time; the end of its log is in the error.
    pub async fn start(&self, ready: &str) -> Result<Process> {
        self.spawn(Command::new(&self.binary), ready).await
    }

    /// The same, in a process group of its own: an interrupt at the terminal is not for it.
    ///
    /// # Errors
    /// As [`ProcessSpec::start`].
    pub async fn start_apart(&self, ready: &str) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.process_group(0);
        self.spawn(command, ready).await
    }

    async fn spawn(&self, mut command: Command, ready: &str) -> Result<Process> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let output = child.stdout.take().context("standard output is piped")?;
        let mut lines = BufReader::new(output).lines();
        let ready_line = tokio::time::timeout(READY_LIMIT, async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(ready) {
                    return Ok(line);
                }
            }
            bail!("it ended before it was ready:\n{}", self.log_end())
        })
        .await
        .with_context(|| format!("not ready in {READY_LIMIT:?}:\n{}", self.log_end()))??;
        // Drained to the end, so that a full pipe never stops the process.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Process { child, ready_line })
    }

    /// The last part of what it logged.
    pub fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// Everything it logged.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Process {
    /// The line that said it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// The first `http://...` of the ready line.
    pub fn url(&self) -> Option<&str> {
        self.ready_line
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn kill(mut self) -> Result<()> {
        self.die().await
    }

    /// The same for one who may have to be asked twice: a wait that is cut off is gone on with by the next call.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn die(&mut self) -> Result<()> {
        // Without an id it has been waited for.
        match self.id() {
            Some(_) => Ok(self.child.kill().await?),
            None => Ok(()),
        }
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub async fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        self.stop(limit).await
    }

    /// The same for one who may have to end what was cut off with [`Process::die`].
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        kill_process(self.pid()?, Signal::TERM)?;
        let status = tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("still running {limit:?} after SIGTERM"))??;
        Ok(status)
    }

    /// Waits for an end that it comes to by itself.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        Ok(status.with_context(|| format!("still running after {limit:?}"))??)
    }

    /// SIGSTOP, and waits until it is in force: it does nothing more until [`Process::resume`], and its connections stay open.
    ///
    /// # Errors
    /// When it cannot be signalled, or goes on all the same.
    pub async fn pause(&self) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::STOP)?;
        // On a busy machine its threads may still answer for a while.
        wait_until("all threads have stopped", READY_LIMIT, || async {
            has_stopped(pid)
        })
        .await
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn resume(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// The largest resident memory it ever had, in bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        peak_memory_bytes_of(self.child.id().context("the process has ended")?)
    }

    fn pid(&self) -> Result<Pid> {
        let id = i32::try_from(self.child.id().context("the process has ended")?)?;
        Pid::from_raw(id).context("a process id is not 0")
    }
}

/// The most memory that process `pid` ever had resident.
///
/// # Errors
/// When it is gone.
pub fn peak_memory_bytes_of(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .context("no VmHWM in the process status")?;
    Ok(kilobytes * 1024)
}

fn has_stopped(pid: Pid) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status.is_ok_and(|status| status.contains("State:\tT"))
    })
}

/// Asks `condition` again and again until it holds.
///
/// # Errors
/// When it does not hold within `limit`; the error names `what`.
pub async fn wait_until<F>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = bool>,
{
    let started = Instant::now();
    loop {
        if condition().await {
            return Ok(());
        }
        if started.elapsed() > limit {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
