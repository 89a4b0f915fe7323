//! Commands: issuing them, and what their outcomes change.

use richardstore_proto::{CommandId, Generation};

use super::batch::Batch;
use crate::mutation::{CommandEnd, MutationError, Reply};
use crate::record::{CommandRecordAction, NodeIndex};

impl Batch<'_> {
    /// Adds commands, or none of them where a node is not known. One that lost its point since it was planned is left out:
    /// its file is gone, has another repair under way, or is no longer held where the plan relied on it.
    pub fn issue_commands(
        &mut self,
        commands: &[(NodeIndex, CommandRecordAction)],
        now_ms: u64,
    ) -> Result<Reply, MutationError> {
        for (node, action) in commands {
            self.node(*node)?;
            // One that was removed since is left out below, like every command that lost its point.
            if let CommandRecordAction::Replicate { targets, .. } = action {
                for target in targets {
                    self.node(*target)?;
                }
            }
        }
        for (node, action) in commands {
            if self.has_point(*node, action)? {
                self.add_command(*node, action.clone(), now_ms)?;
            }
        }
        Ok(Reply::Done)
    }

    /// Plans are made from a snapshot; this is asked in the transaction, so nothing can change between it and the command.
    fn has_point(
        &self,
        node: NodeIndex,
        action: &CommandRecordAction,
    ) -> Result<bool, MutationError> {
        if self.is_removed(node)? {
            return Ok(false);
        }
        let Some(hash) = action.repairs() else {
            return Ok(true);
        };
        let Some(file) = self.file(hash)? else {
            return Ok(false);
        };
        if self.repair(hash)?.is_some() {
            return Ok(false);
        }
        let (generation, keep, least) = match action {
            CommandRecordAction::Trim {
                generation, keep, ..
            } => (generation, keep, file.replication.max(1)),
            CommandRecordAction::Quarantine {
                generation, keep, ..
            } => (generation, keep, 1),
            CommandRecordAction::Delete { .. } | CommandRecordAction::Replicate { .. } => {
                return Ok(true);
            }
        };
        let trims = matches!(action, CommandRecordAction::Trim { .. });
        // The commit of a write in flight names this node as one that holds it, whatever has been removed by then (I6): also
        // of an older write, which left the newer replica as it was. A later one would make it newer than the trim.
        let may_be_named = |oldest: Generation| oldest <= *generation;
        if trims && self.oldest_open_write()?.is_some_and(may_be_named) {
            return Ok(false);
        }
        let held = keep
            .iter()
            .filter(|keeper| **keeper != node && file.replica(**keeper).is_some());
        let unchanged = file
            .replica(node)
            .is_some_and(|replica| replica.generation == *generation);
        Ok(unchanged && held.count() >= usize::try_from(least).unwrap_or(usize::MAX))
    }

    /// Takes in how commands ended. One that is no longer known was confirmed before, or replaced: ignored (I10).
    pub fn confirm_commands(
        &mut self,
        node: NodeIndex,
        outcomes: &[(CommandId, CommandEnd)],
    ) -> Result<Reply, MutationError> {
        self.node(node)?;
        for (id, end) in outcomes {
            let Some(mut command) = self.command(node, *id)? else {
                continue;
            };
            match end {
                CommandEnd::Done => {
                    self.remove_command(node, *id)?;
                    if let CommandRecordAction::Delete { hash, .. } = command.action {
                        self.confirm_delete(&hash, node, *id)?;
                    }
                }
                CommandEnd::Failed { retry_at_ms } => {
                    command.attempts = command.attempts.saturating_add(1);
                    command.not_before_ms = *retry_at_ms;
                    self.set_command(node, *id, &command)?;
                }
            }
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, NOW, generation, hash};
    use super::*;
    use crate::mutation::Mutation;

    fn replicate(target: u32) -> CommandRecordAction {
        CommandRecordAction::Replicate {
            hash: hash(1),
            targets: vec![NodeIndex(target)],
        }
    }

    fn issue(commands: Vec<(NodeIndex, CommandRecordAction)>) -> Mutation {
        Mutation::IssueCommands {
            commands,
            now_ms: NOW,
        }
    }

    #[test]
    fn i10_a_command_is_handed_out_until_it_is_confirmed() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture
            .apply(issue(vec![(NodeIndex(1), replicate(2))]))
            .unwrap();
        let (id, action) = fixture.commands(1)[0].clone();
        assert_eq!(action, replicate(2));
        assert_eq!(fixture.commands(1).len(), 1);
        fixture.confirm(1, vec![(id, CommandEnd::Done)]);
        assert_eq!(fixture.commands(1), []);
        fixture.confirm(1, vec![(id, CommandEnd::Done)]);
        fixture.confirm(2, vec![(id, CommandEnd::Done)]);
    }

    #[test]
    fn a_command_that_failed_waits_for_its_time() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture
            .apply(issue(vec![(NodeIndex(1), replicate(2))]))
            .unwrap();
        let (id, _) = fixture.commands(1)[0].clone();
        let retry_at_ms = NOW + 500;
        fixture.confirm(1, vec![(id, CommandEnd::Failed { retry_at_ms })]);
        let view = fixture.view();
        assert_eq!(view.commands(NodeIndex(1), &[], NOW + 499, 10).unwrap(), []);
        let due = view.commands(NodeIndex(1), &[], NOW + 500, 10).unwrap();
        assert_eq!((due[0].0, due[0].1.attempts), (id, 1));
        assert_eq!(view.command_count(NodeIndex(1)).unwrap(), 1);
    }

    #[test]
    fn i06_a_replica_of_a_write_in_flight_is_not_trimmed_before_the_write_ends() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        let write = fixture.allocate();
        fixture.added(4, 1, write.0);
        let trim = |node: u32, generation| CommandRecordAction::Trim {
            hash: hash(1),
            generation,
            keep: (1..=4)
                .filter(|keeper| *keeper != node)
                .map(NodeIndex)
                .collect(),
        };
        fixture
            .apply(issue(vec![(NodeIndex(4), trim(4, write))]))
            .unwrap();
        assert_eq!(fixture.commands(4), []);
        let commands = vec![(NodeIndex(1), trim(1, generation(1)))];
        fixture.apply(issue(commands)).unwrap();
        assert_eq!(fixture.commands(1).len(), 1, "another one is");
        fixture.confirm_all(1);
        fixture.commit(write, 1, &[4]).unwrap();
        fixture
            .apply(issue(vec![(NodeIndex(4), trim(4, write))]))
            .unwrap();
        assert_eq!(fixture.commands(4).len(), 1, "it has ended");
    }

    #[test]
    fn i06_a_replica_is_not_trimmed_while_an_older_write_may_still_name_it() {
        let fixture = Fixture::new();
        let older = fixture.allocate();
        let newer = fixture.upload(1, &[1, 2, 3, 4]);
        let trim = || {
            let trim = CommandRecordAction::Trim {
                hash: hash(1),
                generation: newer,
                keep: (1..=3).map(NodeIndex).collect(),
            };
            issue(vec![(NodeIndex(4), trim)])
        };
        fixture.apply(trim()).unwrap();
        assert_eq!(fixture.commands(4), []);
        fixture.commit(older, 1, &[4]).unwrap();
        fixture.apply(trim()).unwrap();
        assert_eq!(fixture.commands(4).len(), 1, "no older one is left");
    }

    #[test]
    fn commands_for_a_node_that_is_not_known_are_refused_all_together() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        for bad in [(NodeIndex(9), replicate(1)), (NodeIndex(1), replicate(9))] {
            let reply = fixture.apply(issue(vec![(NodeIndex(1), replicate(2)), bad]));
            assert_eq!(reply, Err(MutationError::NodeUnknown(NodeIndex(9))));
        }
        assert_eq!(fixture.commands(1), []);
    }

    #[test]
    fn a_delete_without_a_tombstone_ends_with_its_confirmation() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        let delete = CommandRecordAction::Delete {
            hash: hash(1),
            generation: generation(1),
        };
        fixture.apply(issue(vec![(NodeIndex(3), delete)])).unwrap();
        fixture.confirm_all(3);
        assert_eq!(fixture.commands(3), []);
        assert_eq!(fixture.replicas(1).len(), 3);
    }

    #[test]
    fn a_page_of_commands_is_the_oldest_that_are_due_and_not_in_hands() {
        let fixture = Fixture::new();
        let delete = CommandRecordAction::Delete {
            hash: hash(1),
            generation: generation(1),
        };
        let five = vec![(NodeIndex(1), delete); 5];
        fixture.apply(issue(five)).unwrap();
        let page = |except: &[CommandId]| -> Vec<u64> {
            let view = fixture.view();
            let page = view.commands(NodeIndex(1), except, NOW, 2).unwrap();
            page.iter().map(|(id, _)| id.0).collect()
        };
        assert_eq!(page(&[]), [1, 2]);
        assert_eq!(page(&[CommandId(1), CommandId(3)]), [2, 4]);
    }
}
