//! [`ProcessMeter`]: what a process has used so far, from `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Figures of one process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Bytes it caused to be written to storage.
    pub written_bytes: u64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
}

/// A process that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct ProcessMeter {
    pid: u32,
}

impl ProcessMeter {
    /// Looks at the process with this id.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// What it has used until now.
    ///
    /// # Errors
    /// It is gone, or `/proc` has another form.
    pub fn usage(self) -> Result<Usage> {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.pid);
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        Ok(Usage {
            cpu_seconds: cpu_seconds(&read("stat")?).context("no times in the process status")?,
            written_bytes: figure(&read("io")?, "write_bytes:").context("no write_bytes")?,
            memory_bytes: figure(&read("status")?, "VmRSS:").context("no VmRSS")? * 1024,
        })
    }
}

impl Usage {
    /// What came to it since `earlier`. Memory is what it is now.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            memory_bytes: self.memory_bytes,
        }
    }
}

/// User and system time: the 14th and 15th field, counted behind the name, which may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let sum = ticks()? + ticks()?;
    Some(sum as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn figure(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_used_something() {
        let usage = ProcessMeter::new(std::process::id()).usage().unwrap();
        assert!(usage.memory_bytes > 1 << 16);
    }

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat), Some(200.0 / ticks));
    }
}
