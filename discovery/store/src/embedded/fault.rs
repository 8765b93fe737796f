//! Why a request was refused, in etcd's words and codes, so that any etcd client understands.

use std::io::ErrorKind;
use tonic::{Code, Status};

/// A refusal. Texts and codes are etcd's (its api/v3rpc/rpctypes); the last two are ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTooLong,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: request timed out")]
    TimedOut,
    #[error("etcdserver: server stopped")]
    Stopped,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    #[error("isthmus store: {0} is not served")]
    NotServed(&'static str),
    /// The file system is full; recovers by itself when there is room.
    #[error("etcdserver: mvcc: database space exceeded: disk: {0}")]
    DiskFull(String),
    /// The database failed otherwise.
    #[error("isthmus store: disk: {0}")]
    Disk(String),
}

// === impl Fault ===

impl Fault {
    /// Whether the database failed, as opposed to the request being at fault.
    pub(super) fn is_disk(&self) -> bool {
        matches!(self, Self::DiskFull(_) | Self::Disk(_))
    }

    fn code(&self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOperations
            | Self::DuplicateKey
            | Self::RequestTooLarge => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTooLong => Code::OutOfRange,
            Self::NoSpace | Self::TooManyRequests | Self::DiskFull(_) => Code::ResourceExhausted,
            Self::LeaseNotFound => Code::NotFound,
            Self::LeaseExists => Code::FailedPrecondition,
            Self::TimedOut | Self::Stopped | Self::Disk(_) => Code::Unavailable,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotServed(_) => Code::Unimplemented,
        }
    }

    fn of(error: &redb::Error) -> Self {
        if let redb::Error::Io(io) = error
            && matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
        {
            return Self::DiskFull(io.to_string());
        }
        Self::Disk(error.to_string())
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        Status::new(fault.code(), fault.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Self::of(&error.into())
            }
        })*
    };
}

from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError);
