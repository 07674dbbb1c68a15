//! Errors as PostgreSQL tells them: by SQLSTATE.
//!
//! The kind decides where it can; where a client wants to know more exactly (a table, a column, a value), the engine's
//! own error does.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use twofold_common::{Error, Kind};

/// The SQLSTATEs that are told.
pub(super) mod state {
    pub(crate) const PROTOCOL: &str = "08P01";
    pub(crate) const NOT_SUPPORTED: &str = "0A000";
    pub(crate) const DATA: &str = "22000";
    pub(crate) const OUT_OF_RANGE: &str = "22003";
    pub(crate) const BAD_TIME: &str = "22008";
    pub(crate) const DIVISION: &str = "22012";
    pub(crate) const BAD_PARAMETER: &str = "22023";
    pub(crate) const BAD_TEXT: &str = "22P02";
    pub(crate) const READ_ONLY: &str = "25006";
    pub(crate) const NO_TRANSACTION: &str = "25P01";
    pub(crate) const FAILED_TRANSACTION: &str = "25P02";
    pub(crate) const NO_STATEMENT: &str = "26000";
    pub(crate) const NOT_LET_IN: &str = "28000";
    pub(crate) const WRONG_PASSWORD: &str = "28P01";
    pub(crate) const NO_CURSOR: &str = "34000";
    pub(crate) const CONFLICT: &str = "40001";
    pub(crate) const FORBIDDEN: &str = "42501";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const AMBIGUOUS_COLUMN: &str = "42702";
    pub(crate) const NO_COLUMN: &str = "42703";
    pub(crate) const NO_OBJECT: &str = "42704";
    pub(crate) const DUPLICATE_CURSOR: &str = "42P03";
    pub(crate) const NO_TABLE: &str = "42P01";
    pub(crate) const DUPLICATE_COLUMN: &str = "42701";
    pub(crate) const NO_FUNCTION: &str = "42883";
    pub(crate) const INVALID: &str = "42000";
    pub(crate) const NO_MEMORY: &str = "53200";
    pub(crate) const TOO_MANY: &str = "53300";
    pub(crate) const TOO_MUCH: &str = "54000";
    pub(crate) const CANCELLED: &str = "57014";
    pub(crate) const STOPPING: &str = "57P01";
    pub(crate) const NOT_NOW: &str = "57P03";
    pub(crate) const INTERNAL: &str = "XX000";
    pub(crate) const CORRUPT: &str = "XX001";
}

/// An error and its SQLSTATE.
#[derive(Debug)]
pub(super) struct Failure {
    code: &'static str,
    message: String,
    /// After it the connection is closed.
    fatal: bool,
}

impl Failure {
    pub(super) fn new(code: &'static str, message: String) -> Self {
        Self { code, message, fatal: false }
    }

    pub(super) fn fatal(code: &'static str, message: &str) -> Self {
        Self { code, message: message.into(), fatal: true }
    }

    /// Twofold is for reading here.
    pub(super) fn refused(what: &str) -> Self {
        let message = format!(
            "{what} is refused: only queries are answered here; events come in over HTTP or `twofold ingest`, and streams, \
             tables and views are declared in the project's *.sql"
        );
        Self::new(state::READ_ONLY, message)
    }

    /// The same, after which the connection is closed.
    pub(super) fn into_fatal(self) -> Self {
        Self { fatal: true, ..self }
    }

    /// The same, said of something.
    pub(super) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Corrupt | Kind::Internal => tracing::error!(error = %error, "a query failed"),
            _ => tracing::debug!(error = %error, "a query was refused"),
        }
        Self::new(code(&error), error.to_string())
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Error::Engine(error).into()
    }
}

impl From<Failure> for PgWireError {
    fn from(failure: Failure) -> Self {
        let severity = if failure.fatal { "FATAL" } else { "ERROR" };
        let mut info = ErrorInfo::new(severity.into(), failure.code.into(), failure.message);
        info.severity_nonlocalized = Some(severity.into());
        PgWireError::UserError(Box::new(info))
    }
}

fn code(error: &Error) -> &'static str {
    match error.kind() {
        Kind::Unauthenticated => state::NOT_LET_IN,
        Kind::Forbidden => state::FORBIDDEN,
        Kind::NotFound => state::NO_TABLE,
        Kind::Conflict => state::CONFLICT,
        Kind::Busy => state::TOO_MANY,
        Kind::Corrupt => state::CORRUPT,
        Kind::Internal => state::INTERNAL,
        Kind::Unavailable | Kind::Invalid => match error {
            Error::Engine(e) => engine_code(e.find_root(), error.kind()),
            _ if error.kind() == Kind::Unavailable => state::NOT_NOW,
            _ => state::INVALID,
        },
    }
}

fn engine_code(error: &DataFusionError, kind: Kind) -> &'static str {
    use arrow::error::ArrowError as A;
    use datafusion::error::DataFusionError as E;
    match error {
        E::External(inner) => inner.downcast_ref::<Error>().map_or(state::INTERNAL, code),
        E::ResourcesExhausted(_) => state::NO_MEMORY,
        E::SQL(e, _) => match e.as_ref() {
            ParserError::RecursionLimitExceeded => state::TOO_MUCH,
            _ => state::SYNTAX,
        },
        E::SchemaError(e, _) => match e.as_ref() {
            SchemaError::AmbiguousReference { .. } => state::AMBIGUOUS_COLUMN,
            SchemaError::FieldNotFound { .. } => state::NO_COLUMN,
            SchemaError::DuplicateQualifiedField { .. } | SchemaError::DuplicateUnqualifiedField { .. } => {
                state::DUPLICATE_COLUMN
            }
        },
        E::ArrowError(e, _) => match e.as_ref() {
            A::DivideByZero => state::DIVISION,
            A::ArithmeticOverflow(_) => state::OUT_OF_RANGE,
            A::CastError(_) | A::ParseError(_) => state::BAD_TEXT,
            A::InvalidArgumentError(_) => state::BAD_PARAMETER,
            _ => state::DATA,
        },
        E::NotImplemented(_) => state::NOT_SUPPORTED,
        E::Plan(text) => plan_code(text),
        E::Execution(_) => state::DATA,
        _ if kind == Kind::Unavailable => state::NOT_NOW,
        _ => state::INVALID,
    }
}

/// The engine has one kind of error for all that cannot be planned: its words tell them apart.
fn plan_code(text: &str) -> &'static str {
    let says = |words: &str| text.contains(words);
    if says("table '") && says("not found") {
        state::NO_TABLE
    } else if says("Invalid function") || says("No function matches") || says("does not support") {
        state::NO_FUNCTION
    } else if says("No field named") {
        state::NO_COLUMN
    } else {
        state::INVALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    async fn code_of(sql: &str) -> &'static str {
        let session = SessionContext::new();
        let error = match session.sql(sql).await {
            Err(e) => e,
            Ok(frame) => frame.collect().await.unwrap_err(),
        };
        Failure::from(error).code()
    }

    #[tokio::test]
    async fn a_mistake_in_a_query_is_told_by_its_kind() {
        for (sql, code) in [
            ("SELECT * FROM nowhere", state::NO_TABLE),
            ("SELECT nothing FROM (VALUES (1)) AS t(a)", state::NO_COLUMN),
            ("SELECT a FROM (VALUES (1)) AS t(a), (VALUES (2)) AS u(a)", state::AMBIGUOUS_COLUMN),
            ("SELECT frm x", state::NO_COLUMN),
            ("SELECT * frm x", state::SYNTAX),
            ("SELECT nofunction(1)", state::NO_FUNCTION),
            ("SELECT a / 0 FROM (VALUES (1)) AS t(a)", state::DIVISION),
            ("SELECT CAST(a AS INT) FROM (VALUES ('x')) AS t(a)", state::BAD_TEXT),
            ("SELECT CAST(a AS SMALLINT) FROM (VALUES (100000)) AS t(a)", state::BAD_TEXT),
        ] {
            assert_eq!(code_of(sql).await, code, "{sql}");
        }
    }

    #[test]
    fn each_kind_has_a_code() {
        let code = |error: Error| Failure::from(error).code();
        assert_eq!(code(Error::NotFound("x".into())), state::NO_TABLE);
        assert_eq!(code(Error::Unavailable("x".into())), state::NOT_NOW);
        assert_eq!(code(Error::corrupt("a", "b")), state::CORRUPT);
        assert_eq!(code(Error::Internal("x".into())), state::INTERNAL);
        assert_eq!(code(Error::Busy("x".into())), state::TOO_MANY);
        let through = DataFusionError::from(Error::corrupt("a", "b"));
        assert_eq!(Failure::from(through).code(), state::CORRUPT);
        assert_eq!(Failure::from(DataFusionError::ResourcesExhausted("x".into())).code(), state::NO_MEMORY);
    }
}
