//! [`CopyLanes`]: how many copies a datanode makes at once.
//!
//! Small files have lanes of their own: a large one whose target hangs holds its lanes until that is noticed, and who waits for
//! lanes waits in line.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Lanes of each kind. As many small files at once, since these wait for syncs, which they share.
const LANES: u32 = 32;
/// A file takes one lane for each of so many bytes, a quarter of all at most: a few large ones fill a disk.
const BYTES_A_LANE: u64 = 128 << 10;
/// Small files at once while somebody uploads, who waits for the same syncs and processors: more of them are a longer wait.
const BESIDE_UPLOADS: u32 = 4;
/// While somebody uploads, lanes rest after a copy for so many times as long as it took: a file that is short of a replica for a
/// little longer waits for nobody. Small copies that share their syncs end together, so they come in short bursts, and most
/// uploads meet none.
const REST: u32 = 8;
const LONGEST_REST: Duration = Duration::from_secs(2);

/// The lanes of one datanode.
#[derive(Default)]
pub(super) struct CopyLanes {
    // Files of up to `BYTES_A_LANE`.
    small: Lanes,
    large: Lanes,
}

struct Lanes {
    // Only who is in front says how many it wants: uploads may have begun or ended since it came.
    front: Semaphore,
    free: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            front: Semaphore::new(1),
            free: Semaphore::new(LANES as usize),
        }
    }
}

impl CopyLanes {
    /// Waits until a file of `size` bytes may be copied. Its lanes are taken until the permit is dropped.
    /// Beside uploads there is one large file at a time, and few small ones.
    pub(super) async fn take(
        &self,
        size: u64,
        beside_uploads: impl Fn() -> bool,
    ) -> SemaphorePermit<'_> {
        let lanes = match size {
            0..=BYTES_A_LANE => &self.small,
            _ => &self.large,
        };
        let front = lanes.front.acquire().await;
        let taken = lanes
            .free
            .acquire_many(wanted(size, beside_uploads()))
            .await;
        drop(front);
        taken.expect("the semaphores are never closed")
    }
}

/// How long the lanes of a copy that took `time` rest, where somebody uploads.
pub(super) fn rest(time: Duration) -> Duration {
    (time * REST).min(LONGEST_REST)
}

fn wanted(size: u64, beside_uploads: bool) -> u32 {
    let lanes = size.div_ceil(BYTES_A_LANE);
    let lanes = u32::try_from(lanes).map_or(LANES / 4, |lanes| lanes.clamp(1, LANES / 4));
    match beside_uploads {
        true if size > BYTES_A_LANE => LANES,
        true => LANES / BESIDE_UPLOADS,
        false => lanes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;

    use futures_util::FutureExt;

    const SMALL: u64 = BYTES_A_LANE;
    const LARGE: u64 = 64 << 20;

    /// How many files of `size` are copied at once.
    fn at_once(lanes: &CopyLanes, size: u64, beside_uploads: bool) -> usize {
        let mut taken = Vec::new();
        while let Some(permit) = lanes.take(size, || beside_uploads).now_or_never() {
            taken.push(permit);
        }
        taken.len()
    }

    #[test]
    fn i11_four_large_files_are_copied_at_once_or_as_many_small_ones_as_there_are_lanes() {
        let lanes = CopyLanes::default();
        for small in [0, 1, SMALL] {
            assert_eq!(at_once(&lanes, small, false), 32, "{small}");
        }
        for large in [1 << 20, LARGE, u64::MAX] {
            assert_eq!(at_once(&lanes, large, false), 4, "{large}");
        }
        assert_eq!(at_once(&lanes, SMALL + 1, false), 16);
    }

    #[test]
    fn beside_uploads_there_is_one_large_copy_and_small_ones_come_in_short_bursts() {
        let lanes = CopyLanes::default();
        for (size, expected) in [
            (0, 4),
            (SMALL, 4),
            (SMALL + 1, 1),
            (LARGE, 1),
            (u64::MAX, 1),
        ] {
            assert_eq!(at_once(&lanes, size, true), expected, "{size}");
        }
        assert_eq!(rest(Duration::from_millis(30)), Duration::from_millis(240));
        assert_eq!(rest(Duration::MAX / REST), LONGEST_REST);
    }

    #[test]
    fn large_files_whose_targets_hang_hold_up_no_small_one() {
        let lanes = CopyLanes::default();
        let hanging = lanes.take(LARGE, || true).now_or_never();
        assert!(hanging.is_some() && lanes.take(LARGE, || true).now_or_never().is_none());
        assert_eq!(at_once(&lanes, SMALL, true), 4);
    }

    #[test]
    fn who_waits_wants_what_is_right_when_its_turn_comes() {
        let (lanes, uploading) = (CopyLanes::default(), Cell::new(false));
        let waiting = || lanes.take(SMALL, || uploading.get());
        let first: Vec<_> = (0..LANES)
            .filter_map(|_| waiting().now_or_never())
            .collect();
        let mut second = pin!(waiting());
        let mut third = pin!(waiting());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        uploading.set(true);
        drop(first);
        // It was in front already.
        assert_eq!(second.now_or_never().unwrap().num_permits(), 1);
        assert_eq!(third.now_or_never().unwrap().num_permits(), 8);
    }
}
