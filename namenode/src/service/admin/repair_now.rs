//! [`repair_now`]: the operator does not want to wait for repair to come by.

use richardstore_proto::wire;

use crate::shared::Shared;

/// Has everything looked at again, and says whether anything will be ordered.
pub fn repair_now(shared: &Shared) -> wire::RepairNowResponse {
    let now_ms = shared.now_ms();
    let mut soft = shared.soft();
    soft.repair.hurry();
    tracing::info!("an operator has repair look at everything now");
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    wire::RepairNowResponse {
        halted: soft.halted(now_ms).unwrap_or_default(),
        copying: number(soft.repair.progress.copying),
        waiting: number(soft.repair.progress.waiting),
    }
}
