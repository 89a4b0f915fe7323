//! [`View`]: what a cluster says of itself, asked from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{Content, Http, Node};

/// Somebody who looks at a dashboard waits no longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at a cluster that is waited for.
pub const ASK_EVERY: Duration = Duration::from_millis(50);

/// A cluster through its gateways.
#[derive(Debug, Clone)]
pub struct View {
    first: Http,
    gateways: Vec<Http>,
}

/// Where the namenode says that a file is.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    /// How many replicas it should have.
    pub target: usize,
    /// The names of the nodes on record, those that readers are sent to first at the front, and their states.
    pub replicas: Vec<(String, String)>,
}

impl Whereabouts {
    /// The names of those that are live.
    pub fn live(&self) -> impl Iterator<Item = &str> {
        let live = self.replicas.iter().filter(|(_, state)| state == "live");
        live.map(|(name, _)| name.as_str())
    }
}

impl View {
    /// Asks the gateways at `urls`.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(urls: &[String]) -> Result<Self> {
        let gateways: Vec<_> = urls.iter().map(|url| Http::new(url)).collect();
        let first = gateways.first().context("there is no gateway")?.clone();
        Ok(Self { first, gateways })
    }

    /// All gateways.
    pub fn gateways(&self) -> &[Http] {
        &self.gateways
    }

    /// The one that is asked where any would do.
    pub fn first(&self) -> &Http {
        &self.first
    }

    /// Why the cluster is not as it should be, from the first gateway that thinks so.
    pub async fn complaint(&self) -> Option<String> {
        for gateway in &self.gateways {
            match ask(gateway, "/info").await {
                Ok(info) if info["status"] == "running" && info["under_replicated"] == 0 => {}
                Ok(info) => {
                    return Some(format!(
                        "{}: {}",
                        text(&info["status"]),
                        text(&info["reason"])
                    ));
                }
                Err(error) => return Some(format!("{}: {error:#}", gateway.authority())),
            }
        }
        None
    }

    /// How often the namenode has started.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn namenode_starts(&self) -> Result<u64> {
        let info = ask(&self.first, "/info").await?;
        info["epoch"].as_u64().context("no epoch in /info")
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// When the namenode does not answer.
    pub async fn cluster_id(&self) -> Result<String> {
        let info = ask(&self.first, "/info").await?;
        let id = info["cluster_id"].as_str();
        Ok(id.context("the namenode does not answer")?.to_owned())
    }

    /// A datanode as the namenode sees it.
    ///
    /// # Errors
    /// When it is not known, or nobody answers.
    pub async fn datanode(&self, node: Node) -> Result<Value> {
        let answer = ask(&self.first, "/nodes").await?;
        let nodes = answer["nodes"].as_array().context("no nodes")?;
        let known = nodes
            .iter()
            .find(|known| node.is_called(text(&known["name"])));
        Ok(known
            .with_context(|| format!("{node} is not known"))?
            .clone())
    }

    /// Where a file is.
    ///
    /// # Errors
    /// When nobody says.
    pub async fn whereabouts(&self, content: Content) -> Result<Whereabouts> {
        let status = ask(&self.first, &format!("/files/{}/status", content.hash())).await?;
        let replicas = status["replicas"].as_array().context("no such file")?;
        let replicas = replicas.iter();
        let target = status["target"].as_u64().context("no target")?;
        Ok(Whereabouts {
            target: usize::try_from(target)?,
            replicas: replicas
                .map(|replica| {
                    (
                        text(&replica["name"]).to_owned(),
                        text(&replica["state"]).to_owned(),
                    )
                })
                .collect(),
        })
    }

    /// The live replicas of each of `canaries`, by the name of the node.
    ///
    /// # Errors
    /// The first canary that has fewer of them than it should have, in words.
    pub async fn live_replicas(
        &self,
        canaries: &[Content],
    ) -> Result<BTreeMap<String, Vec<Content>>> {
        let mut by_node: BTreeMap<String, Vec<Content>> = BTreeMap::new();
        for canary in canaries {
            let found = self.whereabouts(*canary).await?;
            let live = found.live().count();
            if live < found.target {
                bail!("a canary has {live} of {} replicas", found.target);
            }
            for name in found.live() {
                by_node.entry(name.to_owned()).or_default().push(*canary);
            }
        }
        Ok(by_node)
    }
}

/// Asks `obstacle` until there is none.
///
/// # Errors
/// The last obstacle, after `limit`.
pub async fn until_clear<F>(
    what: &str,
    limit: Duration,
    mut obstacle: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Option<String>>,
{
    let started = Instant::now();
    while let Some(found) = obstacle().await {
        if started.elapsed() > limit {
            bail!("not within {} s: {what}; at last: {found}", limit.as_secs());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

async fn ask(gateway: &Http, path: &str) -> Result<Value> {
    let answer = tokio::time::timeout(ANSWER_LIMIT, gateway.get(path)).await;
    answer
        .with_context(|| format!("no answer to {path}"))??
        .json()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
