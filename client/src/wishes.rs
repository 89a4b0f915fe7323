//! [`NodeWish`] and [`SafeModeWish`]: what an operator may want.

use richardstore_proto::wire;

/// Of a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeWish {
    /// To be used.
    InService,
    /// To be emptied.
    Decommission,
    /// To be expected away: its files are not copied meanwhile.
    Maintenance {
        /// For how long, in milliseconds; 0 is the namenode's default.
        for_ms: u64,
    },
    /// To be missed again when it is away.
    EndMaintenance,
    /// To be forgotten for good.
    Remove {
        /// Also where it has the last replica of a file.
        accept_loss: bool,
    },
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

impl NodeWish {
    /// The wish, for the datanode with this id or name.
    pub(crate) fn request(self, node: &str) -> wire::SetNodeAdminRequest {
        wire::SetNodeAdminRequest {
            node: node.to_owned(),
            action: wire::NodeAction::from(self).into(),
            maintenance_ms: match self {
                Self::Maintenance { for_ms } => for_ms,
                _ => 0,
            },
            accept_loss: matches!(self, Self::Remove { accept_loss: true }),
        }
    }
}

impl From<NodeWish> for wire::NodeAction {
    fn from(wish: NodeWish) -> Self {
        match wish {
            NodeWish::InService => Self::InService,
            NodeWish::Decommission => Self::Decommission,
            NodeWish::Maintenance { .. } => Self::Maintenance,
            NodeWish::EndMaintenance => Self::EndMaintenance,
            NodeWish::Remove { .. } => Self::Remove,
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
