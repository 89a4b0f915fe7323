//! [`Entropy`]: where new ids come from. A simulation gives out the same ones again in the next run of its seed.

use std::fmt::Debug;
use std::sync::Arc;

use uuid::Uuid;

/// A source of ids that nobody else has.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// A new id.
    fn id(&self) -> [u8; 16];
}

/// A source that the parts of one role share.
pub type SharedEntropy = Arc<dyn Entropy>;

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn id(&self) -> [u8; 16] {
        *Uuid::new_v4().as_bytes()
    }
}
