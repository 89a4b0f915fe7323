//! [`Exposition`]: metrics in Prometheus' text format.

use std::fmt::{Display, Write};

use super::histogram::Histogram;

/// Text under construction. Each family is written in one go: name, help and type, then its samples.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Names and values of a sample's labels. Values come from tables of this program or are node names.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// A counter without labels; `name` ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(&[] as Labels<'_>, value)]);
    }

    /// A counter with one sample for each set of labels.
    pub fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        self.head(name, help, "counter");
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.sample(name, &[], value);
    }

    /// A value for each set of labels.
    pub fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        self.head(name, help, "gauge");
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// The version that runs, as a gauge that is 1.
    pub fn build_info(&mut self, role: &str, version: &str) {
        let name = format!("richardstore_{role}_build_info");
        let labels: Labels<'_> = &[("version", version)];
        self.gauges(&name, "The version that runs.", [(labels, 1)]);
    }

    /// A histogram without labels.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.histograms(name, help, [(&[] as Labels<'_>, histogram)]);
    }

    /// A histogram for each set of labels.
    pub fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, &'a Histogram)>,
    ) {
        self.head(name, help, "histogram");
        for (labels, histogram) in samples {
            let snapshot = histogram.snapshot();
            let bucket = format!("{name}_bucket");
            let all = [("+Inf", snapshot.count)];
            for (bound, count) in snapshot.cumulative.iter().chain(&all) {
                let mut with_bound = labels.to_vec();
                with_bound.push(("le", bound));
                self.sample(&bucket, &with_bound, count);
            }
            let (whole, fraction) = (
                snapshot.sum_millionths / 1_000_000,
                snapshot.sum_millionths % 1_000_000,
            );
            self.sample(
                &format!("{name}_sum"),
                labels,
                format_args!("{whole}.{fraction:06}"),
            );
            self.sample(&format!("{name}_count"), labels, snapshot.count);
        }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{COUNTS, SECONDS};
    use std::time::Duration;

    #[test]
    fn a_family_is_a_head_and_its_samples() {
        let mut out = Exposition::default();
        out.counters(
            "t_total",
            "Things.",
            [(&[("a", "x\"y\\z\n"), ("b", "")] as Labels<'_>, 7)],
        );
        out.gauge("g", "A gauge.", 1.5);
        assert_eq!(
            out.into_text(),
            "# HELP t_total Things.\n# TYPE t_total counter\nt_total{a=\"x\\\"y\\\\z\\n\",b=\"\"} 7\n\
             # HELP g A gauge.\n# TYPE g gauge\ng 1.5\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_the_sum_is_in_seconds() {
        let histogram = Histogram::new(SECONDS);
        for millis in [1, 2, 40, 700_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = Exposition::default();
        out.histograms(
            "t",
            "Times.",
            [(&[("route", "/")] as Labels<'_>, &histogram)],
        );
        let text = out.into_text();
        for line in [
            "t_bucket{route=\"/\",le=\"0.001\"} 1",
            "t_bucket{route=\"/\",le=\"0.0025\"} 2",
            "t_bucket{route=\"/\",le=\"600\"} 3",
            "t_bucket{route=\"/\",le=\"+Inf\"} 4",
            "t_sum{route=\"/\"} 700.043000",
            "t_count{route=\"/\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn numbers_of_things_are_shown_as_they_are() {
        let histogram = Histogram::new(COUNTS);
        histogram.observe_count(3);
        let mut out = Exposition::default();
        out.histogram("n", "Numbers.", &histogram);
        let text = out.into_text();
        assert!(text.contains("n_bucket{le=\"2\"} 0\nn_bucket{le=\"5\"} 1\n"));
        assert!(text.contains("n_sum 3.000000\nn_count 1\n"), "{text}");
    }
}
