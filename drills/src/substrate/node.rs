//! [`Node`]: one process of a cluster, by its role and number.

use std::fmt;

/// A node. Numbers are those of the substrate's own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The namenode.
    Namenode,
    /// A datanode.
    Datanode(u16),
    /// A gateway.
    Gateway(u16),
}

impl Node {
    /// Whether the namenode's name for a datanode, `name`, means this node: substrates put something of their own before it.
    pub fn is_called(self, name: &str) -> bool {
        let own = self.to_string();
        let before = name.strip_suffix(own.as_str());
        before.is_some_and(|before| !before.ends_with(|last: char| last.is_ascii_alphanumeric()))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namenode => formatter.write_str("namenode"),
            Self::Datanode(number) => write!(formatter, "datanode-{number}"),
            Self::Gateway(number) => write!(formatter, "gateway-{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_under_the_name_of_its_container() {
        for (name, is) in [
            ("datanode-1", true),
            ("richardstore-datanode-1", true),
            ("datanode-11", false),
            ("datanode-21", false),
            ("mydatanode-1", false),
        ] {
            assert_eq!(Node::Datanode(1).is_called(name), is, "{name}");
        }
    }
}
