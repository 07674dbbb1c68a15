//! How large a statement may be.
//!
//! Parser, planner and optimizer walk a statement as a tree, and a tree of a million steps in one line, such as
//! `1+1+1+…`, would take them past the end of the stack, which ends the process. The parser bounds what nests in
//! brackets; what grows without any (operators, joins, unions, casts) needs a word or a sign for each step, so these
//! are counted. Lists of values cost nothing here: `IN (1, 2, …)` and `VALUES` are as long as the bytes allow.

use crate::error::{Error, Result};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// How many bytes a statement may have.
pub(super) const BYTES: usize = 1 << 20;
/// How many words and signs, beside values, brackets and commas.
const STEPS: usize = 5_000;

/// Refuses a text that is too long to be looked at.
pub(super) fn check_bytes(sql: &str) -> Result<()> {
    if sql.len() <= BYTES {
        return Ok(());
    }
    Err(Error::Invalid(format!("the statement is longer than {} MiB: shorten it", BYTES >> 20)))
}

/// Refuses a statement of too many steps.
pub(super) fn check_steps(tokens: &[TokenWithSpan]) -> Result<()> {
    let steps = tokens.iter().filter(|token| is_step(&token.token)).count();
    if steps <= STEPS {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the statement has {steps} words and signs beside its values, and {STEPS} are the most: put long lists of values \
         into IN (…) or a table"
    )))
}

fn is_step(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_)
            | Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EOF
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use crate::sql::statement;

    fn refused(sql: &str) -> Option<String> {
        let state = engine::state(&engine::session());
        statement(sql, &state).err().map(|e| e.to_string())
    }

    #[test]
    fn long_lists_of_values_are_no_matter() {
        let list: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
        assert_eq!(refused(&format!("SELECT 1 WHERE 1 IN ({})", list.join(", "))), None);
        let rows: Vec<String> = (0..20_000).map(|n| format!("({n}, 'x')")).collect();
        assert_eq!(refused(&format!("VALUES {}", rows.join(","))), None);
    }

    #[test]
    fn what_grows_without_brackets_is_bounded() {
        for step in ["+1", "||'x'", "::int", "[1]", " OR true", " AND NOT false", ".a"] {
            let e = refused(&format!("SELECT a{}", step.repeat(STEPS))).unwrap();
            assert!(e.contains("words and signs"), "{step}: {e}");
        }
        let e = refused(&format!("SELECT 1 {}", " ".repeat(BYTES))).unwrap();
        assert!(e.contains("longer than 1 MiB"), "{e}");
    }
}
