//! Spans of time, numbers and lists as people say them. Pure.

/// `ms` as a span of time with one unit: what comes after it does not matter to who reads it.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    let (number, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit}")
}

/// How long before `now_ms` something was.
pub(super) fn ago(then_ms: u64, now_ms: u64) -> String {
    format!("{} ago", span(now_ms.saturating_sub(then_ms)))
}

/// How long after `now_ms` something will be.
pub(super) fn until(then_ms: u64, now_ms: u64) -> String {
    match then_ms.saturating_sub(now_ms) {
        0 => "now".to_owned(),
        left_ms => format!("in {}", span(left_ms)),
    }
}

/// `1 replica`, `2 replicas`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_in_the_unit_that_fits() {
        let said: Vec<String> = [0, 1, 119_000, 120_000, 7_199_000, 7_200_000, 200_000_000]
            .map(span)
            .into();
        assert_eq!(
            said,
            ["0 s", "1 s", "119 s", "2 min", "119 min", "2 h", "2 days"]
        );
        assert_eq!(until(5, 9), "now");
        assert_eq!(until(9_000, 4_000), "in 5 s");
        assert_eq!(ago(4_000, 9_000), "5 s ago");
    }
}
