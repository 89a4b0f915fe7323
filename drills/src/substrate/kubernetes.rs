//! [`Kubernetes`]: the pods of the manifests in `k8s/`, through `kubectl`.
//!
//! Kubernetes starts again what ends. A node stays down because its set is scaled so that it has no place for it, which only the
//! datanode with the highest number and the namenode allow; that is the one that drills take away. A pod that is deleted by force is
//! told to stop two seconds before it is killed: there is no SIGKILL from outside.

use anyhow::{Context, Result, bail};

use super::program::{Program, Run};
use super::remote_hand::RemoteHand;
use super::{Node, Substrate, remote_hand};
use crate::Content;
use crate::hand::ReplicaState;

/// Where the manifests have the gateways: inside of the cluster, and on the machine of the k3d overlay.
const INSIDE: &str = "http://gateway:8080";
const OUTSIDE: &str = "http://127.0.0.1:8080";
/// The policies of the manifests that allow something to a datanode.
const ALLOWING: [&str; 2] = ["default", "datanode"];
const CUT: &str = "drill-cut";
const REBUILD: &str = "drill-rebuild";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const GONE_LIMIT: &str = "--timeout=120s";
const ROLLED_OUT_LIMIT: &str = "--timeout=200s";

/// A namespace with the store in it. All its gateways are one node here, since they are reached through one service.
#[derive(Debug)]
pub struct Kubernetes<R = Program> {
    kubectl: R,
    datanodes: u16,
    urls: Vec<String>,
}

impl Kubernetes {
    /// The store in `namespace` of the cluster that `context` names; `urls` are its gateways where they are not where the manifests
    /// have them.
    ///
    /// # Errors
    /// When there is no such store, or nobody answers.
    pub async fn find(namespace: &str, context: Option<&str>, urls: Vec<String>) -> Result<Self> {
        let mut first = vec!["--namespace".to_owned(), namespace.to_owned()];
        if let Some(context) = context {
            first.extend(["--context".to_owned(), context.to_owned()]);
        }
        let inside = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let usual = if inside { INSIDE } else { OUTSIDE };
        let urls = match urls.is_empty() {
            true => vec![usual.to_owned()],
            false => urls,
        };
        Self::find_with(Program::new("kubectl", first), urls).await
    }
}

impl<R: Run> Kubernetes<R> {
    async fn find_with(mut kubectl: R, urls: Vec<String>) -> Result<Self> {
        let count = [
            "get",
            "statefulset",
            "datanode",
            "--output",
            "jsonpath={.spec.replicas}",
        ];
        let count = kubectl.run(&count).await?;
        let datanodes = count.trim().parse();
        let datanodes = datanodes.with_context(|| format!("how many datanodes are {count:?}?"))?;
        Ok(Self {
            kubectl,
            datanodes,
            urls,
        })
    }

    async fn run(&mut self, arguments: &[&str]) -> Result<()> {
        self.kubectl.run(arguments).await?;
        Ok(())
    }

    /// How many pods the set of `node` has when it is down, and when it is not.
    fn places(&self, node: Node) -> Result<(&'static str, u16, u16)> {
        match node {
            Node::Namenode => Ok(("namenode", 0, 1)),
            Node::Datanode(number) if number + 1 == self.datanodes => {
                Ok(("datanode", number, self.datanodes))
            }
            Node::Datanode(_) | Node::Gateway(_) => {
                bail!("{node} cannot be kept down: Kubernetes starts it again")
            }
        }
    }

    async fn scale(&mut self, set: &str, pods: u16) -> Result<()> {
        let replicas = format!("--replicas={pods}");
        self.run(&["scale", "statefulset", set, &replicas]).await
    }

    /// `policy` no longer holds for `pod`; it holds for all again where none is named.
    async fn leave_out(&mut self, policy: &str, pod: Option<&str>) -> Result<()> {
        let expressions = match pod {
            Some(pod) => {
                serde_json::json!([{"key": POD_NAME, "operator": "NotIn", "values": [pod]}])
            }
            None => serde_json::Value::Null,
        };
        let patch = serde_json::json!({"spec": {"podSelector": {"matchExpressions": expressions}}});
        let patch = patch.to_string();
        self.run(&[
            "patch",
            "networkpolicy",
            policy,
            "--type=merge",
            "--patch",
            &patch,
        ])
        .await
    }
}

impl<R: Run> RemoteHand for Kubernetes<R> {
    async fn hand(&mut self, node: Node, verb: &str, more: &[String]) -> Result<String> {
        let pod = pod(node)?;
        let arguments = remote_hand::arguments(verb, more);
        let mut call = vec!["exec", &pod, "--"];
        call.extend(arguments.iter().map(String::as_str));
        self.kubectl.run(&call).await
    }
}

impl<R: Run> Substrate for Kubernetes<R> {
    fn name(&self) -> &'static str {
        "k8s"
    }

    fn datanodes(&self) -> Vec<Node> {
        (0..self.datanodes).map(Node::Datanode).collect()
    }

    fn gateways(&self) -> Vec<Node> {
        vec![Node::Gateway(0)]
    }

    fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    async fn restart(&mut self, node: Node) -> Result<()> {
        match node {
            Node::Namenode | Node::Datanode(_) => {
                self.run(&["delete", "pod", &pod(node)?, GONE_LIMIT]).await
            }
            Node::Gateway(_) => {
                let gateway = "deployment/gateway";
                self.run(&["rollout", "restart", gateway]).await?;
                self.run(&["rollout", "status", gateway, ROLLED_OUT_LIMIT])
                    .await
            }
        }
    }

    async fn kill(&mut self, node: Node) -> Result<()> {
        let (set, without, _) = self.places(node)?;
        let pod = pod(node)?;
        self.scale(set, without).await?;
        let kill = [
            "delete",
            "pod",
            &pod,
            "--grace-period=0",
            "--force",
            "--ignore-not-found",
        ];
        self.run(&kill).await?;
        let gone = ["wait", "--for=delete", &format!("pod/{pod}"), GONE_LIMIT];
        self.run(&gone).await
    }

    async fn start(&mut self, node: Node) -> Result<()> {
        match node {
            Node::Gateway(_) => Ok(()),
            Node::Namenode | Node::Datanode(_) => {
                // A restart that was interrupted needs no help: only a set that was scaled does.
                let Ok((set, _, with)) = self.places(node) else {
                    return Ok(());
                };
                self.scale(set, with).await
            }
        }
    }

    /// Nothing is allowed to a pod that a policy selects and none allows anything. Connections that are open may outlive a policy,
    /// so the pod starts anew behind it.
    async fn cut(&mut self, node: Node) -> Result<()> {
        let pod = pod(node)?;
        let deny = serde_json::json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": CUT},
            "spec": {
                "podSelector": {"matchLabels": {POD_NAME: pod}},
                "policyTypes": ["Ingress", "Egress"],
            },
        });
        let apply = ["apply", "--filename", "-"];
        self.kubectl.feed(&apply, &deny.to_string()).await?;
        for policy in ALLOWING {
            self.leave_out(policy, Some(&pod)).await?;
        }
        self.run(&["delete", "pod", &pod, "--grace-period=0", "--force"])
            .await
    }

    async fn reconnect(&mut self, _: Node) -> Result<()> {
        for policy in ALLOWING {
            self.leave_out(policy, None).await?;
        }
        self.run(&["delete", "networkpolicy", CUT, "--ignore-not-found"])
            .await
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

    async fn wipe(&mut self, node: Node, cluster: &str) -> Result<()> {
        // Asked first: a node that cannot be kept down is not wiped either.
        self.places(node)?;
        self.hand(node, "wipe", &[cluster.to_owned()]).await?;
        self.kill(node).await
    }

    async fn rebuild_namenode(&mut self) -> Result<()> {
        let image = "jsonpath={.spec.template.spec.containers[0].image}";
        let image = ["get", "statefulset", "namenode", "--output", image];
        let image = self.kubectl.run(&image).await?;
        let datanodes = self.datanodes().into_iter();
        let addresses: Vec<_> = datanodes
            .map(|node| format!("{node}.datanode:9001"))
            .collect();
        let pod = rebuild_pod(image.trim(), &addresses.join(",")).to_string();
        // One that an interrupted drill left would be taken for this one.
        self.run(&["delete", "pod", REBUILD, "--ignore-not-found"])
            .await?;
        self.kubectl
            .feed(&["apply", "--filename", "-"], &pod)
            .await?;
        let done = "--for=jsonpath={.status.phase}=Succeeded";
        let waited = self
            .run(&["wait", done, &format!("pod/{REBUILD}"), ROLLED_OUT_LIMIT])
            .await;
        let log = self
            .kubectl
            .run(&["logs", REBUILD])
            .await
            .unwrap_or_default();
        self.run(&["delete", "pod", REBUILD]).await?;
        waited.with_context(|| format!("the namenode cannot be rebuilt: {}", log.trim()))
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

/// A pod on the namenode's claim. It is labelled as a datanode, because datanodes answer only those; their set does not take it for
/// its own, since its name has no number.
fn rebuild_pod(image: &str, addresses: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": REBUILD,
            "labels": {
                "app.kubernetes.io/name": "richardstore",
                "app.kubernetes.io/component": "datanode",
            },
        },
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "rebuild",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": remote_hand::rebuild(addresses),
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "data", "mountPath": remote_hand::DATA}],
            }],
            "volumes": [{
                "name": "data",
                "persistentVolumeClaim": {"claimName": "data-namenode-0"},
            }],
        },
    })
}

/// The name of a node's pod.
fn pod(node: Node) -> Result<String> {
    match node {
        Node::Namenode => Ok("namenode-0".to_owned()),
        Node::Datanode(_) => Ok(node.to_string()),
        Node::Gateway(_) => bail!("gateways are one deployment"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test fails by panicking
mod tests {
    use super::super::program::Recorder;
    use super::*;

    const VICTIM: Node = Node::Datanode(2);

    async fn store(more: &[(&str, &str)]) -> Kubernetes<Recorder> {
        let mut answers = vec![(
            "get statefulset datanode --output jsonpath={.spec.replicas}",
            "3",
        )];
        answers.extend(more);
        let recorder = Recorder::answering(&answers);
        let mut store = Kubernetes::find_with(recorder, Vec::new()).await.unwrap();
        store.kubectl.calls.clear();
        store
    }

    #[tokio::test]
    async fn a_node_is_kept_down_by_taking_its_place_away() {
        let mut store = store(&[]).await;
        store.kill(VICTIM).await.unwrap();
        store.start(VICTIM).await.unwrap();
        store.kill(Node::Namenode).await.unwrap();
        store.start(Node::Namenode).await.unwrap();
        assert_eq!(
            store.kubectl.calls,
            [
                "scale statefulset datanode --replicas=2",
                "delete pod datanode-2 --grace-period=0 --force --ignore-not-found",
                "wait --for=delete pod/datanode-2 --timeout=120s",
                "scale statefulset datanode --replicas=3",
                "scale statefulset namenode --replicas=0",
                "delete pod namenode-0 --grace-period=0 --force --ignore-not-found",
                "wait --for=delete pod/namenode-0 --timeout=120s",
                "scale statefulset namenode --replicas=1",
            ]
        );
    }

    #[tokio::test]
    async fn what_cannot_be_kept_down_is_neither_killed_nor_wiped() {
        let mut store = store(&[]).await;
        assert!(store.kill(Node::Datanode(0)).await.is_err());
        assert!(store.wipe(Node::Datanode(0), "c").await.is_err());
        store.start(Node::Datanode(0)).await.unwrap();
        assert_eq!(store.kubectl.calls, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_restart_is_what_an_upgrade_does() {
        let mut store = store(&[]).await;
        store.restart(Node::Datanode(0)).await.unwrap();
        store.restart(Node::Gateway(0)).await.unwrap();
        assert_eq!(
            store.kubectl.calls,
            [
                "delete pod datanode-0 --timeout=120s",
                "rollout restart deployment/gateway",
                "rollout status deployment/gateway --timeout=200s",
            ]
        );
    }

    #[tokio::test]
    async fn a_cut_leaves_a_pod_without_any_policy_that_allows() {
        let mut store = store(&[]).await;
        store.cut(VICTIM).await.unwrap();
        store.reconnect(VICTIM).await.unwrap();
        let out = r#"{"spec":{"podSelector":{"matchExpressions":[{"key":"statefulset.kubernetes.io/pod-name","operator":"NotIn","values":["datanode-2"]}]}}}"#;
        let back = r#"{"spec":{"podSelector":{"matchExpressions":null}}}"#;
        let deny = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"drill-cut"},"spec":{"podSelector":{"matchLabels":{"statefulset.kubernetes.io/pod-name":"datanode-2"}},"policyTypes":["Ingress","Egress"]}}"#;
        assert_eq!(
            store.kubectl.calls,
            [
                format!("apply --filename - < {deny}"),
                format!("patch networkpolicy default --type=merge --patch {out}"),
                format!("patch networkpolicy datanode --type=merge --patch {out}"),
                "delete pod datanode-2 --grace-period=0 --force".to_owned(),
                format!("patch networkpolicy default --type=merge --patch {back}"),
                format!("patch networkpolicy datanode --type=merge --patch {back}"),
                "delete networkpolicy drill-cut --ignore-not-found".to_owned(),
            ]
        );
    }

    #[tokio::test]
    async fn a_lost_namenode_is_made_anew_by_a_pod_on_its_claim() {
        let image =
            "get statefulset namenode --output jsonpath={.spec.template.spec.containers[0].image}";
        let mut store = store(&[(image, "richardstore:dev")]).await;
        store.rebuild_namenode().await.unwrap();
        let calls = &store.kubectl.calls;
        assert_eq!(calls[0], image);
        assert_eq!(calls[1], "delete pod drill-rebuild --ignore-not-found");
        let pod = calls[2].strip_prefix("apply --filename - < ").unwrap();
        let pod: serde_json::Value = serde_json::from_str(pod).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["image"], "richardstore:dev");
        let datanodes =
            "datanode-0.datanode:9001,datanode-1.datanode:9001,datanode-2.datanode:9001";
        let rebuild = [
            "namenode",
            "rebuild",
            "--dir",
            "/data",
            "--from-datanodes",
            datanodes,
        ];
        assert_eq!(container["args"], serde_json::json!(rebuild));
        assert_eq!(
            calls[3..],
            [
                "wait --for=jsonpath={.status.phase}=Succeeded pod/drill-rebuild --timeout=200s",
                "logs drill-rebuild",
                "delete pod drill-rebuild",
            ]
        );
    }

    #[tokio::test]
    async fn the_hand_works_inside_the_pod() {
        let looks = "exec datanode-2 -- /richardstore drill-hand look /data 7:100";
        let mut store = store(&[(looks, "damaged\n")]).await;
        let found = store.look(VICTIM, &[Content::new(7, 100)]).await.unwrap();
        assert_eq!(found, [ReplicaState::Damaged]);
        store.damage(VICTIM, Content::new(7, 100)).await.unwrap();
        assert_eq!(
            store.kubectl.calls[1],
            "exec datanode-2 -- /richardstore drill-hand damage /data 7:100"
        );
    }
}
