//! `richardstore drill` holds its drills with real processes, and its account is true.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::binary;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Mutex;

/// A drill takes a few seconds; a machine that is busy with other builds takes longer.
const LIMIT: Duration = Duration::from_secs(300);

/// Seven processes each, with deadlines: four clusters at once would be a test of the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Holds a drill: its report, and what it said on the way.
async fn hold(name: &str) -> (Value, String) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut drill = Command::new(binary());
    drill
        .args(["drill", name, "--on", "local", "--json"])
        .args(["--canaries", "8", "--largest", "64KiB"])
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, drill.output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["drill"], name);
    assert_eq!(report["outcome"], "passed", "{said}");
    assert!(report["acknowledged"].as_u64() >= Some(8), "{report}");
    for broken in ["lost", "wrong", "resurrected"] {
        assert_eq!(report[broken], 0, "{report}");
    }
    assert!(report["recovery_seconds"].as_f64() > Some(0.0), "{report}");
    (report, said.into_owned())
}

#[tokio::test]
async fn i01_i03_i07_a_drill_kills_the_namenode_under_load_and_nothing_is_lost() {
    let (report, said) = hold("namenode-kill-under-load").await;
    // Uploads need not have noticed: one that has its allocation waits for the commit until the namenode is back. That it
    // started anew each time is what the drill itself looks at.
    assert_eq!(said.matches("namenode is killed").count(), 3, "{said}");
    assert!(report["acknowledged"].as_u64() > Some(8), "{report}");
}

#[tokio::test]
async fn i06_a_drill_loses_a_datanode_and_sees_its_files_copied() {
    hold("datanode-loss").await;
}

#[tokio::test]
async fn i05_a_drill_flips_bits_and_sees_them_made_good() {
    hold("bit-rot").await;
}

#[tokio::test]
async fn an_interrupted_drill_puts_the_cluster_right_and_says_so() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut child = Command::new(binary())
        .args(["drill", "datanode-loss", "--on", "local", "--canaries", "8"])
        .args(["--largest", "64KiB"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut all = String::new();
    while !all.contains("is killed") {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut said, &mut all);
        assert_ne!(read.await.unwrap(), 0, "{all}");
    }
    let id = i32::try_from(child.id().unwrap()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    // As a terminal does it: everything that was started in the foreground hears it.
    rustix::process::kill_process_group(id, rustix::process::Signal::INT).unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut said, &mut all)
        .await
        .unwrap();
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(130), "{all}");
    assert!(all.contains("is put right"), "{all}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("interrupted"), "{table}");
    assert!(table.contains("lost 0, wrong 0, resurrected 0"), "{table}");
}
