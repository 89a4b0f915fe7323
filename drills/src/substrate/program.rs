//! [`Run`]: how substrates call the command line tools that they are driven with, so that tests can look over their shoulder.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// No single call takes longer; what waits for something says for how long itself, and that is less.
const LIMIT: Duration = Duration::from_secs(240);

/// Calls one tool.
#[allow(async_fn_in_trait)] // as for `Substrate`
pub trait Run {
    /// Calls it with `arguments`, lets it read `input`, and returns what it printed.
    async fn feed(&mut self, arguments: &[&str], input: &str) -> Result<String>;

    /// Calls it with nothing to read.
    async fn run(&mut self, arguments: &[&str]) -> Result<String> {
        self.feed(arguments, "").await
    }
}

/// A tool in `PATH`.
#[derive(Debug, Clone)]
pub struct Program {
    name: &'static str,
    first: Vec<String>,
}

impl Program {
    /// `name`, always called with the arguments `first` before all others.
    pub fn new(name: &'static str, first: Vec<String>) -> Self {
        Self { name, first }
    }
}

impl Run for Program {
    async fn feed(&mut self, arguments: &[&str], input: &str) -> Result<String> {
        let called = || format!("{} {}", self.name, arguments.join(" "));
        let mut child = Command::new(self.name)
            .args(&self.first)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt at the terminal is for the drill, which then needs its tools to put things right.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.name))?;
        let mut reader = child.stdin.take().context("standard input is piped")?;
        let ended = async {
            // One that ends without having read everything says itself why.
            let _ = reader.write_all(input.as_bytes()).await;
            drop(reader);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(LIMIT, ended)
            .await
            .with_context(|| format!("no end within {} s: {}", LIMIT.as_secs(), called()))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}", called(), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// For tests: notes what it is called with and answers what it was told to.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub calls: Vec<String>,
    pub answers: std::collections::BTreeMap<String, String>,
}

#[cfg(test)]
impl Recorder {
    pub fn answering(answers: &[(&str, &str)]) -> Self {
        let own = |(call, answer): &(&str, &str)| ((*call).to_owned(), (*answer).to_owned());
        Self {
            calls: Vec::new(),
            answers: answers.iter().map(own).collect(),
        }
    }
}

#[cfg(test)]
impl Run for Recorder {
    async fn feed(&mut self, arguments: &[&str], input: &str) -> Result<String> {
        let separator = if input.is_empty() { "" } else { " < " };
        let call = format!("{}{separator}{input}", arguments.join(" "));
        self.calls.push(call.clone());
        Ok(self.answers.get(&call).cloned().unwrap_or_default())
    }
}
