//! What can go wrong, and what the caller should do about it.
//!
//! Every error has a [`Kind`]; the kind alone, never the text, drives retry, HTTP status and exit code.

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request or the project is wrong: correct it.
    Invalid,
    /// Who asks is not known: show a token.
    Unauthenticated,
    /// Who asks may not do this: use a token that may.
    Forbidden,
    /// What was named does not exist.
    NotFound,
    /// Somebody else was first: read again and decide anew.
    Conflict,
    /// Not now: try again later.
    Unavailable,
    /// Too much at once: nothing was done; wait a moment and send the same again.
    Busy,
    /// Stored bytes are damaged or of a format that this version does not read.
    Corrupt,
    /// A defect or a failing machine.
    Internal,
}

impl Kind {
    /// The kinds.
    pub const ALL: [Kind; 9] = [
        Kind::Invalid,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Unavailable,
        Kind::Busy,
        Kind::Corrupt,
        Kind::Internal,
    ];
}

/// An error of the shared parts of Twofold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The project, a statement or an argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No token was shown, or one that is not valid.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token lacks a scope.
    #[error("{0}")]
    Forbidden(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A conditional put was lost, or a resource is held by another process.
    #[error("{0}")]
    Conflict(String),
    /// Not available now; later it may be.
    #[error("{0}")]
    Unavailable(String),
    /// More than may wait is waiting.
    #[error("{0}")]
    Busy(String),
    /// Stored bytes are damaged, or written by a newer version.
    #[error("{path}: {reason}")]
    Corrupt {
        /// The file or object.
        path: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The query engine refused or failed.
    #[error("{}", engine_message(.0))]
    Engine(#[from] datafusion::error::DataFusionError),
    /// The object store failed.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
    /// A defect in Twofold.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The result of the shared parts of Twofold.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Invalid(_) => Kind::Invalid,
            Error::Unauthenticated(_) => Kind::Unauthenticated,
            Error::Forbidden(_) => Kind::Forbidden,
            Error::NotFound(_) => Kind::NotFound,
            Error::Conflict(_) => Kind::Conflict,
            Error::Unavailable(_) => Kind::Unavailable,
            Error::Busy(_) => Kind::Busy,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Io { source, .. } => io_kind(source),
            Error::Engine(e) => engine_kind(e),
            Error::Store(e) => match e {
                object_store::Error::NotFound { .. } => Kind::NotFound,
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                    Kind::Conflict
                }
                _ => Kind::Unavailable,
            },
            Error::Internal(_) => Kind::Internal,
        }
    }

    /// Stored bytes at `path` are not what they should be.
    pub fn corrupt(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Corrupt { path: path.into(), reason: reason.into() }
    }

    /// Reading or writing `path` failed.
    pub fn io(path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().display().to_string(), source }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Error::Engine(e.into())
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(e: parquet::errors::ParquetError) -> Self {
        Error::Engine(e.into())
    }
}

/// An error of ours that travels through the engine comes back as itself.
impl From<Error> for datafusion::error::DataFusionError {
    fn from(e: Error) -> Self {
        match e {
            Error::Engine(e) => e,
            other => datafusion::error::DataFusionError::External(Box::new(other)),
        }
    }
}

/// How the reason ends where a query exceeds its own bound, and not the process's.
pub const OF_LIMITS: &str = "in [limits] of twofold.toml";

fn io_kind(e: &std::io::Error) -> Kind {
    match e.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => Kind::Invalid,
        _ => Kind::Unavailable,
    }
}

fn engine_kind(e: &datafusion::error::DataFusionError) -> Kind {
    use datafusion::error::DataFusionError as E;
    match e.find_root() {
        E::External(inner) => inner.downcast_ref::<Error>().map_or(Kind::Internal, Error::kind),
        E::ResourcesExhausted(_) | E::ObjectStore(_) => Kind::Unavailable,
        E::IoError(e) => io_kind(e),
        E::Internal(_) => Kind::Internal,
        _ => Kind::Invalid,
    }
}

/// The engine's message in one line, without the names of its error types.
fn engine_message(e: &datafusion::error::DataFusionError) -> String {
    use datafusion::error::DataFusionError as E;
    use datafusion::sql::sqlparser::parser::ParserError;
    let message = match e.find_root() {
        E::External(inner) => inner.to_string(),
        E::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply".into(),
        },
        E::SchemaError(error, _) => error.to_string(),
        E::Plan(text) | E::Execution(text) | E::NotImplemented(text) => text.clone(),
        E::ResourcesExhausted(text) if text.ends_with(OF_LIMITS) => text.clone(),
        E::ResourcesExhausted(text) => {
            format!("not enough memory: raise `limit` in [memory], or ask for less at once ({text})")
        }
        E::ArrowError(error, _) => error.to_string(),
        other => other.strip_backtrace(),
    };
    message.replace('\n', " ").replace("twofold.public.", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::error::DataFusionError as E;

    #[test]
    fn an_engine_error_is_one_plain_line() {
        let plan = Error::from(E::Plan("table 'twofold.public.nope'\nnot found".into()).context("planning"));
        assert_eq!((plan.kind(), plan.to_string()), (Kind::Invalid, "table 'nope' not found".into()));
        let sql = datafusion::sql::parser::DFParser::parse_sql("SELECT * frm x").unwrap_err();
        let sql = Error::from(sql);
        assert!(sql.to_string().starts_with("Expected: end of statement, found: frm"), "{sql}");
    }

    #[test]
    fn our_error_comes_back_from_the_engine_with_its_kind() {
        let through = E::from(Error::corrupt("a.parquet", "is cut short")).context("reading");
        let back = Error::from(through);
        assert_eq!((back.kind(), back.to_string()), (Kind::Corrupt, "a.parquet: is cut short".into()));
    }
}
