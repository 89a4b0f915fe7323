//! [`SeededEntropy`]: ids that are the same in every run of a seed.

use std::sync::{Mutex, PoisonError};

use richardstore_drills::Random;
use richardstore_runtime::Entropy;

/// Ids from a seed.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<Random>);

impl SeededEntropy {
    /// The ids of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Random::new(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn id(&self) -> [u8; 16] {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random.number().to_be_bytes());
        id[8..].copy_from_slice(&random.number().to_be_bytes());
        id
    }
}
