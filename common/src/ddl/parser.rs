//! Reads statements: DataFusion's SQL parser, with the statements of Twofold around it.

use super::{Location, Statement, ViewDef};
use crate::error::{Error, Result};
use crate::functions::Functions;
use crate::late_events::SYSTEM_PREFIX;
use crate::sql;
use crate::stream::REJECTED_SUFFIX;
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::{Ident, SetExpr};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{IsOptional, Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location as Place, Token, Tokenizer};

static DIALECT: GenericDialect = GenericDialect {};
const ALLOWED: &str = "CREATE STREAM, CREATE TABLE, CREATE MATERIALIZED VIEW or CREATE VIEW";
/// Names become file names and parts of URLs.
const NAME_LENGTH: usize = 100;

/// The statements of one file.
pub(super) struct StatementParser<'a> {
    file: &'a str,
    /// What expressions may call besides the engine's functions.
    pub(super) functions: &'a Functions,
    end: Place,
    parser: Parser<'a>,
}

impl<'a> StatementParser<'a> {
    pub(super) fn new(file: &'a str, text: &str, functions: &'a Functions) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let tokens = Tokenizer::new(&DIALECT, text)
            .tokenize_with_location()
            .map_err(|e| location(file, e.location).error(e.message))?;
        let end = tokens.last().map_or(Place { line: 1, column: 1 }, |token| token.span.end);
        let parser = Parser::new(&DIALECT).with_tokens_with_locations(sql::exchange_tokens(tokens));
        Ok(Self { file, functions, end, parser })
    }

    /// The rest of the statements.
    pub(super) fn statements(&mut self) -> Result<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            while self.consume(&Token::SemiColon) {}
            if self.parser.peek_token_ref().token == Token::EOF {
                return Ok(statements);
            }
            statements.push(self.statement()?);
            if !matches!(self.parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
                return Err(self.expected("`;` after the statement"));
            }
        }
    }

    fn statement(&mut self) -> Result<Statement> {
        let location = self.location();
        if !self.keyword(Keyword::CREATE) {
            return Err(self.expected(ALLOWED));
        }
        if self.parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]) {
            return Err(location.error("OR REPLACE is not needed: change the statement itself"));
        }
        if self.is_word("sink") {
            return Err(location.error("sinks are not available yet"));
        }
        if self.keyword(Keyword::STREAM) {
            super::stream::parse(self, location)
        } else if self.keyword(Keyword::TABLE) {
            super::table::parse(self, location)
        } else if self.keyword(Keyword::VIEW) {
            self.view(location, false)
        } else if self.parser.parse_keywords(&[Keyword::MATERIALIZED, Keyword::VIEW]) {
            self.view(location, true)
        } else {
            Err(self.expected(ALLOWED))
        }
    }

    fn view(&mut self, location: Location, materialized: bool) -> Result<Statement> {
        let name = self.name("view")?;
        let columns = self.view_columns()?;
        self.sql(|sql| sql.expect_keyword_is(Keyword::AS))?;
        let at = self.location();
        let mut query = *self.sql(Parser::parse_query)?;
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) = *query.body
        {
            return Err(at.error("expected a query that reads; a view changes nothing"));
        }
        let text = query.to_string();
        sql::rewrite(&mut query).map_err(|message| at.error(message))?;
        let view = ViewDef { name, materialized, columns, query, sql: text, location };
        Ok(Statement::View(Box::new(view)))
    }

    fn view_columns(&mut self) -> Result<Vec<String>> {
        let at = self.location();
        let columns = self.sql(|sql| sql.parse_parenthesized_column_list(IsOptional::Optional, false))?;
        let columns: Vec<_> = columns.into_iter().map(normalize).collect();
        match columns.iter().enumerate().find(|(i, column)| columns[..*i].contains(column)) {
            Some((_, twice)) => Err(at.error(format!("column `{twice}` is named twice"))),
            None => Ok(columns),
        }
    }

    /// The name that a statement declares: one part, safe as a file name, and not reserved.
    pub(super) fn name(&mut self, what: &str) -> Result<String> {
        let at = self.location();
        if self.is_keyword(Keyword::IF) {
            return Err(at.error("IF NOT EXISTS is not needed: a file declares what the project has"));
        }
        let name = normalize(self.sql(Parser::parse_identifier)?);
        if self.parser.peek_token_ref().token == Token::Period {
            return Err(at.error(format!("a {what}'s name has one part; there are no schemas")));
        }
        match refusal(&name) {
            Some(reason) => Err(at.error(format!("`{name}` cannot be the name of a {what}: {reason}"))),
            None => Ok(name),
        }
    }

    /// What the SQL parser reads next, its errors told in our way.
    pub(super) fn sql<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Result<T> {
        parse(&mut self.parser).map_err(|e| self.syntax_error(&e))
    }

    pub(super) fn consume(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn keyword(&mut self, keyword: Keyword) -> bool {
        self.parser.parse_keyword(keyword)
    }

    pub(super) fn is_keyword(&self, keyword: Keyword) -> bool {
        self.parser.peek_keyword(keyword)
    }

    /// Whether the next token is this word, which the SQL parser does not know, without quotes.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.parser.peek_token_ref().token,
            Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
    }

    /// Consumes `word FOR`, if that is next.
    pub(super) fn word_for(&mut self, word: &str) -> bool {
        let next = matches!(&self.parser.peek_nth_token_ref(1).token,
            Token::Word(w) if w.keyword == Keyword::FOR);
        let found = next && self.is_word(word);
        if found {
            self.parser.advance_token();
            self.parser.advance_token();
        }
        found
    }

    /// Where the next token stands, or else the end of the file.
    pub(super) fn location(&self) -> Location {
        let token = self.parser.peek_token_ref();
        location(self.file, if token.token == Token::EOF { self.end } else { token.span.start })
    }

    /// The error that something else stands here.
    pub(super) fn expected(&self, expected: &str) -> Error {
        let found = match &self.parser.peek_token_ref().token {
            Token::EOF => "the end of the file".to_string(),
            token => format!("`{token}`"),
        };
        self.location().error(format!("expected {expected}, found {found}"))
    }

    fn syntax_error(&self, error: &ParserError) -> Error {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
        };
        let (message, place) = split_place(message);
        let at = place.map_or_else(|| self.location(), |place| location(self.file, place));
        let message = message.replace("Expected: ", "expected ").replace(", found: ", ", found ");
        at.error(message.replace("found EOF", "found the end of the file").replace('\n', " "))
    }
}

/// An identifier as DataFusion understands it.
pub(super) fn normalize(ident: Ident) -> String {
    IdentNormalizer::default().normalize(ident)
}

fn location(file: &str, place: Place) -> Location {
    Location { file: file.to_string(), line: place.line.max(1), column: place.column.max(1) }
}

/// The SQL parser ends its messages with the place, if it knows it.
fn split_place(message: &str) -> (&str, Option<Place>) {
    let place = message.rsplit_once(" at Line: ").and_then(|(before, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((before, Place { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    place.map_or((message, None), |(before, place)| (before, Some(place)))
}

fn refusal(name: &str) -> Option<String> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with('_') {
        Some("names that begin with `_` are reserved".to_string())
    } else if name.to_ascii_lowercase().starts_with(SYSTEM_PREFIX) {
        Some(format!("names that begin with `{SYSTEM_PREFIX}` are reserved for what Twofold tells of itself"))
    } else if name.to_ascii_lowercase().ends_with(REJECTED_SUFFIX) {
        Some(format!("names that end in `{REJECTED_SUFFIX}` are reserved for rejected events"))
    } else if !name.chars().all(safe) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        Some("a name is ASCII letters, digits and `_`, and begins with a letter".to_string())
    } else {
        (name.len() > NAME_LENGTH).then(|| format!("it is longer than {NAME_LENGTH} characters"))
    }
}
