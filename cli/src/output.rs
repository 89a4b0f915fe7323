//! [`Output`]: what a command prints on standard output, as text or as JSON. Nothing else writes there.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// Standard output. Each line is flushed, since somebody may wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Prints JSON where `json` is set.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints `value` as one line: itself as JSON, or `text` of it.
    pub fn line<T, D>(&self, value: &T, text: impl FnOnce(&T) -> D) -> io::Result<()>
    where
        T: Serialize,
        D: Display,
    {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, value)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{}", text(value))?;
        }
        out.flush()
    }

    /// Whether it prints JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Says on standard error how far something is. There is nowhere to report that it is closed.
    pub fn progress(self, words: &str) {
        let _ = writeln!(io::stderr().lock(), "{words}");
    }

    /// Says on standard error that something went wrong.
    pub fn error(&self, error: &str, code: u8) {
        let mut err = io::stderr().lock();
        // There is nowhere left to report that standard error is closed.
        let _ = if self.json {
            let line = serde_json::json!({"error": error, "exit_code": code});
            writeln!(err, "{line}")
        } else {
            writeln!(err, "richardstore: {error}")
        };
    }
}

/// `bytes` for people, such as `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
