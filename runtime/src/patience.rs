//! How long to wait for a chain of datanodes: the longer the chain, the longer, so that the node in front of a stuck one gives
//! it up first. Its answer, which names the stuck node, is back before those further in front run out of patience and
//! blame a sound one. Small files go from the head to all others at once; the head waits for them as long as for a chain.

use std::time::Duration;

/// One disk may stand still this long while it writes back.
const PROGRESS_PER_NODE: Duration = Duration::from_secs(5);
/// One node may take this long to sync the end of a file and publish it. A node that is gone is noticed much earlier, by
/// keep-alive.
const ANSWER_PER_NODE: Duration = Duration::from_secs(20);
/// Of that, what is left for messages and answers that are on their way.
const LEFT_FOR_THE_WAY: Duration = Duration::from_secs(2);
/// Slowest rate, in bytes a second, at which a node is expected to sync or copy a whole file.
const SLOWEST_BYTES_PER_SECOND: u64 = 8 << 20;

/// How long a chain of `nodes` datanodes may take no byte.
pub fn progress_limit(nodes: usize) -> Duration {
    PROGRESS_PER_NODE.saturating_mul(count(nodes))
}

/// How long the answer of a chain of `nodes` datanodes may take after the last of `size` bytes was sent. The time for the bytes
/// is there once: all nodes write them back side by side.
pub fn answer_limit(nodes: usize, size: u64) -> Duration {
    let bytes = Duration::from_secs(size / SLOWEST_BYTES_PER_SECOND);
    ANSWER_PER_NODE
        .saturating_mul(count(nodes))
        .saturating_add(bytes)
}

/// How long a node waits for its own disk before it says of one of several small files that it does not have it. A little less
/// than what the node in front waits for all of them: one file that is stuck must not take the others' answers with it, and a
/// slow disk must not be given up earlier than one that takes a stream.
pub fn own_limit() -> Duration {
    ANSWER_PER_NODE - LEFT_FOR_THE_WAY
}

fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_what_its_own_disk_does_before_anybody_in_front_gives_it_up() {
        for nodes in 1..100 {
            assert!(own_limit() < answer_limit(nodes, 0));
        }
    }

    #[test]
    fn who_is_further_in_front_is_more_patient_in_chains_of_any_length() {
        for nodes in 1..100 {
            for size in [0, 1 << 40] {
                let more = answer_limit(nodes + 1, size);
                assert!(more >= answer_limit(nodes, size) + Duration::from_secs(10));
            }
            assert!(progress_limit(nodes + 1) > progress_limit(nodes));
        }
    }
}
