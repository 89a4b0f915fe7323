//! The subcommands, one file each.

pub mod admin;
pub mod bench;
pub mod completions;
pub mod datanode;
pub mod dev;
pub mod drill;
pub mod drill_hand;
pub mod gateway;
pub mod get;
pub mod health;
pub mod ls;
pub mod namenode;
pub mod put;
pub mod rebuild;
pub mod rm;
pub mod stat;
