//! [`Outage`]: most of the nodes are away. Pure.
//!
//! So many disks do not die at once: it is the power or the network, and it ends. Copying then would move the whole store
//! between the nodes that happen to be back first. Repair rests until half of the nodes are back and the others had a
//! dead timeout to follow, or all are.

/// Whether repair rests because of an outage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outage {
    /// No.
    #[default]
    None,
    /// Fewer than half of the nodes are there.
    Out,
    /// They are coming back.
    Returning {
        /// Those that are not back by then are taken for lost.
        until_ms: u64,
    },
    /// They are away, and the operator said not to wait for them.
    Overruled,
}

impl Outage {
    /// Takes in that `there` of the `members` of the cluster are not dead; `grace_ms` is the dead timeout.
    pub fn observe(&mut self, there: u64, members: u64, grace_ms: u64, now_ms: u64) {
        *self = if there.saturating_mul(2) < members {
            match *self {
                Self::Overruled => Self::Overruled,
                Self::None | Self::Out | Self::Returning { .. } => Self::Out,
            }
        } else {
            match *self {
                Self::Out if there < members => Self::Returning {
                    until_ms: now_ms.saturating_add(grace_ms),
                },
                Self::Returning { until_ms } if there < members && now_ms < until_ms => *self,
                Self::None | Self::Out | Self::Returning { .. } | Self::Overruled => Self::None,
            }
        };
    }

    /// The operator says that those away are lost. Holds until half of the nodes are there.
    pub fn overrule(&mut self) {
        if self.is_on() {
            *self = Self::Overruled;
        }
    }

    /// Why repair rests, in words; `None` where it does not. To be asked with what was observed last.
    pub fn reason(&self, there: u64, members: u64, now_ms: u64) -> Option<String> {
        let away = format!("repair rests: {there} of {members} datanodes are there");
        match *self {
            Self::None | Self::Overruled => None,
            Self::Out => Some(format!(
                "{away}; it goes on when half of them are, or with `admin safemode leave`"
            )),
            Self::Returning { until_ms } => {
                let left_s = until_ms.saturating_sub(now_ms).div_ceil(1_000);
                Some(format!("{away}; waiting {left_s} s more for the others"))
            }
        }
    }

    /// Repair rests.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::Out | Self::Returning { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i07_nodes_that_return_one_by_one_from_an_outage_are_waited_for() {
        let mut outage = Outage::default();
        let mut observe = |there, now_ms| {
            outage.observe(there, 4, 30, now_ms);
            outage.is_on()
        };
        assert!(!observe(4, 0) && !observe(2, 1), "two disks may die");
        assert!(observe(1, 2) && observe(0, 3));
        assert!(observe(1, 1_000), "however long it takes");
        assert!(observe(2, 2_000) && observe(3, 2_029));
        assert!(!observe(3, 2_030), "the fourth is lost");
        assert!(observe(0, 3_000) && observe(2, 3_001));
        assert!(!observe(4, 3_002), "all are back");
    }

    #[test]
    fn it_says_why_repair_rests_and_what_ends_that() {
        let mut outage = Outage::default();
        assert_eq!(outage.reason(4, 4, 0), None);
        outage.observe(1, 4, 30_000, 0);
        let out = "repair rests: 1 of 4 datanodes are there; it goes on when half of them are, or with `admin safemode leave`";
        assert_eq!(outage.reason(1, 4, 0).as_deref(), Some(out));
        outage.observe(3, 4, 30_000, 0);
        let returning =
            "repair rests: 3 of 4 datanodes are there; waiting 29 s more for the others";
        assert_eq!(outage.reason(3, 4, 1_001).as_deref(), Some(returning));
        outage.overrule();
        assert_eq!(outage.reason(1, 4, 0), None);
    }

    #[test]
    fn an_operator_ends_the_wait_for_this_outage_and_no_other() {
        let mut outage = Outage::default();
        outage.observe(1, 4, 30, 0);
        outage.overrule();
        outage.observe(1, 4, 30, 1);
        assert!(!outage.is_on());
        outage.observe(3, 4, 30, 2);
        outage.observe(1, 4, 30, 3);
        assert!(outage.is_on());
    }
}
