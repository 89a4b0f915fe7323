//! The client commands against a running store, as a shell sees them: output, files and exit codes.

// Everything here is a test, and a panic is how a test fails; clippy only sees that inside of #[test].
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::{Dev, binary, process};
use richardstore_drills::{Content, wait_until};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A store, and a shell beside it.
struct Shell {
    dev: Dev,
    namenode: String,
}

impl Shell {
    async fn start() -> Self {
        let dev = Dev::start().await;
        let addresses = std::fs::read(dev.data().join("dev.json")).unwrap();
        let addresses: Value = serde_json::from_slice(&addresses).unwrap();
        let namenode = addresses["namenode"].as_str().unwrap().to_owned();
        Self { dev, namenode }
    }

    fn path(&self) -> &Path {
        self.dev.directory.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (host, port) = self.namenode.rsplit_once(':').unwrap();
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(self.path())
            // The names that the first deployments used.
            .env("NAMENODE_ADDRESS", host)
            .env("NAMENODE_PORT", port)
            .stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    async fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    async fn code(&self, arguments: &[&str]) -> Option<i32> {
        self.run(arguments).await.status.code()
    }

    fn write(&self, name: &str, content: Content) -> String {
        std::fs::write(self.path().join(name), content.bytes()).unwrap();
        content.hash()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }
}

#[tokio::test]
async fn directories_files_and_standard_input_are_stored_and_listed() {
    let shell = Shell::start().await;
    std::fs::create_dir_all(shell.path().join("in/deep")).unwrap();
    let first = shell.write("in/first", Content::new(1, 100));
    let second = shell.write("in/deep/second", Content::new(2, 3_000_000));
    let mut printed = shell.lines(&["put", "in"]).await;
    printed.sort();
    let mut expected = [
        format!("{first}  in/first"),
        format!("{second}  in/deep/second"),
    ];
    expected.sort();
    assert_eq!(printed, expected);

    let third = Content::new(3, 500_000);
    let mut put = shell.command(&["--json", "put", "-"]);
    let mut put = put
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = put.stdin.take().unwrap();
    stdin.write_all(&third.bytes()).await.unwrap();
    drop(stdin);
    let output = put.wait_with_output().await.unwrap();
    let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stored["hash"], third.hash());
    assert_eq!(
        (&stored["replicas"], &stored["created"]),
        (&3.into(), &true.into())
    );

    let mut hashes = vec![first.clone(), second, third.hash()];
    hashes.sort();
    let listed = shell.lines(&["ls"]).await;
    let listed: Vec<&str> = listed.iter().map(|line| &line[..64]).collect();
    assert_eq!(listed, hashes);
    let prefixed = shell.lines(&["ls", "--prefix", &first[..8]]).await;
    assert_eq!(prefixed.len(), 1);
    assert_eq!(shell.lines(&["ls", "--limit", "2"]).await.len(), 2);
    let shown = shell.lines(&["stat", &first, "--json"]).await;
    let shown: Value = serde_json::from_str(&shown[0]).unwrap();
    assert_eq!(
        (&shown["size"], &shown["hash"]),
        (&100.into(), &first.clone().into())
    );
    assert_eq!(shown["replicas"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn get_resumes_a_part_and_starts_again_where_the_part_is_of_something_else() {
    let shell = Shell::start().await;
    let content = Content::new(1, 5_000_000);
    let hash = shell.write("file", content);
    let bytes = content.bytes();
    shell.lines(&["put", "file"]).await;
    for part in [
        None,
        Some(bytes[..3_000_000].to_vec()),
        Some(bytes.to_vec()),
        Some(vec![7; 3_000_000]),
        Some(vec![7; 6_000_000]),
    ] {
        if let Some(part) = part {
            std::fs::write(shell.path().join("copy.part"), part).unwrap();
        }
        shell.lines(&["get", &hash, "-o", "copy"]).await;
        assert!(shell.read("copy") == bytes);
        assert!(!shell.path().join("copy.part").exists());
        std::fs::remove_file(shell.path().join("copy")).unwrap();
    }
    let piped = shell.run(&["get", &hash, "-o", "-"]).await;
    assert!(piped.stdout == bytes);
}

#[tokio::test]
async fn exit_codes_say_what_went_wrong() {
    let shell = Shell::start().await;
    let hash = shell.write("file", Content::new(1, 1_000));
    assert_eq!(shell.code(&["put", "file", "missing"]).await, Some(1));
    assert_eq!(shell.code(&["health"]).await, Some(0));
    let url = format!("http://{}", shell.dev.http.authority());
    assert_eq!(shell.code(&["health", &url]).await, Some(0));
    assert_eq!(shell.code(&["get", "not-a-hash"]).await, Some(2));
    assert_eq!(shell.code(&["rm", &hash]).await, Some(0));
    for command in ["rm", "get", "stat"] {
        assert_eq!(shell.code(&[command, &hash]).await, Some(3), "{command}");
    }
    for left in [hash.clone(), format!("{hash}.part")] {
        assert!(!shell.path().join(&left).exists(), "{left}");
    }
    let elsewhere = ["ls", "--namenode", "127.0.0.1:1"];
    assert_eq!(shell.code(&elsewhere).await, Some(4));
    let taken = shell.dev.data().join("namenode").display().to_string();
    let second = ["namenode", "--listen", "127.0.0.1:0", "--dir", &taken];
    assert_eq!(shell.code(&second).await, Some(24));
    let taken = shell.dev.data().join("datanode-1").display().to_string();
    let second = ["datanode", "--listen", "127.0.0.1:0", "--dir", &taken];
    assert_eq!(shell.code(&second).await, Some(24));
}

#[tokio::test]
async fn i02_an_interrupted_put_leaves_nothing_and_says_so() {
    let shell = Shell::start().await;
    let mut put = shell
        .command(&["put", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = put.stdin.take().unwrap();
    stdin
        .write_all(&Content::new(1, 1_000_000).bytes())
        .await
        .unwrap();
    let in_flight = async |expected: u64| {
        let info = shell.dev.http.get("/info").await.unwrap().json().unwrap();
        info["writes_in_flight"] == expected
    };
    let limit = Duration::from_secs(20);
    wait_until("the upload", limit, || in_flight(1))
        .await
        .unwrap();
    let id = i32::try_from(put.id().unwrap()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(put.wait().await.unwrap().code(), Some(130));
    wait_until("the abandon", limit, || in_flight(0))
        .await
        .unwrap();
    assert!(shell.lines(&["ls"]).await.is_empty());
}

#[tokio::test]
async fn dev_takes_another_port_where_the_namenodes_is_taken() {
    // Whoever has it, this test or somebody else: it is taken.
    let _taken = std::net::TcpListener::bind("127.0.0.1:9000");
    let directory = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = directory.path().join("data").display().to_string();
    let arguments = [
        "dev",
        "--dir",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--datanodes",
        "1",
    ];
    let spec = process(directory.path(), "dev", &arguments);
    let dev = spec.start("http://").await.unwrap();
    let status = dev.terminate(Duration::from_secs(5)).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
