//! Commands: issuing them, and what their outcomes change.

use richardstore_proto::CommandId;

use super::batch::Batch;
use crate::mutation::{CommandEnd, MutationError, Reply};
use crate::record::{CommandRecordAction, NodeIndex};

impl Batch<'_> {
    /// Adds commands. All of them or, where a node is not known, none.
    pub fn issue_commands(
        &mut self,
        commands: &[(NodeIndex, CommandRecordAction)],
        now_ms: u64,
    ) -> Result<Reply, MutationError> {
        for (node, action) in commands {
            self.node(*node)?;
            if let CommandRecordAction::Replicate { targets, .. } = action {
                for target in targets {
                    self.node(*target)?;
                }
            }
        }
        for (node, action) in commands {
            self.add_command(*node, action.clone(), now_ms)?;
        }
        Ok(Reply::Done)
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
