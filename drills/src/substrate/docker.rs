//! [`Docker`]: containers on a Docker network, as `k8s/compose.yaml` lays them out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::program::{Program, Run};
use super::remote_hand::RemoteHand;
use super::{Node, Substrate, remote_hand};
use crate::Content;
use crate::hand::ReplicaState;

const GATEWAY_PORT: &str = "8080/tcp";
const DATANODE_PORT: u16 = 9001;

/// The containers of a compose project. The network has the project's name.
#[derive(Debug)]
pub struct Docker<R = Program> {
    docker: R,
    project: String,
    containers: BTreeMap<Node, String>,
    urls: Vec<String>,
}

impl Docker {
    /// The containers of `project`; `urls` are its gateways where Docker does not know how they are reached.
    ///
    /// # Errors
    /// When Docker does not answer, or there is no such project.
    pub async fn find(project: &str, urls: Vec<String>) -> Result<Self> {
        Self::find_with(Program::new("docker", Vec::new()), project, urls).await
    }
}

impl<R: Run> Docker<R> {
    async fn find_with(mut docker: R, project: &str, mut urls: Vec<String>) -> Result<Self> {
        let prefix = format!("{project}-");
        let filter = format!("name=^{prefix}");
        let listed = ["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"];
        let mut containers = BTreeMap::new();
        for name in docker.run(&listed).await?.lines() {
            let role = name.strip_prefix(&prefix).unwrap_or(name);
            if let Some(node) = node_of(role) {
                containers.insert(node, name.to_owned());
            }
        }
        if !containers.contains_key(&Node::Namenode) {
            bail!(
                "there is no container {prefix}namenode; is the store of project {project:?} up?"
            );
        }
        if urls.is_empty() {
            for (node, name) in &containers {
                if let Node::Gateway(_) = node {
                    urls.push(url(&docker.run(&["port", name, GATEWAY_PORT]).await?)?);
                }
            }
        }
        Ok(Self {
            docker,
            project: project.to_owned(),
            containers,
            urls,
        })
    }

    fn container(&self, node: Node) -> Result<String> {
        let name = self.containers.get(&node);
        Ok(name.with_context(|| format!("there is no {node}"))?.clone())
    }

    async fn inspect(&mut self, container: &str, format: &str) -> Result<String> {
        let inspect = ["inspect", "--format", format, container];
        let answer = self.docker.run(&inspect).await?;
        Ok(answer.trim().to_owned())
    }

    async fn is_connected(&mut self, container: &str) -> Result<bool> {
        let names = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        let networks = self.inspect(container, names).await?;
        Ok(networks.split_whitespace().any(|name| name == self.project))
    }
}

impl<R: Run> RemoteHand for Docker<R> {
    async fn hand(&mut self, node: Node, verb: &str, more: &[String]) -> Result<String> {
        let container = self.container(node)?;
        let arguments = remote_hand::arguments(verb, more);
        let mut call = vec!["exec", &container];
        call.extend(arguments.iter().map(String::as_str));
        self.docker.run(&call).await
    }
}

impl<R: Run> Substrate for Docker<R> {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn datanodes(&self) -> Vec<Node> {
        let nodes = self.containers.keys().copied();
        nodes
            .filter(|node| matches!(node, Node::Datanode(_)))
            .collect()
    }

    fn gateways(&self) -> Vec<Node> {
        let nodes = self.containers.keys().copied();
        nodes
            .filter(|node| matches!(node, Node::Gateway(_)))
            .collect()
    }

    fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    async fn restart(&mut self, node: Node) -> Result<()> {
        let container = self.container(node)?;
        self.docker.run(&["restart", &container]).await?;
        Ok(())
    }

    async fn kill(&mut self, node: Node) -> Result<()> {
        let container = self.container(node)?;
        if self.inspect(&container, "{{.State.Running}}").await? == "true" {
            // Docker takes this for a wish of the operator: the restart policy does not start it again.
            self.docker.run(&["kill", &container]).await?;
        }
        self.docker.run(&["wait", &container]).await?;
        Ok(())
    }

    async fn start(&mut self, node: Node) -> Result<()> {
        let container = self.container(node)?;
        self.docker.run(&["start", &container]).await?;
        Ok(())
    }

    async fn cut(&mut self, node: Node) -> Result<()> {
        let container = self.container(node)?;
        if self.is_connected(&container).await? {
            let network = self.project.clone();
            let cut = ["network", "disconnect", "--force", &network, &container];
            self.docker.run(&cut).await?;
        }
        Ok(())
    }

    async fn reconnect(&mut self, node: Node) -> Result<()> {
        let container = self.container(node)?;
        if !self.is_connected(&container).await? {
            // The address may be another one then. The container's name leads to it all the same.
            let network = self.project.clone();
            let connect = ["network", "connect", &network, &container];
            self.docker.run(&connect).await?;
        }
        Ok(())
    }

    async fn look(&mut self, datanode: Node, canaries: &[Content]) -> Result<Vec<ReplicaState>> {
        self.look_at(datanode, canaries).await
    }

    async fn damage(&mut self, datanode: Node, canary: Content) -> Result<()> {
        self.handle(datanode, "damage", canary).await
    }

    async fn discard(&mut self, datanode: Node, canary: Content) -> Result<()> {
        self.handle(datanode, "discard", canary).await
    }

    /// By a container of the same image, since nothing can be run in one that is down.
    async fn wipe(&mut self, node: Node, cluster: &str) -> Result<()> {
        self.kill(node).await?;
        let container = self.container(node)?;
        let image = self.inspect(&container, "{{.Config.Image}}").await?;
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "--volumes-from",
            &container,
            &image,
        ];
        let wipe = [remote_hand::COMMAND, "wipe", remote_hand::DATA, cluster];
        self.docker.run(&[&run[..], &wipe].concat()).await?;
        Ok(())
    }

    async fn rebuild_namenode(&mut self) -> Result<()> {
        let namenode = self.container(Node::Namenode)?;
        let image = self.inspect(&namenode, "{{.Config.Image}}").await?;
        let addresses: Result<Vec<_>> = self
            .datanodes()
            .into_iter()
            .map(|node| Ok(format!("{}:{DATANODE_PORT}", self.container(node)?)))
            .collect();
        let addresses = addresses?.join(",");
        let network = self.project.clone();
        let run = [
            "run",
            "--rm",
            "--network",
            &network,
            "--volumes-from",
            &namenode,
            &image,
        ];
        let rebuild = remote_hand::rebuild(&addresses);
        self.docker.run(&[&run[..], &rebuild].concat()).await?;
        Ok(())
    }

    async fn fill_obstacle(&mut self, datanode: Node) -> Option<String> {
        self.obstacle(datanode).await
    }

    async fn fill(&mut self, datanode: Node) -> Result<()> {
        self.hand(datanode, "fill", &[]).await?;
        Ok(())
    }

    async fn free(&mut self, datanode: Node) -> Result<()> {
        self.hand(datanode, "free", &[]).await?;
        Ok(())
    }
}

/// Which node a container of the layout is, by its name without the project's.
fn node_of(role: &str) -> Option<Node> {
    let (kind, number) = match role.rsplit_once('-') {
        Some((kind, number)) => (kind, number.parse().ok()?),
        None => (role, 1),
    };
    match kind {
        "namenode" => Some(Node::Namenode),
        "datanode" => Some(Node::Datanode(number)),
        "gateway" => Some(Node::Gateway(number)),
        _ => None,
    }
}

/// The way to a published port, from lines such as `0.0.0.0:8080`.
fn url(published: &str) -> Result<String> {
    let first = published.lines().next().unwrap_or_default();
    let port = first
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<u16>().ok());
    let port = port.context("the gateway publishes no port; name its address with --gateway")?;
    Ok(format!("http://127.0.0.1:{port}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test fails by panicking
mod tests {
    use super::super::program::Recorder;
    use super::*;

    const NETWORKS: &str = "inspect --format {{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}} p-datanode-2";

    async fn layout(more: &[(&str, &str)]) -> Docker<Recorder> {
        let mut answers = vec![
            (
                "ps --all --filter name=^p- --format {{.Names}}",
                "p-namenode\np-datanode-2\np-datanode-1\np-gateway\np-other\np-prometheus-1\n",
            ),
            ("port p-gateway 8080/tcp", "0.0.0.0:18080\n[::]:18080\n"),
        ];
        answers.extend(more);
        let recorder = Recorder::answering(&answers);
        let mut docker = Docker::find_with(recorder, "p", Vec::new()).await.unwrap();
        docker.docker.calls.clear();
        docker
    }

    #[tokio::test]
    async fn a_layout_is_found_by_the_names_of_its_containers() {
        let docker = layout(&[]).await;
        assert_eq!(docker.datanodes(), [Node::Datanode(1), Node::Datanode(2)]);
        assert_eq!(docker.gateways(), [Node::Gateway(1)]);
        assert_eq!(docker.urls(), ["http://127.0.0.1:18080"]);
        let empty = Recorder::default();
        assert!(Docker::find_with(empty, "p", Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_container_is_killed_once_and_waited_for() {
        let state = "inspect --format {{.State.Running}} p-datanode-2";
        let mut docker = layout(&[(state, "true\n")]).await;
        docker.kill(Node::Datanode(2)).await.unwrap();
        assert_eq!(
            docker.docker.calls,
            [state, "kill p-datanode-2", "wait p-datanode-2"]
        );
        let mut docker = layout(&[(state, "false\n")]).await;
        docker.kill(Node::Datanode(2)).await.unwrap();
        assert_eq!(docker.docker.calls, [state, "wait p-datanode-2"]);
    }

    #[tokio::test]
    async fn a_cut_takes_a_container_off_the_network_of_its_project() {
        let mut docker = layout(&[(NETWORKS, "p \n")]).await;
        docker.cut(Node::Datanode(2)).await.unwrap();
        docker.reconnect(Node::Datanode(2)).await.unwrap();
        let cut = "network disconnect --force p p-datanode-2";
        assert_eq!(docker.docker.calls, [NETWORKS, cut, NETWORKS]);
        let mut docker = layout(&[(NETWORKS, "\n")]).await;
        docker.cut(Node::Datanode(2)).await.unwrap();
        docker.reconnect(Node::Datanode(2)).await.unwrap();
        let connect = "network connect p p-datanode-2";
        assert_eq!(docker.docker.calls, [NETWORKS, NETWORKS, connect]);
    }

    #[tokio::test]
    async fn the_hand_works_inside_the_container() {
        let looks = "exec p-datanode-1 /richardstore drill-hand look /data 7:100 8:200";
        let mut docker = layout(&[(looks, "whole\nabsent\n")]).await;
        let canaries = [Content::new(7, 100), Content::new(8, 200)];
        let found = docker.look(Node::Datanode(1), &canaries).await.unwrap();
        assert_eq!(found, [ReplicaState::Whole, ReplicaState::Absent]);
        assert!(docker.look(Node::Datanode(2), &canaries).await.is_err());
    }

    #[tokio::test]
    async fn a_lost_namenode_is_made_anew_where_the_datanodes_can_be_asked() {
        let image = "inspect --format {{.Config.Image}} p-namenode";
        let mut docker = layout(&[(image, "richardstore:dev\n")]).await;
        docker.rebuild_namenode().await.unwrap();
        assert_eq!(
            docker.docker.calls[1],
            "run --rm --network p --volumes-from p-namenode richardstore:dev \
             namenode rebuild --dir /data --from-datanodes p-datanode-1:9001,p-datanode-2:9001"
        );
    }

    #[tokio::test]
    async fn a_disk_is_emptied_by_a_container_beside_the_one_that_is_down() {
        let image = "inspect --format {{.Config.Image}} p-namenode";
        let mut docker = layout(&[(image, "richardstore:dev\n")]).await;
        docker.wipe(Node::Namenode, "c-1").await.unwrap();
        assert_eq!(
            docker.docker.calls[1..],
            [
                "wait p-namenode",
                image,
                "run --rm --network none --volumes-from p-namenode richardstore:dev drill-hand wipe /data c-1",
            ]
        );
    }
}
