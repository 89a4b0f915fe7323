//! `admin maintenance`: has a datanode expected to be away for a time.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::{NodeAdminStatus, NodeWish};
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

/// Which node, and for how long.
#[derive(Debug, Args)]
pub struct MaintenanceArguments {
    /// The datanode: its id, or its name
    node: String,
    /// How long it is expected to be away, such as 30m, 2h or 1d; at most 7d
    #[arg(long = "for", env = "RICHARDSTORE_FOR", value_name = "TIME", default_value = "2h", value_parser = duration)]
    time: Duration,
    /// It is back, or will not come back: miss it again when it is away
    #[arg(long, env = "RICHARDSTORE_END")]
    end: bool,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Asks for it and prints how it is then.
pub async fn run(
    arguments: MaintenanceArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let wish = match arguments.end {
        true => NodeWish::EndMaintenance,
        false => NodeWish::Maintenance {
            for_ms: u64::try_from(arguments.time.as_millis()).unwrap_or(u64::MAX),
        },
    };
    let work = async {
        let status = session.client.set_node_admin(&arguments.node, wish).await;
        let status = status.with_context(|| format!("cannot change {}", arguments.node))?;
        output.line(&status, |status| describe(status, arguments.time))?;
        Ok(())
    };
    session.run(work).await
}

fn describe(status: &NodeAdminStatus, time: Duration) -> String {
    let name = &status.name;
    match status.maintenance_until_ms {
        Some(_) => format!(
            "{name}: in maintenance for {} min; its {} replicas are not copied meanwhile, but where fewer than the minimum are left",
            time.as_secs().div_ceil(60),
            status.replicas
        ),
        None => format!("{name}: not in maintenance"),
    }
}

/// A number with s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 30m, 2h or 1d");
    let unit_at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(unit_at).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(seconds).filter(|&seconds| seconds > 0);
    Ok(Duration::from_secs(seconds.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        for (text, expected) in [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for wrong in [
            "",
            "2",
            "h",
            "0h",
            "-1h",
            "2 h",
            "2w",
            "\u{20ac}",
            "99999999999999999999d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
