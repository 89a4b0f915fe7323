//! A cluster of which every process is on a machine of its own, as far as its network goes.

use std::panic::resume_unwind;
use std::time::Duration;

use richardstore_drills::{Http, Namespaces, Process, ProcessSpec, wait_until};
use tempfile::TempDir;

use super::{panics, process};

pub const NAMENODE: &str = "namenode";
pub const GATEWAY: &str = "gateway";
/// Where the test itself is.
pub const CLIENT: &str = "client";
pub const DATANODES: [&str; 4] = ["datanode-1", "datanode-2", "datanode-3", "datanode-4"];

const LIMIT: Duration = Duration::from_secs(90);

/// Runs `test` on the client's machine. Where this machine cannot have such a network, says why, and the test is over: unless
/// `NETNS=required` says that it has to.
#[allow(clippy::print_stdout)] // tells a test that was skipped from one that passed
pub fn in_network(test: impl AsyncFnOnce(&Namespaces) + Send) {
    if let Some(obstacle) = Namespaces::obstacle() {
        let required = std::env::var("NETNS").is_ok_and(|value| value == "required");
        assert!(!required, "network namespaces are required: {obstacle}");
        println!("skipped: this test needs root, ip and nft: {obstacle}");
        return;
    }
    let machines = [&[NAMENODE, GATEWAY, CLIENT], &DATANODES[..]].concat();
    let network = Namespaces::create(&machines).unwrap();
    // A thread of its own, since it never comes back from there; and one thread alone, so that all sockets are on it.
    let ended = std::thread::scope(|scope| {
        let on_client = scope.spawn(|| {
            network.enter(CLIENT).unwrap();
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime
                .enable_all()
                .build()
                .unwrap()
                .block_on(test(&network));
        });
        on_client.join()
    });
    if let Err(panic) = ended {
        drop(network);
        resume_unwind(panic);
    }
}

/// The processes. Dropped, they are killed.
pub struct Networked {
    pub gateway: Process,
    pub datanodes: Vec<Option<Process>>,
    pub namenode: Option<Process>,
    pub specs: Vec<ProcessSpec>,
    pub http: Http,
    pub directory: TempDir,
}

impl Networked {
    pub async fn start(
        network: &Namespaces,
        namenode_flags: &[&str],
        gateway_flags: &[&str],
    ) -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = directory.path();
        let spec = |machine: &str, port: u16, flags: &[&str]| {
            let listen = format!("{}:{port}", network.address(machine));
            let role = machine.split('-').next().unwrap();
            let arguments = [&[role, "--listen", &listen], flags].concat();
            network.on(machine, process(place, machine, &arguments))
        };
        let at = |name: &str| place.join(name).display().to_string();
        let namenode_address = format!("{}:9000", network.address(NAMENODE));
        let namenode_dir = at(NAMENODE);
        let flags = [&["--dir", &namenode_dir], namenode_flags].concat();
        let namenode = spec(NAMENODE, 9000, &flags);
        let mut specs = vec![namenode];
        let namenode = specs[0].start("listening on").await.unwrap();
        let mut datanodes = Vec::new();
        for name in DATANODES {
            let dir = at(name);
            let flags = [
                "--dir",
                &dir,
                "--name",
                name,
                "--namenode",
                &namenode_address,
            ];
            let datanode = spec(name, 9100, &flags);
            datanodes.push(Some(datanode.start("listening on").await.unwrap()));
            specs.push(datanode);
        }
        let flags = [&["--namenode", &namenode_address], gateway_flags].concat();
        let gateway_spec = spec(GATEWAY, 8080, &flags);
        let gateway = gateway_spec.start("http://").await.unwrap();
        specs.push(gateway_spec);
        let http = Http::new(gateway.url().unwrap());
        let cluster = Self {
            gateway,
            datanodes,
            namenode: Some(namenode),
            specs,
            http,
            directory,
        };
        cluster.wait_for_live(DATANODES.len()).await;
        cluster
    }

    pub async fn live(&self) -> Option<u64> {
        let info = self.http.get("/info").await.ok()?.json().ok()?;
        (info["status"] != "safe mode").then(|| info["nodes"]["live"].as_u64())?
    }

    /// Waits until exactly so many datanodes are live, and the namenode has heard them.
    pub async fn wait_for_live(&self, nodes: usize) {
        wait_until("enough live datanodes", LIMIT, || async {
            self.live().await == Some(nodes as u64)
        })
        .await
        .unwrap();
    }

    /// Stops everything by SIGTERM; each role must end well, and none may have panicked.
    pub async fn stop(self) -> TempDir {
        let limit = Duration::from_secs(10);
        assert!(self.gateway.terminate(limit).await.unwrap().success());
        for process in self.datanodes.into_iter().chain([self.namenode]).flatten() {
            assert!(process.terminate(limit).await.unwrap().success());
        }
        for spec in &self.specs {
            assert_eq!(panics(&spec.log_text()), Vec::<&str>::new());
        }
        self.directory
    }
}
