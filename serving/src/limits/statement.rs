//! How deep a statement may be.
//!
//! Planner and optimizer walk a query as a tree, and some of them recurse. The parser bounds what nests in brackets, but
//! what is joined, united or computed in one line grows a tree as well: 1,200 selects united were more than a stack of
//! 16 MiB holds, and that ends the process; and 2,400 sums in a row took half a minute to plan, in which nothing can stop it.
//! So what makes the tree deeper is counted, in the words of the statement. Lists of values and of columns do not.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use twofold_common::{Error, Result};

/// How many queries a statement may be made of: those united, and those in brackets.
const SELECTS: usize = 100;
/// How many relations it may read, with each time that it reads one counted.
const RELATIONS: usize = 100;
/// How many operators it may have.
const OPERATORS: usize = 500;
/// How often it may say EXPLAIN.
const EXPLAINS: usize = 2;

/// Operators that are words.
const WORDS: &[&str] = &[
    "AND", "OR", "XOR", "NOT", "IS", "ISNULL", "NOTNULL", "LIKE", "ILIKE", "RLIKE", "REGEXP", "SIMILAR",
    "BETWEEN", "OVERLAPS", "COLLATE", "AT", "DIV",
];
/// What ends the list of relations after FROM.
const CLAUSES: &[&str] =
    &["WHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "FETCH"];

#[derive(Debug, Default)]
struct Counts {
    selects: usize,
    relations: usize,
    operators: usize,
    explains: usize,
}

/// Refuses a statement that would be too deep.
///
/// # Errors
/// `Invalid`, saying of what it has too much.
pub(super) fn check(sql: &str) -> Result<()> {
    // What is no statement at all is told by the parser.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let Counts { selects, relations, operators, explains } = counts(&tokens);
    for (found, most, what) in [
        (selects, SELECTS, "queries united or in brackets"),
        (relations, RELATIONS, "relations to read"),
        (operators, OPERATORS, "operators"),
        (explains, EXPLAINS, "times EXPLAIN"),
    ] {
        if found > most {
            return Err(Error::Invalid(format!(
                "the statement has {found} {what}, and {most} are the most: ask in several statements, or put lists of \
                 values into IN (…)"
            )));
        }
    }
    Ok(())
}

fn counts(tokens: &[Token]) -> Counts {
    let mut counts = Counts::default();
    // For each open bracket, whether a list of relations is being read there.
    let mut from = vec![false];
    for token in tokens {
        let word = match token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            Token::LParen => {
                from.push(false);
                continue;
            }
            Token::RParen => {
                from.truncate(from.len().saturating_sub(1).max(1));
                continue;
            }
            Token::Comma => {
                counts.relations += usize::from(from.last() == Some(&true));
                continue;
            }
            token => {
                counts.operators += usize::from(is_sign(token));
                continue;
            }
        };
        let in_list = from.last_mut();
        match word.as_str() {
            "SELECT" | "VALUES" => {
                counts.selects += 1;
                in_list.into_iter().for_each(|list| *list = false);
            }
            "EXPLAIN" | "DESCRIBE" => counts.explains += 1,
            "FROM" | "JOIN" => {
                counts.relations += 1;
                in_list.into_iter().for_each(|list| *list = true);
            }
            word if CLAUSES.contains(&word) => in_list.into_iter().for_each(|list| *list = false),
            word => counts.operators += usize::from(WORDS.contains(&word)),
        }
    }
    counts
}

fn is_sign(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_)
            | Token::Word(_)
            | Token::Period
            | Token::SemiColon
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::RBracket
            | Token::EOF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_statement_deep_is_counted() {
        let sql = "EXPLAIN SELECT a.x, b.y FROM a, (SELECT 1, 2 FROM c, d WHERE c.x IN (1, 2)) e, b JOIN f USING (x, y) \
                   WHERE a.x = 1 AND NOT a.y + 1 > 2 UNION ALL VALUES (1, 2), (3, 4)";
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap();
        let Counts { selects, relations, operators, explains } = counts(&tokens);
        assert_eq!((selects, relations, operators, explains), (3, 6, 5, 1));
    }

    #[test]
    fn long_is_not_deep() {
        let list = |n: usize, what: &str| vec![what; n].join(", ");
        for sql in [
            format!("SELECT {} FROM t WHERE x IN ({})", list(1_500, "t.x"), list(100_000, "1")),
            format!("VALUES {}", list(20_000, "(1, 'x')")),
            format!("SELECT 1{}", " OR x = 1".repeat(250)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(99)),
            format!("SELECT 1 FROM t{}", ", t".repeat(99)),
        ] {
            assert!(check(&sql).is_ok(), "{:.60}", sql);
        }
        for (sql, what) in [
            (format!("SELECT 1{}", " OR x = 1".repeat(251)), "502 operators"),
            (format!("SELECT 1{}", "+1".repeat(501)), "501 operators"),
            (format!("SELECT x{}", "[1]".repeat(501)), "501 operators"),
            (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(100)), "101 queries"),
            (format!("SELECT 1 FROM t{}", ", t".repeat(100)), "101 relations"),
            (format!("SELECT 1 FROM t{}", " JOIN t".repeat(100)), "101 relations"),
            ("EXPLAIN ".repeat(3), "3 times EXPLAIN"),
        ] {
            let e = check(&sql).unwrap_err().to_string();
            assert!(e.contains(what), "{e}");
        }
    }
}
