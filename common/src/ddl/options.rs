//! `WITH (key = value, ...)`.

use super::Location;
use super::parser::{StatementParser, normalize};
use crate::error::Result;
use crate::suggest;
use datafusion::sql::sqlparser::ast::{Expr, Value};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::ops::RangeInclusive;

/// The options of a statement: each known, none twice.
pub(super) struct Options(Vec<Entry>);

struct Entry {
    key: String,
    at: Location,
    value: Expr,
}

impl Options {
    /// The options that follow, if any, all of them among `known`.
    pub(super) fn parse(parser: &mut StatementParser<'_>, known: &[&str]) -> Result<Self> {
        let mut options = Self(Vec::new());
        if !parser.keyword(Keyword::WITH) {
            return Ok(options);
        }
        parser.sql(|sql| sql.expect_token(&Token::LParen))?;
        if parser.consume(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let entry = options.entry(parser, known)?;
            options.0.push(entry);
            if !parser.consume(&Token::Comma) {
                parser.sql(|sql| sql.expect_token(&Token::RParen))?;
                return Ok(options);
            }
        }
    }

    fn entry(&self, parser: &mut StatementParser<'_>, known: &[&str]) -> Result<Entry> {
        let at = parser.location();
        let key = normalize(parser.sql(Parser::parse_identifier)?);
        if !known.contains(&key.as_str()) {
            return Err(at.error(format!("unknown option `{key}`; {}", suggest::hint(&key, known))));
        }
        if let Some(before) = self.0.iter().find(|entry| entry.key == key) {
            return Err(at.error(format!("option `{key}` is given twice, first at {}", before.at)));
        }
        parser.sql(|sql| sql.expect_token(&Token::Eq))?;
        Ok(Entry { key, at, value: parser.sql(Parser::parse_expr)? })
    }

    /// Where an option stands, if it is given.
    pub(super) fn location(&self, key: &str) -> Option<&Location> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.at)
    }

    /// A whole number in `range`.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| match value {
            Value::Number(digits, _) => digits.parse().ok().filter(|n| range.contains(n)),
            _ => None,
        })
    }

    /// A text that `parse` accepts.
    pub(super) fn text<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        self.read(key, expected, |value| match value {
            Value::SingleQuotedString(text) => parse(text),
            _ => None,
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", |value| match value {
            Value::Boolean(value) => Some(*value),
            _ => None,
        })
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(entry) = self.0.iter().find(|entry| entry.key == key) else { return Ok(None) };
        let value = match &entry.value {
            Expr::Value(value) => parse(&value.value),
            _ => None,
        };
        let wrong = || entry.at.error(format!("option `{key}`: expected {expected}, found {}", entry.value));
        value.map(Some).ok_or_else(wrong)
    }
}
