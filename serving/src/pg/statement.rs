//! Statements as they come over the wire: one text, several statements, and what each asks for.
//!
//! Only the words that the wire itself must understand are read here: transactions, settings, cursors, prepared
//! statements. A query is left as its text, for the planner. All else would change something, and is refused.

use super::failure::{Failure, state};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use std::sync::Arc;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// Rows are asked for.
    Query(Arc<str>),
    /// `SET name = value`; without a value, the default.
    Set { name: String, value: Option<String> },
    /// `SET` of what has no meaning for somebody who only reads, such as the isolation of transactions.
    SetNothing,
    /// `RESET ALL`
    ResetAll,
    /// `SHOW name`
    Show(String),
    /// `BEGIN`
    Begin,
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// `SAVEPOINT`, or another word about one: the tag that answers it.
    Savepoint(&'static str),
    /// `DISCARD ALL` and its like
    Discard,
    /// `UNLISTEN`
    Unlisten,
    /// `DEALLOCATE name`; without a name, all.
    Deallocate(Option<String>),
    /// `DECLARE name CURSOR FOR query`
    Declare { name: String, hold: bool, query: Arc<str> },
    /// `FETCH rows FROM name`; without a number, all.
    Fetch { name: String, rows: Option<usize> },
    /// `MOVE`, the same without the rows.
    Move { name: String, rows: Option<usize> },
    /// `CLOSE name`; without a name, all.
    Close(Option<String>),
}

/// What begins a query.
const QUERIES: &[&str] = &["select", "with", "values", "table", "explain", "describe", "desc", "from"];

/// The statements of a text, each without what separates it from the next; none for an empty text.
///
/// # Errors
/// If a quoted text or a comment does not end.
pub(super) fn split(text: &str) -> Result<Vec<&str>, Failure> {
    let mut statements = Vec::new();
    let mut from = None;
    let mut places = Places::new(text);
    for token in tokens(text)? {
        match token.token {
            Token::SemiColon => {
                let end = places.offset(token.span.start);
                if let Some(from) = from.take() {
                    statements.push(text.get(from..end).unwrap_or_default());
                }
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => {
                let start = places.offset(token.span.start);
                from.get_or_insert(start);
            }
        }
    }
    statements.extend(from.and_then(|from| text.get(from..)));
    Ok(statements)
}

fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, Failure> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    tokens.map_err(|e| Failure::new(state::SYNTAX, e.to_string()))
}

/// Where lines and columns are in a text, asked for in their order.
struct Places<'a> {
    rest: std::str::CharIndices<'a>,
    at: (u64, u64),
    offset: usize,
    length: usize,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.char_indices(), at: (1, 1), offset: 0, length: text.len() }
    }

    fn offset(&mut self, location: Location) -> usize {
        while self.at < (location.line, location.column) {
            let Some((offset, c)) = self.rest.next() else { return self.length };
            self.offset = offset + c.len_utf8();
            self.at = if c == '\n' { (self.at.0 + 1, 1) } else { (self.at.0, self.at.1 + 1) };
        }
        self.offset
    }
}

/// Reads one statement.
///
/// # Errors
/// `25006` if it would change something, `42601` if it is none.
pub(super) fn read(text: &str) -> Result<Statement, Failure> {
    let tokens = tokens(text)?;
    let tokens = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    let mut words = Words { tokens: tokens.collect(), next: 0, text };
    let first = words.peek_word();
    match first.as_deref() {
        None if words.peek() == Some(&Token::LParen) => Ok(Statement::Query(text.into())),
        None => Err(Failure::new(state::SYNTAX, format!("expected a statement, found {}", words.found()))),
        Some(word) if QUERIES.contains(&word) => Ok(Statement::Query(text.into())),
        Some(word) => {
            words.next += 1;
            words.statement(word)
        }
    }
}

struct Words<'a> {
    tokens: Vec<TokenWithSpan>,
    next: usize,
    text: &'a str,
}

impl Words<'_> {
    fn statement(&mut self, first: &str) -> Result<Statement, Failure> {
        Ok(match first {
            "set" => return self.set(),
            "reset" => match self.name()? {
                all if all == "all" => Statement::ResetAll,
                name => Statement::Set { name, value: None },
            },
            // The relations: the engine knows these.
            "show" if self.peek_word().is_some_and(|w| ["tables", "columns", "functions"].contains(&&*w)) => {
                Statement::Query(self.text.into())
            }
            "show" => Statement::Show(self.rest_as_name()),
            "begin" | "start" => Statement::Begin,
            "commit" | "end" => Statement::Commit,
            "rollback" | "abort" => {
                self.skip(&["work", "transaction"]);
                if self.peek_word().as_deref() == Some("to") {
                    Statement::Savepoint("ROLLBACK")
                } else {
                    Statement::Rollback
                }
            }
            "savepoint" => Statement::Savepoint("SAVEPOINT"),
            "release" => Statement::Savepoint("RELEASE"),
            "discard" => Statement::Discard,
            "unlisten" => Statement::Unlisten,
            "deallocate" => {
                self.skip(&["prepare"]);
                Statement::Deallocate(self.name_or_all()?)
            }
            "declare" => return self.declare(),
            "fetch" => {
                let (name, rows) = self.fetch()?;
                Statement::Fetch { name, rows }
            }
            "move" => {
                let (name, rows) = self.fetch()?;
                Statement::Move { name, rows }
            }
            "close" => Statement::Close(self.name_or_all()?),
            word => return Err(refused(word)),
        })
    }

    fn set(&mut self) -> Result<Statement, Failure> {
        let first = self.peek_word().unwrap_or_default();
        if first == "transaction" {
            return self.set_transaction();
        }
        if ["session", "local"].contains(&first.as_str()) {
            self.next += 1;
            match self.peek_word().as_deref() {
                Some("characteristics" | "transaction") => return self.set_transaction(),
                Some("authorization") => return Err(Failure::refused("SET SESSION AUTHORIZATION")),
                _ => {}
            }
        }
        let mut name = self.name()?;
        match name.as_str() {
            "time" if self.peek_word().as_deref() == Some("zone") => {
                self.next += 1;
                name = "timezone".into();
            }
            "names" => name = "client_encoding".into(),
            "role" => return Err(Failure::refused("SET ROLE")),
            _ => {
                if self.peek() != Some(&Token::Eq) && self.peek_word().as_deref() != Some("to") {
                    let found = self.found();
                    return Err(Failure::new(
                        state::SYNTAX,
                        format!("SET {name}: expected = or TO, found {found}"),
                    ));
                }
                self.next += 1;
            }
        }
        let value = self.values();
        let default = value.eq_ignore_ascii_case("default");
        Ok(Statement::Set { name, value: (!default).then_some(value) })
    }

    /// Any isolation is as good as another where each statement reads one snapshot, but writing there is not.
    fn set_transaction(&mut self) -> Result<Statement, Failure> {
        while let Some(word) = self.peek_word() {
            self.next += 1;
            if word == "write" {
                return Err(Failure::refused("READ WRITE"));
            }
        }
        Ok(Statement::SetNothing)
    }

    fn declare(&mut self) -> Result<Statement, Failure> {
        let name = self.name()?;
        self.skip(&["binary", "asensitive", "insensitive", "no", "scroll"]);
        self.expect("cursor")?;
        let hold = self.peek_word().as_deref() == Some("with");
        self.skip(&["with", "without", "hold"]);
        self.expect("for")?;
        let Some(start) = self.tokens.get(self.next).map(|token| token.span.start) else {
            return Err(Failure::new(state::SYNTAX, "DECLARE: expected a query behind FOR".into()));
        };
        let query = self.text.get(Places::new(self.text).offset(start)..).unwrap_or_default();
        match read(query)? {
            Statement::Query(query) => Ok(Statement::Declare { name, hold, query }),
            _ => Err(Failure::new(state::SYNTAX, "DECLARE: expected a query behind FOR".into())),
        }
    }

    fn fetch(&mut self) -> Result<(String, Option<usize>), Failure> {
        self.skip(&["forward", "relative"]);
        let backward =
            || Failure::new(state::NOT_SUPPORTED, "a cursor of Twofold goes forward only".to_string());
        let rows = match (self.peek().cloned(), self.peek_word().as_deref()) {
            (Some(Token::Number(digits, _)), _) => {
                self.next += 1;
                Some(digits.parse().map_err(|_| backward())?)
            }
            (Some(Token::Minus), _) => return Err(backward()),
            (_, Some("all")) => {
                self.next += 1;
                None
            }
            (_, Some("next")) => {
                self.next += 1;
                Some(1)
            }
            (_, Some("prior" | "first" | "last" | "absolute" | "backward")) => return Err(backward()),
            _ => Some(1),
        };
        self.skip(&["from", "in"]);
        Ok((self.name()?, rows))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|token| &token.token)
    }

    /// The next token as a word in lower case, if it is one without quotes.
    fn peek_word(&self) -> Option<String> {
        match self.peek() {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
            _ => None,
        }
    }

    fn found(&self) -> String {
        self.peek().map_or("nothing".into(), ToString::to_string)
    }

    fn skip(&mut self, words: &[&str]) {
        while self.peek_word().is_some_and(|word| words.contains(&word.as_str())) {
            self.next += 1;
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), Failure> {
        if self.peek_word().as_deref() != Some(word) {
            let (word, found) = (word.to_uppercase(), self.found());
            return Err(Failure::new(state::SYNTAX, format!("expected {word}, found {found}")));
        }
        self.next += 1;
        Ok(())
    }

    /// A name as SQL reads it; with a point in it for a custom setting.
    fn name(&mut self) -> Result<String, Failure> {
        let mut name = String::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) if word.quote_style.is_none() => {
                    name.push_str(&word.value.to_lowercase())
                }
                Some(Token::Word(word)) => name.push_str(&word.value),
                _ => {
                    return Err(Failure::new(
                        state::SYNTAX,
                        format!("expected a name, found {}", self.found()),
                    ));
                }
            }
            self.next += 1;
            if self.peek() != Some(&Token::Period) {
                return Ok(name);
            }
            name.push('.');
            self.next += 1;
        }
    }

    fn name_or_all(&mut self) -> Result<Option<String>, Failure> {
        if self.peek_word().as_deref() == Some("all") {
            return Ok(None);
        }
        self.name().map(Some)
    }

    fn rest_as_name(&mut self) -> String {
        let words = self.tokens.iter().skip(self.next).map(|token| match &token.token {
            Token::Word(word) => word.value.to_lowercase(),
            other => other.to_string(),
        });
        words.collect::<Vec<_>>().join(" ").replace(" . ", ".")
    }

    /// What stands on the right of `SET`: texts without their quotes, several with commas.
    fn values(&mut self) -> String {
        let mut value = String::new();
        for token in self.tokens.iter().skip(self.next) {
            match &token.token {
                Token::Word(word) => value.push_str(&word.value),
                Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => value.push_str(text),
                Token::Comma => value.push_str(", "),
                other => value.push_str(&other.to_string()),
            }
        }
        value
    }
}

/// What would change something is told where to do that; all else is a mistake.
fn refused(word: &str) -> Failure {
    const CHANGES: &[&str] = &[
        "insert",
        "update",
        "delete",
        "merge",
        "truncate",
        "create",
        "drop",
        "alter",
        "copy",
        "grant",
        "revoke",
        "comment",
        "vacuum",
        "analyze",
        "reindex",
        "cluster",
        "refresh",
        "call",
        "do",
        "lock",
        "import",
        "load",
        "listen",
        "notify",
        "prepare",
        "execute",
        "checkpoint",
        "security",
        "reassign",
        "upsert",
        "replace",
    ];
    if CHANGES.contains(&word) {
        return Failure::refused(&word.to_uppercase());
    }
    Failure::new(state::SYNTAX, format!("expected a statement, found {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Statement {
        read(text).unwrap()
    }

    #[test]
    fn a_text_is_split_where_statements_end() {
        let text = "select ';', \"a;b\" -- ; ä\n from x ; ; /* ; */ begin;select 'ü;'";
        let parts = ["select ';', \"a;b\" -- ; ä\n from x ", "begin", "select 'ü;'"];
        assert_eq!(split(text).unwrap(), parts);
        assert_eq!(split(" ;; -- nothing\n").unwrap(), Vec::<&str>::new());
        assert_eq!(split("select 'open").unwrap_err().code(), state::SYNTAX);
    }

    #[test]
    fn what_the_wire_must_understand_is_read() {
        let set = |name: &str, value: &str| Statement::Set { name: name.into(), value: Some(value.into()) };
        assert_eq!(read_one("SET client_encoding TO 'UTF8'"), set("client_encoding", "UTF8"));
        assert_eq!(read_one("set session DateStyle = ISO, MDY"), set("datestyle", "ISO, MDY"));
        assert_eq!(read_one("SET TIME ZONE 'UTC'"), set("timezone", "UTC"));
        assert_eq!(read_one("set x to default"), Statement::Set { name: "x".into(), value: None });
        assert_eq!(
            read_one("SHOW transaction isolation level"),
            Statement::Show("transaction isolation level".into())
        );
        assert_eq!(read_one("START TRANSACTION READ ONLY"), Statement::Begin);
        assert_eq!(read_one("rollback to savepoint a"), Statement::Savepoint("ROLLBACK"));
        assert_eq!(read_one("DEALLOCATE ALL"), Statement::Deallocate(None));
        assert_eq!(read_one("DEALLOCATE PREPARE \"S_1\""), Statement::Deallocate(Some("S_1".into())));
        let declared = Statement::Declare { name: "c".into(), hold: true, query: "SELECT 'ä'".into() };
        assert_eq!(read_one("DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 'ä'"), declared);
        assert_eq!(read_one("FETCH FORWARD 7 FROM c"), Statement::Fetch { name: "c".into(), rows: Some(7) });
        assert_eq!(read_one("fetch all in \"C\""), Statement::Fetch { name: "C".into(), rows: None });
        assert!(matches!(read_one("(select 1)"), Statement::Query(_)));
        assert!(matches!(read_one("show tables"), Statement::Query(_)));
    }

    #[test]
    fn what_changes_something_is_refused_and_nonsense_is_a_mistake() {
        for text in ["INSERT INTO x VALUES (1)", "copy x to stdout", "set role admin", "BEGIN; drop table x"]
        {
            let code = split(text).unwrap().into_iter().find_map(|one| read(one).err()).map(|e| e.code());
            assert_eq!(code, Some(state::READ_ONLY), "{text}");
        }
        assert_eq!(
            read("set session characteristics as transaction read write").unwrap_err().code(),
            state::READ_ONLY
        );
        assert_eq!(read("selct 1").unwrap_err().code(), state::SYNTAX);
        assert_eq!(read("fetch backward 1 from c").unwrap_err().code(), state::NOT_SUPPORTED);
    }
}
