//! The SQL that others write for windows of time, as the SQL that the engine reads.
//!
//! Queries for Flink, RisingWave and Spark run as they are published: windows as table functions, and the
//! group windows that came before them. First the [tokens](tokens) that the parser has no grammar for are
//! exchanged, each keeping its place, so that an error names the place in the text as it was written. Then
//! the parsed query is rewritten, so that what comes after knows the functions of [`windows`](crate::windows)
//! only:
//!
//! ```text
//! FROM tumble(r, ts, size)          FROM (SELECT *, w['start'] AS window_start, w['end'] AS window_end
//!                                         FROM (SELECT *, tumble(ts, size) AS w FROM r))   -- without w
//! tumble_start(ts, size)            tumble(ts, size)['start']
//! ```
//!
//! A query without windows is not changed.

mod group_window;
mod size;
mod spark;
mod table_function;
mod tokens;
mod words;

pub(crate) use tokens::exchange as exchange_tokens;

use crate::error::{Error, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Statement as SqlStatement, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Tokenizer;
use std::ops::ControlFlow;

static DIALECT: GenericDialect = GenericDialect {};

/// The one statement of `sql`, ready to be planned.
///
/// # Errors
/// `Invalid` if it is not one statement, is too large, or calls a window function in a way that it cannot be.
pub(crate) fn statement(sql: &str, state: &SessionState) -> Result<Statement> {
    size::check_bytes(sql)?;
    let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location();
    let tokens = tokens.map_err(|e| engine_error(ParserError::from(e)))?;
    size::check_steps(&tokens)?;
    let limit = state.config_options().sql_parser.recursion_limit.get();
    let mut parser = DFParserBuilder::new(exchange_tokens(tokens))
        .with_dialect(&DIALECT)
        .with_recursion_limit(limit)
        .build()?;
    let mut statements = parser.parse_statements()?;
    let statement = match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => statement,
        (None, _) => return Err(Error::Invalid("expected a query, found nothing".into())),
        (Some(_), more) => {
            return Err(Error::Invalid(format!(
                "expected one query, found {}: send each by itself",
                more + 1
            )));
        }
    };
    rewrite_statement(statement).map_err(Error::Invalid)
}

fn engine_error(e: ParserError) -> Error {
    Error::Engine(datafusion::error::DataFusionError::SQL(Box::new(e), None))
}

fn rewrite_statement(statement: Statement) -> Result<Statement, String> {
    Ok(match statement {
        Statement::Statement(mut statement) => {
            rewrite_in::<SqlStatement>(&mut statement)?;
            Statement::Statement(statement)
        }
        Statement::Explain(mut explain) => {
            explain.statement = Box::new(rewrite_statement(*explain.statement)?);
            Statement::Explain(explain)
        }
        other => other,
    })
}

/// Rewrites the windows of a query, or says what is wrong with one of them.
pub(crate) fn rewrite(query: &mut Query) -> Result<(), String> {
    rewrite_in(query)
}

fn rewrite_in<T: VisitMut>(part: &mut T) -> Result<(), String> {
    match part.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(message),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        flow(spark::name_windows(query))
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<String> {
        flow(table_function::rewrite(factor))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        flow(spark::rewrite(expr).and_then(|()| group_window::rewrite(expr)))
    }
}

fn flow(result: Result<(), String>) -> ControlFlow<String> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(message) => ControlFlow::Break(message),
    }
}

/// Reads what this module has written.
fn read<T>(
    sql: &str,
    parse: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
) -> Result<T, String> {
    let mut parser = Parser::new(&DIALECT).try_with_sql(sql).map_err(|e| e.to_string())?;
    parse(&mut parser).map_err(|e| format!("cannot rewrite the window `{sql}`: {e}"))
}

/// Whether the identifier is this name as SQL understands it.
fn is(ident: &Ident, name: &str) -> bool {
    match ident.quote_style {
        None => ident.value.eq_ignore_ascii_case(name),
        Some(_) => ident.value == name,
    }
}

#[cfg(test)]
mod tests;
