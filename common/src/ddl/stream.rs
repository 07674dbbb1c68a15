//! `CREATE STREAM`.

use super::options::Options;
use super::parser::{StatementParser, normalize};
use super::{Location, Statement, columns, watermark};
use crate::error::Result;
use crate::stream::{Deduplicate, StreamDef, Watermark};
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{IntervalMonthDayNano, Schema};
use datafusion::sql::sqlparser::ast::{ColumnDef, Expr};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::sync::Arc;
use std::time::Duration;

const MAX_PARTITIONS: u32 = 1024;
const OPTIONS: &[&str] =
    &["partitions", "partition_by", "idle_timeout", "deduplicate_by", "deduplicate_within"];
/// How long ids are remembered if the statement does not say.
const DEDUPLICATE_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// `WATERMARK FOR column AS expression`, as it is written.
pub(super) struct WatermarkClause {
    pub(super) column: String,
    pub(super) column_at: Location,
    pub(super) expression: Expr,
    pub(super) expression_at: Location,
}

/// The statement after `CREATE STREAM`.
pub(super) fn parse(parser: &mut StatementParser<'_>, location: Location) -> Result<Statement> {
    let name = parser.name("stream")?;
    let (columns, clause) = body(parser)?;
    let options = Options::parse(parser, OPTIONS)?;
    let schema = stream_schema(&location, columns)?;
    let watermark = match clause {
        Some(clause) => {
            watermark::check(&schema, &clause, parser.functions)?;
            let idle_timeout = options.text("idle_timeout", "an interval, as '1 minute'", interval)?;
            Some(Watermark { column: clause.column, expression: clause.expression.to_string(), idle_timeout })
        }
        None => {
            if let Some(at) = options.location("idle_timeout") {
                return Err(at.error(
                    "option `idle_timeout`: the stream has no WATERMARK that a partition could hold back",
                ));
            }
            None
        }
    };
    let stream = StreamDef {
        name,
        partitions: options.number("partitions", 1..=MAX_PARTITIONS)?.unwrap_or(1),
        partition_by: column_option(&options, "partition_by", "'origin'", &schema)?,
        deduplicate: deduplicate(&options, &schema)?,
        schema: Arc::new(schema),
        watermark,
    };
    Ok(Statement::Stream(stream, location))
}

type Body = (Vec<(Location, ColumnDef)>, Option<WatermarkClause>);

fn body(parser: &mut StatementParser<'_>) -> Result<Body> {
    let (mut columns, mut clause) = (Vec::new(), None);
    parser.sql(|sql| sql.expect_token(&Token::LParen))?;
    loop {
        let at = parser.location();
        if !parser.word_for("watermark") {
            columns.push((at, parser.sql(Parser::parse_column_def)?));
        } else if clause.is_none() {
            clause = Some(watermark_clause(parser)?);
        } else {
            return Err(at.error("a stream has one watermark; this is the second"));
        }
        if !parser.consume(&Token::Comma) {
            parser.sql(|sql| sql.expect_token(&Token::RParen))?;
            return Ok((columns, clause));
        }
    }
}

fn watermark_clause(parser: &mut StatementParser<'_>) -> Result<WatermarkClause> {
    let column_at = parser.location();
    let column = normalize(parser.sql(Parser::parse_identifier)?);
    parser.sql(|sql| sql.expect_keyword_is(Keyword::AS))?;
    let expression_at = parser.location();
    let expression = parser.sql(Parser::parse_expr)?;
    Ok(WatermarkClause { column, column_at, expression, expression_at })
}

fn stream_schema(location: &Location, columns: Vec<(Location, ColumnDef)>) -> Result<Schema> {
    if columns.is_empty() {
        return Err(location.error("a stream needs at least one column"));
    }
    let places: Vec<_> = columns.iter().map(|(at, _)| at.clone()).collect();
    let schema = columns::schema(columns)?;
    for (at, field) in places.iter().zip(schema.fields()) {
        let name = field.name();
        if name.starts_with('_') {
            let reserved = "names that begin with `_` are reserved for what Twofold stores with an event";
            return Err(at.error(format!("column `{name}`: {reserved}")));
        }
        if columns::has_interval(field.data_type()) {
            let way_out = "Parquet cannot hold it; declare a BIGINT of seconds or milliseconds instead";
            return Err(at.error(format!("column `{name}` is an INTERVAL: {way_out}")));
        }
    }
    Ok(schema)
}

/// The length that `text` says as SQL's INTERVAL does; `None` if it says none, months, or nothing above zero.
fn interval(text: &str) -> Option<Duration> {
    let IntervalMonthDayNano { months: 0, days, nanoseconds } = parse_interval_month_day_nano(text).ok()?
    else {
        return None;
    };
    let days = i64::from(days).checked_mul(86_400_000_000_000)?;
    let length = u64::try_from(days.checked_add(nanoseconds)?).ok()?;
    (length > 0).then(|| Duration::from_nanos(length))
}

fn deduplicate(options: &Options, schema: &Schema) -> Result<Option<Deduplicate>> {
    let within = options.text("deduplicate_within", "an interval, as '1 day'", interval)?;
    let Some(column) = column_option(options, "deduplicate_by", "'event_id'", schema)? else {
        return match options.location("deduplicate_within") {
            Some(at) => {
                Err(at.error("option `deduplicate_within`: name the column of ids, `deduplicate_by`"))
            }
            None => Ok(None),
        };
    };
    Ok(Some(Deduplicate { column, within: within.unwrap_or(DEDUPLICATE_WITHIN) }))
}

/// An option that names a column of single values.
fn column_option(options: &Options, key: &str, example: &str, schema: &Schema) -> Result<Option<String>> {
    let expected = format!("the name of a column, as {example}");
    let column = options.text(key, &expected, |text| Some(text.to_string()))?;
    let (Some(column), Some(at)) = (column, options.location(key)) else { return Ok(None) };
    match schema.column_with_name(&column) {
        Some((_, field)) if columns::is_scalar(field.data_type()) => Ok(Some(column)),
        Some((_, field)) => Err(at.error(format!(
            "option `{key}`: column `{column}` is {}; expected a column of single values",
            field.data_type()
        ))),
        None => Err(at.error(format!("option `{key}`: the stream has no column `{column}`"))),
    }
}
