//! [`Sheet`]: the rows of one run, as a table for people and as JSON for the next run.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Write};

use serde::{Deserialize, Serialize};

use crate::row::Row;

const MIB: f64 = 1024.0 * 1024.0;
/// Characters of the longest name.
const NAME: usize = 45;

/// The results of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    /// Version of the program.
    pub version: String,
    /// Processors of the machine.
    pub processors: usize,
    /// In the order they were measured.
    pub rows: Vec<Row>,
}

impl Sheet {
    /// An empty one for this machine.
    pub fn new() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            rows: Vec::new(),
        }
    }

    /// The rows that both have, as a table of how many times faster this one is than `old`.
    pub fn compare(&self, old: &Self) -> String {
        let before: BTreeMap<&str, &Row> = old.rows.iter().map(|r| (r.name.as_str(), r)).collect();
        let mut table = format!(
            "{:<NAME$} {:>12} {:>12} {:>7} {:>10} {:>10}\n",
            "", "before /s", "now /s", "ratio", "p99 then", "p99 now"
        );
        for row in &self.rows {
            let Some(was) = before.get(row.name.as_str()) else {
                continue;
            };
            let ratio = row.per_second / was.per_second.max(1e-9);
            // Writing to a string does not fail.
            let _ = writeln!(
                table,
                "{:<NAME$} {:>12} {:>12} {:>6.2}x {:>10} {:>10}",
                row.name,
                rate(was.per_second),
                rate(row.per_second),
                ratio,
                millis(was.p99_ms),
                millis(row.p99_ms)
            );
        }
        table
    }
}

impl Default for Sheet {
    fn default() -> Self {
        Self::new()
    }
}

impl Display for Sheet {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(
            out,
            "{:<NAME$} {:>11} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>6}  failed",
            "",
            "/s",
            "MiB/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "cpu ms",
            "mem MiB",
            "wr/byte",
            "B each",
            "limit"
        )?;
        for row in &self.rows {
            let optional = |figure: Option<f64>, digits: usize| {
                figure.map_or_else(String::new, |figure| format!("{figure:.digits$}"))
            };
            writeln!(
                out,
                "{:<NAME$} {:>11} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>6}  {}",
                row.name,
                rate(row.per_second),
                Some(row.bytes_per_second / MIB)
                    .filter(|rate| *rate > 0.0)
                    .map_or_else(String::new, rate),
                millis(row.p50_ms),
                millis(row.p99_ms),
                millis(row.p999_ms),
                optional(row.cpu_ms_per_operation, 3),
                optional(row.memory_bytes.map(|bytes| bytes as f64 / MIB), 0),
                optional(row.written_per_byte, 2),
                optional(row.bytes_each, 0),
                row.share()
                    .map_or_else(String::new, |share| format!("{:.0}%", share * 100.0)),
                match &row.error {
                    Some(error) => format!("{}: {error}", row.failed),
                    None => row.failed.to_string(),
                }
            )?;
        }
        Ok(())
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        few if few < 10.0 => format!("{few:.2}"),
        some if some < 1000.0 => format!("{some:.1}"),
        many => format!("{many:.0}"),
    }
}

fn millis(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(rate: u64) -> Sheet {
        let mut sheet = Sheet::new();
        sheet
            .rows
            .push(Row::rate("put 4 KiB", rate, 1.0, rate << 12));
        sheet
    }

    #[test]
    fn a_sheet_comes_back_from_its_json() {
        let sheet = sheet(100);
        let json = serde_json::to_string(&sheet).unwrap();
        assert_eq!(serde_json::from_str::<Sheet>(&json).unwrap(), sheet);
    }

    #[test]
    fn a_comparison_says_how_many_times_faster() {
        let table = sheet(300).compare(&sheet(100));
        assert!(table.lines().nth(1).unwrap().contains("3.00x"), "{table}");
    }
}
