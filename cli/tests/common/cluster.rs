//! A cluster with every role as a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use richardstore_drills::{Http, Process, ProcessSpec, wait_until};
use tempfile::TempDir;

use super::{panics, process};

pub struct Cluster {
    pub directory: TempDir,
    pub namenode: Process,
    pub namenode_spec: ProcessSpec,
    pub datanodes: Vec<Option<Process>>,
    pub datanode_specs: Vec<ProcessSpec>,
    pub gateway: Process,
    pub gateway_spec: ProcessSpec,
    pub http: Http,
}

/// The address in `... listening on host:port`.
fn address(process: &Process) -> String {
    process
        .ready_line()
        .rsplit(' ')
        .next()
        .unwrap()
        .trim_start_matches("http://")
        .to_owned()
}

impl Cluster {
    /// Starts `nodes` datanodes around a namenode that is also given `namenode_flags`.
    pub async fn start(nodes: usize, namenode_flags: &[&str]) -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self::start_in(directory, nodes, namenode_flags, &[]).await
    }

    /// As [`Cluster::start`], in a directory where `namenode` and `datanode-1` and so on may be disks of their own.
    pub async fn start_in(
        directory: TempDir,
        nodes: usize,
        namenode_flags: &[&str],
        datanode_flags: &[&str],
    ) -> Self {
        let path = directory.path();
        let at = |name: &str| path.join(name).display().to_string();
        let namenode_dir = at("namenode");
        let mut arguments = vec!["namenode", "--dir", &namenode_dir];
        arguments.extend(namenode_flags);
        arguments.extend(["--listen", "127.0.0.1:0"]);
        let mut namenode_spec = process(path, "namenode", &arguments);
        let namenode = namenode_spec.start("listening on").await.unwrap();
        let namenode_address = address(&namenode);
        // A restart has to come back at the same address, which the datanodes know.
        if let Some(listen) = namenode_spec.arguments.last_mut() {
            *listen = namenode_address.clone().into();
        }
        let (mut datanodes, mut datanode_specs) = (Vec::new(), Vec::new());
        for node in 1..=nodes {
            let name = format!("datanode-{node}");
            let dir = at(&name);
            let mut arguments = vec!["datanode", "--dir", &dir, "--name", &name];
            arguments.extend(["--listen", "127.0.0.1:0", "--namenode", &namenode_address]);
            arguments.extend(datanode_flags);
            let spec = process(path, &name, &arguments);
            datanodes.push(Some(spec.start("listening on").await.unwrap()));
            datanode_specs.push(spec);
        }
        let gateway_spec = process(
            path,
            "gateway",
            &[
                "gateway",
                "--listen",
                "127.0.0.1:0",
                "--namenode",
                &namenode_address,
            ],
        );
        let gateway = gateway_spec.start("http://").await.unwrap();
        let http = Http::new(gateway.url().unwrap());
        let cluster = Self {
            directory,
            namenode,
            namenode_spec,
            datanodes,
            datanode_specs,
            gateway,
            gateway_spec,
            http,
        };
        cluster.wait_for_live(nodes).await;
        cluster
    }

    /// Waits until exactly so many datanodes are live.
    pub async fn wait_for_live(&self, nodes: usize) {
        wait_until("enough live datanodes", Duration::from_secs(60), || async {
            let Ok(info) = self.http.get("/info").await else {
                return false;
            };
            let info = info.json().unwrap();
            // A namenode that just started still believes in all of them: only out of safe mode it has heard them.
            info["nodes"]["live"].as_u64() == Some(nodes as u64) && info["status"] != "safe mode"
        })
        .await
        .unwrap();
    }

    /// Where the namenode listens.
    pub fn namenode_address(&self) -> String {
        address(&self.namenode)
    }

    /// The root of the store of datanode `number`, counted from 1.
    pub fn replicas(&self, number: usize) -> PathBuf {
        self.directory
            .path()
            .join(format!("datanode-{number}/replicas"))
    }

    /// Stops everything by SIGTERM; each role must end well, and none may have panicked.
    pub async fn stop(self) -> TempDir {
        // They take less than five seconds, but for a sync that waits for what others have written: `shell.rs`.
        let limit = Duration::from_secs(30);
        assert!(self.gateway.terminate(limit).await.unwrap().success());
        for datanode in self.datanodes.into_iter().flatten() {
            assert!(datanode.terminate(limit).await.unwrap().success());
        }
        assert!(self.namenode.terminate(limit).await.unwrap().success());
        for spec in self.datanode_specs.iter().chain([&self.namenode_spec]) {
            assert_eq!(panics(&spec.log_text()), Vec::<&str>::new());
        }
        self.directory
    }
}
