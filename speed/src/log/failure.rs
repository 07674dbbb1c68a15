//! What goes wrong inside the log's file, before its path is named.

use std::io::ErrorKind;
use twofold_common::Error;

/// A failure of the embedded store, or an error of ours.
#[derive(Debug)]
pub(super) enum Failure {
    Store(redb::Error),
    Ours(Error),
}

/// The result of working on the log's file.
pub(super) type Worked<T = ()> = Result<T, Failure>;

impl Failure {
    /// The failure as an error about the file at `path`, by what the caller should do.
    pub(super) fn at(self, path: &str) -> Error {
        use redb::Error as E;
        let store = match self {
            Failure::Store(e) => e,
            Failure::Ours(e) => return e,
        };
        match store {
            E::DatabaseAlreadyOpen => {
                Error::Conflict(format!("{path}: another process holds the log: stop it, or use it"))
            }
            E::Corrupted(reason) => Error::corrupt(path, format!("{reason}: restore the file from a backup")),
            e @ (E::TableTypeMismatch { .. } | E::TypeDefinitionChanged { .. } | E::TableIsMultimap(_)) => {
                Error::corrupt(path, format!("not a log of this version: {e}"))
            }
            E::UpgradeRequired(version) => Error::corrupt(
                path,
                format!("version {version} of the store, which this program does not read"),
            ),
            E::Io(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => {
                Error::corrupt(path, format!("the file is truncated or damaged: {e}"))
            }
            E::Io(e) => Error::io(path, e),
            other => Error::Unavailable(format!("{path}: {other}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Ours(e)
    }
}

macro_rules! from_store {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Failure {
            fn from(e: redb::$error) -> Self {
                Failure::Store(e.into())
            }
        })*
    };
}

from_store!(CommitError, DatabaseError, SetDurabilityError, StorageError, TableError, TransactionError);
