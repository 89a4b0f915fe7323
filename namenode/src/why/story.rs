//! What happened to a file lately, in words: what the namenode keeps and its records do not say. Pure.

use super::explanation::{name, names};
use super::facts::Facts;
use super::words::ago;
use crate::file_history::{Deed, Work};
use crate::record::NodeIndex;

/// A sentence for each deed, oldest first, and one that says how far back they go.
pub(super) fn story(facts: &Facts) -> Vec<String> {
    let story = &facts.story;
    let mut told: Vec<String> = story
        .entries
        .iter()
        .map(|entry| {
            format!(
                "{}: {}.",
                ago(entry.at_ms, facts.now_ms),
                deed(facts, &entry.deed)
            )
        })
        .collect();
    let since = ago(story.since_ms, facts.now_ms);
    told.push(match (story.is_whole, told.is_empty()) {
        (true, true) => format!("Nothing else happened to it since the namenode started {since}; of what was before, nothing more was kept."),
        (true, false) => {
            format!("Nothing is missing since the namenode started {since}; of what was before, some may be.")
        }
        (false, _) => format!(
            "Events before {since} made room for newer ones; of those, some are missing."
        ),
    });
    told
}

fn deed(facts: &Facts, deed: &Deed) -> String {
    match deed {
        Deed::Committed {
            generation,
            created: true,
        } => format!("write {generation} made the file"),
        Deed::Committed { generation, .. } => {
            format!("write {generation} stored it once more")
        }
        Deed::Deleted => "it was deleted".to_owned(),
        Deed::ReportedBad { node, reason } => format!(
            "the replica on {} was reported as bad{}",
            name(facts, *node),
            quoted(reason)
        ),
        Deed::Ordered { node, work } => {
            format!("{} was told to {}", name(facts, *node), told(facts, work))
        }
        Deed::Done { node, work } => done(facts, *node, work),
        Deed::Failed { node, work, reason } => format!(
            "{} could not {}{}",
            name(facts, *node),
            told(facts, work),
            quoted(reason)
        ),
        Deed::GivenUp { node, work } => format!(
            "{} was told to {} and was not waited for any longer",
            name(facts, *node),
            told(facts, work)
        ),
    }
}

fn told(facts: &Facts, work: &Work) -> String {
    match work {
        Work::Copy(targets) => format!("copy it to {}", names(facts, targets)),
        Work::Trim => "remove its replica, one too many".to_owned(),
        Work::Quarantine => "look at its replica again".to_owned(),
        Work::Delete => "remove its replica".to_owned(),
    }
}

fn done(facts: &Facts, node: NodeIndex, work: &Work) -> String {
    let who = name(facts, node);
    match work {
        Work::Copy(targets) => format!("{who} copied it to {}", names(facts, targets)),
        Work::Trim => format!("{who} removed its replica, which was one too many"),
        Work::Quarantine => {
            format!("{who} looked at its replica again, and put it aside if it was bad")
        }
        Work::Delete => format!("{who} confirmed that its replica is gone"),
    }
}

fn quoted(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(": {}", reason.trim_end_matches('.')),
    }
}
