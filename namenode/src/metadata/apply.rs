//! [`apply`]: the one function that changes the metadata.
//!
//! Deterministic: it reads no clock and throws no dice, and what it does and answers depends on the tables and the
//! mutation only. A mutation is refused before its first write, so a refused one leaves no trace in a batch with others.
//! The exception are damaged records and a failed database, which may show up in the middle: the ledger then throws the
//! whole transaction away and runs the others again without the one that met the damage.

use super::batch::Batch;
use super::nodes::Registration;
use super::reports::Report;
use crate::mutation::{Mutation, MutationError, Reply};

/// Applies one mutation.
pub(super) fn apply(batch: &mut Batch<'_>, mutation: &Mutation) -> Result<Reply, MutationError> {
    match mutation {
        Mutation::StartEpoch {
            now_ms,
            writes_expire_at_ms,
        } => {
            batch.recover_if_loaded(*now_ms)?;
            batch.start_epoch(*writes_expire_at_ms)
        }
        Mutation::AllocateWrites {
            count,
            expires_at_ms,
        } => batch.allocate_writes(*count, *expires_at_ms),
        Mutation::RenewWrites {
            generations,
            expires_at_ms,
        } => batch.renew_writes(generations, *expires_at_ms),
        Mutation::CommitFile {
            generation,
            hash,
            size,
            blake3_root,
            replication,
            nodes,
            now_ms,
        } => batch.commit_file(&super::files::Commit {
            generation: *generation,
            hash: *hash,
            size: *size,
            blake3_root: *blake3_root,
            replication: *replication,
            nodes,
            now_ms: *now_ms,
        }),
        Mutation::AbandonWrites {
            generations,
            now_ms,
        } => batch.abandon_writes(generations, *now_ms),
        Mutation::ExpireWrites { now_ms, limit } => batch.expire_writes(*now_ms, *limit),
        Mutation::DeleteFile { hash, now_ms } => batch.delete_file(hash, *now_ms),
        Mutation::RegisterNode {
            node_id,
            session_epoch,
            name,
            address,
            rack,
            journal_id,
            now_ms,
        } => batch.register_node(&Registration {
            node_id: *node_id,
            session_epoch: *session_epoch,
            name,
            address,
            rack,
            journal_id: *journal_id,
            now_ms: *now_ms,
        }),
        Mutation::UpdateNode { index, address } => batch.update_node(*index, address),
        Mutation::SetNodeAdmin { index, admin } => batch.set_node_admin(*index, *admin),
        Mutation::SetMaintenance { index, until_ms } => batch.set_maintenance(*index, *until_ms),
        Mutation::RemoveNode {
            index,
            after,
            limit,
            now_ms,
        } => batch.remove_node(*index, *after, *limit, *now_ms),
        Mutation::ApplyReport {
            index,
            session_epoch,
            journal_id,
            events,
            now_ms,
        } => batch.apply_report(&Report {
            node: *index,
            session_epoch: *session_epoch,
            journal_id: *journal_id,
            events,
            now_ms: *now_ms,
        }),
        Mutation::ConfirmCommands { index, outcomes } => batch.confirm_commands(*index, outcomes),
        Mutation::RecallDeletes { deletes, now_ms } => batch.recall_deletes(deletes, *now_ms),
        Mutation::Recover {
            replication,
            epoch,
            generation,
            now_ms,
        } => {
            batch.recover(*replication, epoch.0, *generation, *now_ms)?;
            Ok(Reply::Done)
        }
        Mutation::IssueCommands { commands, now_ms } => batch.issue_commands(commands, *now_ms),
    }
}
