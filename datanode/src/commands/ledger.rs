//! [`CommandLedger`]: which commands are being worked on, and which outcomes wait for their confirmation. Pure.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::{Command, CommandId, CommandOutcome, ErrorCode};

/// Commands taken on at once; the namenode delivers the rest again.
const MAX_RUNNING: usize = 4096;
/// Outcomes told in one heartbeat.
const MAX_OUTCOMES: usize = 1000;
/// Longest error text that is told, in characters.
const MAX_ERROR_CHARACTERS: usize = 256;

/// The commands of one datanode between delivery and confirmation.
#[derive(Debug, Default)]
pub(crate) struct CommandLedger {
    running: BTreeSet<CommandId>,
    outcomes: BTreeMap<CommandId, CommandOutcome>,
}

impl CommandLedger {
    /// Takes delivered commands on, and returns those to start now. One that runs already, or whose outcome was not
    /// confirmed yet, is not started again: the namenode delivers it with each heartbeat until then.
    pub(crate) fn accept(&mut self, delivered: Vec<Command>) -> Vec<Command> {
        let mut fresh = Vec::new();
        for command in delivered {
            if self.running.len() >= MAX_RUNNING {
                break;
            }
            if self.outcomes.contains_key(&command.id) || !self.running.insert(command.id) {
                continue;
            }
            fresh.push(command);
        }
        fresh
    }

    /// A command has ended.
    pub(crate) fn finish(&mut self, id: CommandId, result: Result<(), (ErrorCode, String)>) {
        let result = result.map_err(|(code, message)| {
            (code, message.chars().take(MAX_ERROR_CHARACTERS).collect())
        });
        if self.running.remove(&id) {
            self.outcomes.insert(id, CommandOutcome { id, result });
        }
    }

    /// A command that was not brought to an end; it will be delivered again.
    pub(crate) fn give_up(&mut self, id: CommandId) {
        self.running.remove(&id);
    }

    /// The oldest outcomes that were not confirmed yet.
    pub(crate) fn outcomes(&self) -> Vec<CommandOutcome> {
        self.outcomes.values().take(MAX_OUTCOMES).cloned().collect()
    }

    /// The namenode has these on disk. Returns whether there are more to tell.
    pub(crate) fn confirmed(&mut self, told: &[CommandOutcome]) -> bool {
        for outcome in told {
            self.outcomes.remove(&outcome.id);
        }
        !self.outcomes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{CommandAction, ContentHash, Generation, ReplicaEntry};

    fn command(id: u64) -> Command {
        Command {
            id: CommandId(id),
            action: CommandAction::Trim(ReplicaEntry {
                hash: ContentHash::EMPTY,
                generation: Generation(1),
            }),
        }
    }

    #[test]
    fn i10_a_command_delivered_again_is_not_started_again_until_it_was_confirmed() {
        let mut ledger = CommandLedger::default();
        assert_eq!(ledger.accept(vec![command(1), command(1)]), [command(1)]);
        assert!(ledger.accept(vec![command(1)]).is_empty());
        ledger.finish(CommandId(1), Ok(()));
        assert!(ledger.accept(vec![command(1)]).is_empty());
        let told = ledger.outcomes();
        assert_eq!(told.len(), 1);
        assert!(!ledger.confirmed(&told));
        assert_eq!(ledger.accept(vec![command(1)]), [command(1)]);
    }

    #[test]
    fn i11_commands_over_the_limit_are_left_for_their_next_delivery() {
        let mut ledger = CommandLedger::default();
        let all: Vec<_> = (0..5000).map(command).collect();
        assert_eq!(ledger.accept(all.clone()).len(), MAX_RUNNING);
        ledger.finish(CommandId(0), Ok(()));
        assert_eq!(ledger.accept(all).len(), 1);
    }

    #[test]
    fn an_outcome_nobody_waits_for_is_not_told() {
        let mut ledger = CommandLedger::default();
        ledger.finish(CommandId(3), Ok(()));
        assert!(ledger.outcomes().is_empty());
        ledger.accept(vec![command(3)]);
        ledger.give_up(CommandId(3));
        ledger.finish(CommandId(3), Ok(()));
        assert!(ledger.outcomes().is_empty());
    }
}
