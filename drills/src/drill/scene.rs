//! [`Scene`]: a cluster in the middle of a drill: what was done to it, so that it can be undone whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::canaries::Canaries;
use super::view::{ASK_EVERY, View, until_clear};
use crate::hand::ReplicaState;
use crate::{Content, Node, Substrate};

/// For a node that is away to be given up (30 s by default), its files to be copied, and a namenode to leave safe mode.
const RECOVERY_LIMIT: Duration = Duration::from_secs(240);
/// For the namenode to notice something, of which it hears with the next heartbeats or their absence.
pub const NOTICE_LIMIT: Duration = Duration::from_secs(120);

/// Tells people how a drill is getting on.
pub type Narrator<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A cluster, the canaries in it, and what is broken about it now.
pub struct Scene<'a, S> {
    /// What the cluster runs on. Faults that last go through the methods of the scene, which remember them.
    pub substrate: &'a mut S,
    /// The files of this drill.
    pub canaries: Canaries,
    /// The cluster from outside.
    pub view: View,
    narrate: Narrator<'a>,
    hurt: BTreeSet<(Hurt, Node)>,
    quarantined: Vec<(Node, Content)>,
}

/// A fault that lasts until it is undone. In the order in which they are undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hurt {
    Full,
    Lost,
    Down,
    Cut,
}

impl<'a, S: Substrate> Scene<'a, S> {
    /// A cluster to which nothing was done yet.
    ///
    /// # Errors
    /// When it has no gateway.
    pub fn new(substrate: &'a mut S, canaries: Canaries, narrate: Narrator<'a>) -> Result<Self> {
        let view = View::new(&substrate.urls())?;
        Ok(Self {
            substrate,
            canaries,
            view,
            narrate,
            hurt: BTreeSet::new(),
            quarantined: Vec::new(),
        })
    }

    /// Tells people.
    pub fn say(&self, words: &str) {
        (self.narrate)(words);
    }

    /// The datanode that drills take away.
    ///
    /// # Errors
    /// When there is none.
    pub fn victim(&self) -> Result<Node> {
        let datanodes = self.substrate.datanodes();
        datanodes.last().copied().context("there is no datanode")
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn kill(&mut self, node: Node) -> Result<()> {
        self.say(&format!("{node} is killed"));
        self.hurt.insert((Hurt::Down, node));
        self.substrate.kill(node).await
    }

    /// Starts it again.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn start(&mut self, node: Node) -> Result<()> {
        self.say(&format!("{node} starts"));
        self.undo(Hurt::Down, node).await
    }

    /// Stops it in an orderly way and starts it again.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn restart(&mut self, node: Node) -> Result<()> {
        self.say(&format!("{node} is restarted"));
        self.hurt.insert((Hurt::Down, node));
        self.substrate.restart(node).await?;
        self.hurt.remove(&(Hurt::Down, node));
        Ok(())
    }

    /// Empties its disk; it is down then.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn wipe(&mut self, node: Node) -> Result<()> {
        let cluster = self.view.cluster_id().await?;
        self.say(&format!("the disk of {node} is emptied"));
        self.hurt.insert((Hurt::Down, node));
        self.substrate.wipe(node, &cluster).await
    }

    /// Empties the disk of the namenode, which is down then.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn lose_namenode(&mut self) -> Result<()> {
        self.hurt.insert((Hurt::Lost, Node::Namenode));
        self.wipe(Node::Namenode).await
    }

    /// Makes its metadata anew from what the datanodes hold.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn rebuild_namenode(&mut self) -> Result<()> {
        self.say("its metadata is made anew from the datanodes");
        self.undo(Hurt::Lost, Node::Namenode).await
    }

    /// Takes it off the network.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn cut(&mut self, node: Node) -> Result<()> {
        self.say(&format!("{node} is cut off from the network"));
        self.hurt.insert((Hurt::Cut, node));
        self.substrate.cut(node).await
    }

    /// Puts it back on the network.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn reconnect(&mut self, node: Node) -> Result<()> {
        self.say(&format!("{node} is on the network again"));
        self.undo(Hurt::Cut, node).await
    }

    /// Leaves no room on its disk.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn fill(&mut self, node: Node) -> Result<()> {
        self.say(&format!("the disk of {node} is filled up"));
        self.hurt.insert((Hurt::Full, node));
        self.substrate.fill(node).await
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn free(&mut self, node: Node) -> Result<()> {
        self.say(&format!("{node} has room again"));
        self.undo(Hurt::Full, node).await
    }

    /// Flips a bit of its replica of `canary`.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn damage(&mut self, node: Node, canary: Content) -> Result<()> {
        self.quarantined.push((node, canary));
        self.substrate.damage(node, canary).await
    }

    /// Undoes everything that was not undone, and goes on where something cannot be.
    ///
    /// # Errors
    /// The first thing that could not be undone.
    pub async fn undo_all(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for (hurt, node) in self.hurt.clone() {
            self.say(&format!("{node} is put right"));
            let undone = self.undo(hurt, node).await;
            outcome = outcome.and(undone.with_context(|| format!("{node} is left as it is")));
        }
        for (node, canary) in std::mem::take(&mut self.quarantined) {
            outcome = outcome.and(self.substrate.discard(node, canary).await);
        }
        outcome
    }

    async fn undo(&mut self, hurt: Hurt, node: Node) -> Result<()> {
        match hurt {
            Hurt::Full => self.substrate.free(node).await?,
            Hurt::Lost => self.substrate.rebuild_namenode().await?,
            Hurt::Down => self.substrate.start(node).await?,
            Hurt::Cut => self.substrate.reconnect(node).await?,
        }
        self.hurt.remove(&(hurt, node));
        Ok(())
    }

    /// Waits until every gateway says `running` and every canary lies whole on as many live datanodes as it should.
    ///
    /// # Errors
    /// What is still missing after some minutes.
    pub async fn until_healthy(&mut self) -> Result<()> {
        let view = self.view.clone();
        until_clear("running", RECOVERY_LIMIT, || view.complaint()).await?;
        self.until_sound().await
    }

    /// Waits until every canary lies whole on as many live datanodes as it should. The disks are looked at: what the namenode
    /// believes may be older than the fault.
    ///
    /// # Errors
    /// What is still missing after some minutes.
    pub async fn until_sound(&mut self) -> Result<()> {
        let started = tokio::time::Instant::now();
        while let Err(missing) = self.sound().await {
            if started.elapsed() > RECOVERY_LIMIT {
                return Err(missing.context("not all canaries are safe again"));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    async fn sound(&mut self) -> Result<()> {
        let canaries = self.canaries.steady();
        let by_node = self.view.live_replicas(&canaries).await?;
        for (name, held) in by_node {
            let node = self.called(&name)?;
            let found = self.substrate.look(node, &held).await?;
            let bad = found.iter().find(|state| **state != ReplicaState::Whole);
            if let Some(state) = bad {
                bail!("a replica on {node} is {}", state.word());
            }
        }
        Ok(())
    }

    /// Waits until nothing of `deleted` is on the disk of `node`, which therefore was told of the deletes.
    ///
    /// # Errors
    /// When something still is after two minutes.
    pub async fn until_forgotten(&mut self, node: Node, deleted: &[Content]) -> Result<()> {
        let started = tokio::time::Instant::now();
        loop {
            let found = self.substrate.look(node, deleted).await?;
            let there = found.iter().filter(|state| **state != ReplicaState::Absent);
            let there = there.count();
            if there == 0 {
                return Ok(());
            }
            if started.elapsed() > NOTICE_LIMIT {
                bail!("{there} deleted canaries are still on the disk of {node}");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The node that the namenode calls `name`.
    ///
    /// # Errors
    /// When none of this substrate is called that.
    pub fn called(&self, name: &str) -> Result<Node> {
        let mut datanodes = self.substrate.datanodes().into_iter();
        let node = datanodes.find(|node| node.is_called(name));
        node.with_context(|| format!("no node here is called {name}"))
    }

    /// Waits until the namenode says of `node` what `wanted` wants to hear.
    ///
    /// # Errors
    /// What it says instead after two minutes.
    pub async fn until_seen(
        &self,
        node: Node,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<()> {
        let asking = || async {
            match self.view.datanode(node).await {
                Ok(seen) if wanted(&seen) => None,
                Ok(seen) => Some(seen.to_string()),
                Err(error) => Some(format!("{error:#}")),
            }
        };
        until_clear(&format!("{node} {what}"), NOTICE_LIMIT, asking).await
    }

    /// Waits until the namenode has given `node` up.
    ///
    /// # Errors
    /// As [`Scene::until_seen`].
    pub async fn until_dead(&self, node: Node) -> Result<()> {
        self.until_seen(node, "is given up", |seen| seen["state"] == "dead")
            .await?;
        self.say(&format!("the namenode has given {node} up"));
        Ok(())
    }

    /// Whether the files can have all their replicas without one datanode.
    ///
    /// # Errors
    /// When nobody says how many replicas a canary should have.
    pub async fn has_spare(&self) -> Result<bool> {
        let steady = self.canaries.steady();
        let canary = steady.first().context("there is no canary")?;
        let target = self.view.whereabouts(*canary).await?.target;
        Ok(self.substrate.datanodes().len() > target)
    }

    /// Uploads `count` canaries of at most `largest` bytes.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn plant(&self, count: usize, largest: u64) -> Result<()> {
        for (_, http) in (0..count).zip(self.view.gateways().iter().cycle()) {
            let content = self.canaries.invent(largest);
            self.canaries.plant(http, content).await?;
        }
        Ok(())
    }

    /// Deletes `count` canaries, and returns them.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn delete(&self, count: usize) -> Result<Vec<Content>> {
        let given_up = self.canaries.give_up(count);
        for content in &given_up {
            if !self.canaries.delete(self.view.first(), *content).await {
                bail!("a canary could not be deleted");
            }
        }
        Ok(given_up)
    }
}
