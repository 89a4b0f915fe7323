//! [`run_repair`]: feeds the plan with the files that may need something, and issues what it decides.
//!
//! A round looks at bounded pages only: files that something happened to, files recorded short or in surplus, files of
//! nodes that are dead or being emptied, files with a suspect replica, those that waited for their turn, and the next ones
//! of the walk that looks for files in the wrong place. What is under way is read from the database each time, so that a
//! restart changes nothing (I10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::{CommandId, ContentHash, NodeState, StoreError};

use super::backlog::Backlog;
use super::case::{Case, Limits, RepairNode};
use super::misplaced::{Misplaced, only_rack, racks_in_use};
use super::notes::Progress;
use super::plan::{Nodes, Plan, plan};
use super::survey::{Files, Gone, Sweeps, Wanted, read_under_way, survey};
use crate::file_history::{Deed, Work};
use crate::metadata::{RepairUnderWay, View, WalkedFiles};
use crate::mutation::{CommandEnd, Mutation};
use crate::record::{CommandRecordAction, NodeIndex};
use crate::shared::{Shared, offload_failed};
use crate::soft_state::SoftState;
use crate::ticker::Ticks;

const PERIOD: Duration = Duration::from_millis(200);
/// What repair may have one node do at once.
pub const ROUND_LIMITS: Limits = Limits {
    // Three rounds of small files for three nodes, so that none of them runs dry between two. Less than a node is handed at once:
    // deletes and trims do not wait for copies.
    streams: 768,
    stream_bytes: 256 << 20,
    reserved: MAX_UNDER_WAY / 2,
};
/// Commands of repair under way in the whole cluster.
pub const MAX_UNDER_WAY: usize = 4_096;
/// Commands that are issued in one transaction.
const MAX_ISSUED: usize = 256;
/// Misplaced files that are looked at in a round.
const MAX_MISPLACED: usize = 256;
/// Files that are looked at in a round because something happened to them.
const MAX_DUE: usize = 4_096;
/// A copy without an outcome is given up after this, and as many milliseconds more as it has kibibytes.
const COPY_TIMEOUT_MS: u64 = 120_000;

/// How long a copy of a file of `size` bytes may be under way before it is given up, in milliseconds.
pub fn copy_limit_ms(size: u64) -> u64 {
    COPY_TIMEOUT_MS.saturating_add(size >> 10)
}

/// Repairs until the namenode stops.
pub async fn run_repair(shared: Arc<Shared>) {
    let mut ticks = Ticks::every(PERIOD, shared.tasks.stopping());
    let mut rounds = Rounds::default();
    let mut failed = false;
    while ticks.next().await {
        let round = rounds.run(&shared).await;
        if let Err(error) = &round {
            tracing::warn!("a round of repair failed: {error}");
        } else if failed {
            // Those before may have taken files out of the notes, lists and backlog and done nothing for them. Not at once: a
            // namenode whose disk is full fails in each round, and would read the first pages over and over.
            rounds.backlog.sweeps = Sweeps::default();
        }
        failed = round.is_err();
    }
}

/// What lasts from one round to the next.
#[derive(Default)]
struct Rounds {
    backlog: Backlog,
    misplaced: Misplaced,
    /// Since when each command is under way, by the monotonic clock.
    since: BTreeMap<CommandId, u64>,
    allowances: BTreeMap<NodeIndex, i64>,
    ran_ms: u64,
}

impl Rounds {
    async fn run(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let now_ms = shared.now_ms();
        let Some((mut nodes, mut due)) = self.begin(shared, now_ms) else {
            return Ok(());
        };
        let (view, under_way) = snapshot(shared).await?;
        for (repair, size) in &under_way {
            charge(&mut nodes, repair, *size);
        }
        let room = MAX_UNDER_WAY.saturating_sub(under_way.len());
        let more_can_wait = self.backlog.has_room();
        due.extend(self.backlog.turns(nodes.values(), room, ROUND_LIMITS));
        due.extend(self.misplaced.turn(MAX_MISPLACED, now_ms));
        let wanted = Wanted {
            busy: under_way.iter().map(|(repair, _)| repair.hash).collect(),
            due,
            walk: self.misplaced.position(now_ms),
            room: more_can_wait,
        };
        let (files, walked) = self.survey(shared, &nodes, view, wanted, now_ms).await?;
        self.give_up(shared, &nodes, &under_way, now_ms).await?;
        if let Some(walked) = walked {
            self.look_through(shared, &nodes, walked, now_ms);
        }
        let cases = self.cases(shared, &nodes, files, now_ms);
        let mut limits = ROUND_LIMITS;
        if self.backlog.len() > 0 {
            // Files are short that this round does not look at: nothing is moved meanwhile.
            limits.reserved = MAX_UNDER_WAY;
        }
        let planned = move || {
            let plan = plan(cases, &mut nodes, room, limits);
            (plan, nodes)
        };
        let (Plan { commands, waiting }, nodes) = shared
            .environment
            .offload
            .run(planned)
            .await
            .map_err(offload_failed)?;
        self.allowances = nodes
            .iter()
            .map(|(index, node)| (*index, node.allowance_bytes))
            .collect();
        self.backlog.put(waiting);
        let before = under_way.iter().map(|(repair, _)| &repair.record.action);
        let ordered = commands.iter().map(|(_, action)| action);
        let (misplaced, misplaced_checked) = self.misplaced.count();
        shared.soft().repair.progress = Progress {
            copying: before
                .chain(ordered)
                .filter(|action| is_copy(action))
                .count(),
            waiting: self.backlog.len(),
            misplaced,
            misplaced_checked,
        };
        if commands.is_empty() {
            return Ok(());
        }
        issue(shared, &commands).await?;
        log(&commands, self.backlog.len());
        Ok(())
    }

    /// The nodes and the files to look at first; `None` while nothing may be repaired.
    fn begin(&mut self, shared: &Shared, now_ms: u64) -> Option<(Nodes, Vec<ContentHash>)> {
        let elapsed_ms = now_ms.saturating_sub(self.ran_ms);
        self.ran_ms = now_ms;
        let mut soft = shared.soft();
        if !soft.may_repair(now_ms) {
            soft.repair.progress = Progress {
                copying: 0,
                waiting: 0,
                ..soft.repair.progress
            };
            return None;
        }
        let SoftState {
            cluster, repair, ..
        } = &mut *soft;
        if repair.take_hurry() {
            self.backlog.sweeps = Sweeps::default();
        }
        let overdue = repair.overdue(
            |index| {
                cluster
                    .get(index)
                    .is_some_and(|node| node.report.is_fresh())
            },
            now_ms,
        );
        for index in overdue {
            if let Some(node) = cluster.get_mut(index) {
                node.report.doubt();
            }
        }
        let rate = i64::try_from(shared.config.repair_bytes_per_second).unwrap_or(i64::MAX);
        let earned = rate.saturating_mul(i64::try_from(elapsed_ms).unwrap_or(i64::MAX)) / 1_000;
        let timeouts = cluster.timeouts();
        let nodes: Nodes = cluster
            .iter()
            .map(|node| {
                let before = self.allowances.get(&node.index).copied().unwrap_or(rate);
                // No more than a second's worth is saved up.
                let allowance_bytes = before.saturating_add(earned).min(rate);
                (
                    node.index,
                    RepairNode::of(node, allowance_bytes, timeouts, now_ms),
                )
            })
            .collect();
        self.misplaced
            .observe(&nodes, timeouts.dead_after_ms, now_ms);
        let mut due = repair.take_due(MAX_DUE, now_ms);
        let room = self.backlog.has_room();
        due.extend(self.backlog.sweeps.suspects(&soft.suspects, room, now_ms));
        Some((nodes, due))
    }

    async fn survey(
        &mut self,
        shared: &Shared,
        nodes: &Nodes,
        view: View,
        wanted: Wanted,
        now_ms: u64,
    ) -> Result<(Files, Option<WalkedFiles>), StoreError> {
        let gone: Vec<Gone> = nodes
            .iter()
            .filter(|(_, node)| !node.counts())
            .map(|(index, node)| (*index, node.is_expected_back()))
            .collect();
        let sweeps = std::mem::take(&mut self.backlog.sweeps);
        let survey = shared
            .environment
            .offload
            .run(move || survey(&view, sweeps, &gone, wanted, now_ms))
            .await
            .map_err(offload_failed)??;
        self.backlog.sweeps = survey.sweeps;
        Ok((survey.files, survey.walked))
    }

    /// Notes which files of a page of the walk lie in one rack only.
    fn look_through(&mut self, shared: &Shared, nodes: &Nodes, page: WalkedFiles, now_ms: u64) {
        let racks = racks_in_use(nodes);
        let least = least(shared);
        let soft = shared.soft();
        for (hash, record) in &page.files {
            let case = Case::of(&soft, *hash, record, least, None);
            if only_rack(&case, nodes, &racks).is_some() {
                self.misplaced.note(*hash, true);
            }
        }
        self.misplaced.walked(page.last, page.more, now_ms);
    }

    /// Takes back commands that cannot end, so that something else can be done for their files.
    async fn give_up(
        &mut self,
        shared: &Shared,
        nodes: &Nodes,
        under_way: &[(RepairUnderWay, u64)],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let ids: BTreeSet<CommandId> = under_way.iter().map(|(repair, _)| repair.id).collect();
        self.since.retain(|id, _| ids.contains(id));
        let mut ended: BTreeMap<NodeIndex, Vec<(CommandId, CommandEnd)>> = BTreeMap::new();
        let view = shared.metadata.view()?;
        for (repair, size) in under_way {
            let since_ms = *self.since.entry(repair.id).or_insert(now_ms);
            let dead = nodes
                .get(&repair.node)
                .is_none_or(|node| node.candidate.state == NodeState::Dead);
            let action = &repair.record.action;
            let limit_ms = copy_limit_ms(*size);
            let late = now_ms.saturating_sub(since_ms) >= limit_ms;
            match action {
                CommandRecordAction::Replicate { targets, .. } if late && !dead => {
                    let tried = targets.iter().copied().chain([repair.node]);
                    shared.soft().repair.failed(repair.hash, tried, now_ms);
                }
                // A removal on a node that lives is not taken back: it might be carried out all the same.
                _ if !dead => continue,
                _ => shared.doubt_removal(&view, repair.node, action)?,
            }
            tracing::warn!(node = repair.node.0, command = repair.id.0, hash = %repair.hash, "a repair is given up");
            let (node, work) = (repair.node, Work::from(action));
            shared.note(repair.hash, Deed::GivenUp { node, work });
            let ends = ended.entry(repair.node).or_default();
            ends.push((repair.id, CommandEnd::Done));
        }
        for (index, outcomes) in ended {
            shared
                .metadata
                .submit(Mutation::ConfirmCommands { index, outcomes })
                .await?;
        }
        Ok(())
    }

    fn cases(&mut self, shared: &Shared, nodes: &Nodes, files: Files, now_ms: u64) -> Vec<Case> {
        self.backlog.take(files.iter().map(|(hash, _)| hash));
        let racks = racks_in_use(nodes);
        let mut soft = shared.soft();
        let mut cases = Vec::new();
        for (hash, record) in files {
            soft.recorded(&hash, record.as_ref());
            let Some(record) = record else {
                self.misplaced.note(hash, false);
                continue;
            };
            let setback = soft.repair.setback(&hash);
            let avoid = setback.map(|setback| setback.avoid.clone());
            let case = Case::of(&soft, hash, &record, least(shared), avoid);
            let misplaced = only_rack(&case, nodes, &racks).is_some();
            self.misplaced.note(hash, misplaced);
            if case.is_well(nodes) && !misplaced {
                soft.repair.healed(&hash);
            } else if setback.is_none_or(|setback| setback.not_before_ms <= now_ms) {
                cases.push(case);
            }
        }
        cases
    }
}

/// What is under way, with the bytes of each file, and the snapshot that tells it, of which the files are read, too.
async fn snapshot(shared: &Shared) -> Result<(View, Vec<(RepairUnderWay, u64)>), StoreError> {
    let view = shared.metadata.view()?;
    let read = move || read_under_way(&view).map(|under_way| (view, under_way));
    let snapshot = shared.environment.offload.run(read).await;
    Ok(snapshot.map_err(offload_failed)??)
}

/// A few at a time: an upload that is to be committed waits for one such transaction and not for all.
async fn issue(
    shared: &Shared,
    commands: &[(NodeIndex, CommandRecordAction)],
) -> Result<(), StoreError> {
    for commands in commands.chunks(MAX_ISSUED) {
        let orders: Vec<(ContentHash, Deed)> = commands.iter().map(order).collect();
        let now_ms = shared.wall_ms();
        let mutation = Mutation::IssueCommands {
            commands: commands.to_vec(),
            now_ms,
        };
        shared.metadata.submit(mutation).await?;
        let history = &mut shared.soft().history;
        for (hash, deed) in orders {
            history.note(hash, deed, now_ms);
        }
    }
    Ok(())
}

/// Good replicas that a file is to have whoever is in maintenance.
pub(super) fn least(shared: &Shared) -> usize {
    usize::try_from(shared.config.min_replication).unwrap_or(usize::MAX)
}

fn charge(nodes: &mut Nodes, repair: &RepairUnderWay, size: u64) {
    let CommandRecordAction::Replicate { targets, .. } = &repair.record.action else {
        return;
    };
    for index in std::iter::once(&repair.node).chain(targets) {
        if let Some(node) = nodes.get_mut(index) {
            node.charge(size, *index != repair.node);
        }
    }
}

fn order((node, action): &(NodeIndex, CommandRecordAction)) -> (ContentHash, Deed) {
    let (node, work) = (*node, Work::from(action));
    (*action.hash(), Deed::Ordered { node, work })
}

fn is_copy(action: &CommandRecordAction) -> bool {
    matches!(action, CommandRecordAction::Replicate { .. })
}

fn log(commands: &[(NodeIndex, CommandRecordAction)], waiting: usize) {
    let count = |wanted: fn(&CommandRecordAction) -> bool| {
        commands.iter().filter(|(_, action)| wanted(action)).count()
    };
    tracing::info!(
        copies = count(is_copy),
        trims = count(|action| matches!(action, CommandRecordAction::Trim { .. })),
        quarantines = count(|action| matches!(action, CommandRecordAction::Quarantine { .. })),
        waiting,
        "repairs ordered"
    );
}
