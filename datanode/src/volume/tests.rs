use super::*;

use std::sync::Arc;

use richardstore_runtime::SystemEntropy;

struct Bench {
    directory: tempfile::TempDir,
    volume: Volume,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = DatanodeConfig {
            headroom_bytes: 0,
            ..DatanodeConfig::new(directory.path(), "127.0.0.1:0", "127.0.0.1:1")
        };
        let volume = Volume::open(&config, Arc::new(SystemEntropy)).unwrap();
        volume.rebuild(&CancellationToken::new()).unwrap();
        Self { directory, volume }
    }

    fn is_marked_clean(&self) -> bool {
        self.directory.path().join("index.clean").exists()
    }
}

#[test]
fn i09_a_failed_volume_leaves_no_clean_mark() {
    let bench = Bench::new();
    bench.volume.store.fail("a sync failed after its rename");
    assert!(bench.volume.close().is_err());
    assert!(!bench.is_marked_clean());
}
