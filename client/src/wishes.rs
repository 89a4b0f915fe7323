//! [`NodeWish`] and [`SafeModeWish`]: what an operator may want.

use richardstore_proto::wire;

/// Of a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeWish {
    /// To be used.
    InService,
    /// To be emptied.
    Decommission,
}

/// Of safe mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SafeModeWish {
    /// To know whether it is on.
    Get,
    /// To end it, and any wait for datanodes that are away.
    Leave,
    /// Nothing to be copied or deleted until it is left.
    Enter,
}

impl From<NodeWish> for wire::NodeAction {
    fn from(wish: NodeWish) -> Self {
        match wish {
            NodeWish::InService => Self::InService,
            NodeWish::Decommission => Self::Decommission,
        }
    }
}

impl From<SafeModeWish> for wire::SafeModeAction {
    fn from(wish: SafeModeWish) -> Self {
        match wish {
            SafeModeWish::Get => Self::Get,
            SafeModeWish::Leave => Self::Leave,
            SafeModeWish::Enter => Self::Enter,
        }
    }
}
