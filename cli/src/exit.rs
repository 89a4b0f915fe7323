//! [`Exit`]: the exit codes, all of them, and which error ends in which.

use std::io;

use richardstore_client::ClientError;
use richardstore_datanode::{DatanodeError, IdentityError, VolumeError};
use richardstore_namenode::{
    DumpError, LoadError, MutationError, NamenodeError, OpenError, UpgradeError, ViewError,
};
use richardstore_proto::{ErrorCode, StoreError};
use richardstore_store::OpenError as StoreOpenError;

/// Shown at the end of `richardstore --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done; a role was told to stop and did
    1  failed
    2  wrong usage
    3  no such file or datanode
    4  the store is not available now; trying again may help
    5  bytes that are not what their hash says
    6  `admin fsck` found problems
  130  interrupted, or told to stop a second time
  A namenode or datanode that refuses its directory:
   20  the cluster is known, its database is missing
   21  written by a newer version
   22  belongs to another cluster
   23  damaged, or something else
   24  in use by another process
   25  the disk or the permissions
   26  could not be brought up to date";

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// Failed, with nothing more specific to say.
    Failure,
    /// The caller asked for something that makes no sense.
    Usage,
    /// No such file.
    NotFound,
    /// Trying again may help.
    Unavailable,
    /// Bytes that are not what their hash says.
    Integrity,
    /// A check went through and found something.
    Problems,
    /// Interrupted by a signal.
    Interrupted,
    /// A role refused its directory; the numbers are the namenode's, which datanodes share.
    Directory(u8),
}

/// A command that was told to stop before it was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A check went through and found something.
#[derive(Debug, thiserror::Error)]
#[error("{count} problems were found")]
pub struct ProblemsFound {
    /// How many.
    pub count: u64,
}

/// Some of the things a command was asked to do could not be done; each was reported when it failed.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {total} failed")]
pub struct SomeFailed {
    /// How many.
    pub failed: u64,
    /// Of how many.
    pub total: u64,
    /// How the first of them would have ended the command.
    pub first: Exit,
}

impl SomeFailed {
    /// A single failure was reported already, and needs no summary.
    pub fn is_summary(&self) -> bool {
        self.total > 1
    }
}

/// The directory of a datanode belongs to another cluster, as [`OpenError::exit_code`] numbers it.
const FOREIGN: u8 = 22;
const DAMAGED: u8 = 23;
const LOCKED: u8 = 24;
const DISK: u8 = 25;

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unavailable => 4,
            Self::Integrity => 5,
            Self::Problems => 6,
            Self::Interrupted => 130,
            Self::Directory(code) => code,
        }
    }

    /// How a process ends that failed with `error`: decided by the first cause that says something specific.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(of_cause).unwrap_or(Self::Failure)
    }
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::HashMismatch | ErrorCode::Corrupt => Self::Integrity,
            ErrorCode::InvalidArgument
            | ErrorCode::MethodNotAllowed
            | ErrorCode::RangeNotSatisfiable
            | ErrorCode::HeadersTooLarge => Self::Usage,
            ErrorCode::RequestTimeout
            | ErrorCode::Unavailable
            | ErrorCode::InsufficientReplicas
            | ErrorCode::SafeMode => Self::Unavailable,
            ErrorCode::Conflict
            | ErrorCode::DeletedMeanwhile
            | ErrorCode::PayloadTooLarge
            | ErrorCode::Internal
            | ErrorCode::StorageFull
            | ErrorCode::Fenced => Self::Failure,
            ErrorCode::WrongCluster => Self::Directory(FOREIGN),
        }
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if cause.is::<Interrupted>() {
        return Some(Exit::Interrupted);
    }
    if cause.is::<ProblemsFound>() {
        return Some(Exit::Problems);
    }
    if let Some(some) = cause.downcast_ref::<SomeFailed>() {
        return Some(some.first);
    }
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return Some(error.code().into());
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(error.code.into());
    }
    if let Some(UpgradeError::Open(error)) = cause.downcast_ref::<UpgradeError>() {
        return Some(of_metadata(error));
    }
    if let Some(error) = cause.downcast_ref::<NamenodeError>() {
        return of_namenode(error);
    }
    if let Some(error) = cause.downcast_ref::<OpenError>() {
        return Some(of_metadata(error));
    }
    if let Some(error) = cause.downcast_ref::<LoadError>() {
        return of_load(error);
    }
    if let Some(error) = cause.downcast_ref::<DumpError>() {
        return of_dump(error);
    }
    if let Some(error) = cause.downcast_ref::<DatanodeError>() {
        return of_datanode(error);
    }
    // The reader of our output went away (`richardstore ls | head`): it has what it wanted.
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    cause
        .downcast_ref::<io::Error>()
        .filter(|error| gone(error))
        .map(|_| Exit::Success)
}

fn of_metadata(error: &OpenError) -> Exit {
    Exit::Directory(error.exit_code())
}

fn of_namenode(error: &NamenodeError) -> Option<Exit> {
    match error {
        NamenodeError::Open(error) => Some(of_metadata(error)),
        // A database that opened, and of which the first records show that it is damaged.
        NamenodeError::View(ViewError::Corrupt(_) | ViewError::Storage(_))
        | NamenodeError::Epoch(MutationError::Corrupt(_) | MutationError::Storage(_)) => {
            Some(Exit::Directory(DAMAGED))
        }
        NamenodeError::Config(_)
        | NamenodeError::Serve(_)
        | NamenodeError::Offload(_)
        | NamenodeError::View(_)
        | NamenodeError::Epoch(_)
        | NamenodeError::Reflection(_) => None,
    }
}

fn of_load(error: &LoadError) -> Option<Exit> {
    match error {
        LoadError::Dump(error) => of_dump(error),
        LoadError::Open(error) => Some(of_metadata(error)),
        LoadError::NotEmpty { .. } => Some(Exit::Directory(DAMAGED)),
        LoadError::Database(_) => Some(Exit::Directory(DISK)),
    }
}

fn of_dump(error: &DumpError) -> Option<Exit> {
    match error {
        DumpError::NotADump(_) | DumpError::Version { .. } => Some(Exit::Usage),
        DumpError::Damaged { .. } => Some(Exit::Integrity),
        DumpError::Io(_) => None,
    }
}

fn of_datanode(error: &DatanodeError) -> Option<Exit> {
    match error {
        DatanodeError::Directory { .. } => Some(Exit::Directory(DISK)),
        DatanodeError::Volume(VolumeError::Directory { .. }) => Some(Exit::Directory(DISK)),
        DatanodeError::Volume(VolumeError::Open(error)) => Some(of_store(error)),
        DatanodeError::Identity(error) => Some(Exit::Directory(match error {
            IdentityError::File { .. } => DISK,
            IdentityError::Damaged { .. } => DAMAGED,
            IdentityError::WrongCluster { .. } | IdentityError::OldNamenode { .. } => FOREIGN,
        })),
        DatanodeError::Volume(_)
        | DatanodeError::Serve(_)
        | DatanodeError::Reflection(_)
        | DatanodeError::Offload(_) => None,
    }
}

fn of_store(error: &StoreOpenError) -> Exit {
    match error {
        StoreOpenError::Locked { .. } => Exit::Directory(LOCKED),
        StoreOpenError::NotAStore { .. } | StoreOpenError::Format { .. } => {
            Exit::Directory(DAMAGED)
        }
        StoreOpenError::NoExtendedAttributes { .. } | StoreOpenError::Io { .. } => {
            Exit::Directory(DISK)
        }
        StoreOpenError::LayoutMismatch { .. } => Exit::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use richardstore_proto::ContentHash;
    use std::path::PathBuf;

    #[test]
    fn the_most_specific_cause_decides_under_any_words() {
        let missing = ClientError::Namenode {
            address: "n:1".into(),
            operation: "ReadFile",
            answer: StoreError::new(ErrorCode::NotFound, "no such file"),
        };
        let error = Err::<(), _>(missing).context("reading").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NotFound);
        let corrupt = ClientError::Corrupt {
            hash: ContentHash::EMPTY,
            detail: String::new(),
        };
        assert_eq!(Exit::of(&corrupt.into()), Exit::Integrity);
        assert_eq!(Exit::of(&anyhow::anyhow!("no idea")), Exit::Failure);
    }

    #[test]
    fn a_namenode_that_meets_a_damaged_record_when_it_starts_ends_as_one_that_cannot_open_it() {
        let view = NamenodeError::View(ViewError::Corrupt("nodes".to_owned()));
        let epoch = NamenodeError::Epoch(MutationError::Corrupt("meta".to_owned()));
        for error in [view, epoch] {
            assert_eq!(Exit::of(&error.into()), Exit::Directory(DAMAGED));
        }
    }

    #[test]
    fn a_directory_in_use_has_the_same_code_for_both_roles() {
        let namenode = OpenError::Locked {
            path: PathBuf::from("d"),
        };
        let datanode = StoreOpenError::Locked {
            path: PathBuf::from("d"),
        };
        assert_eq!(
            Exit::of(&NamenodeError::Open(namenode).into()),
            Exit::of(&DatanodeError::Volume(VolumeError::Open(datanode)).into()),
        );
    }
}
