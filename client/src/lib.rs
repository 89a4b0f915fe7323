//! The native client of richardstore: what gateways, the command line and drills speak to a cluster with.
//!
//! A [`Client`] knows the namenode's address and nothing else. It writes through a chain of datanodes and commits at the
//! namenode ([`Client::put`]), and reads from whichever replica answers, resuming at another where one breaks
//! ([`Client::get`]). What it hands out as complete was compared with the hash it was asked for; what could not be
//! completed ends in an error, never early.

mod admin;
mod client;
mod content_hasher;
mod copies;
mod error;
mod events;
mod get;
mod namenode;
mod put;
mod retry;
mod status;
mod verify;
mod wishes;

pub use admin::{
    CheckFinding, CheckPart, CheckTotals, ClusterReport, RepairAnswer, RepairFigures,
    ReplicaCounts, WhyReport,
};
pub use client::{Client, ClientConfig};
pub use content_hasher::{ContentDigest, ContentHasher};
pub use copies::TakenCopy;
pub use error::{ClientError, SourceError};
pub use events::{EventBatch, EventPosition, ParsePositionError};
pub use get::{GetOptions, GetStream, LookUpCounts};
pub use put::{Progress, PutOptions, PutOutcome};
pub use status::{
    BlockingFile, ClusterInfo, FilePage, FileStatus, NodeAdminStatus, NodeStatus, ReplicaStatus,
    SafeModeStatus,
};
pub use verify::{ReplicaVerdict, VerifiedReplica};
pub use wishes::{NodeWish, SafeModeWish};
