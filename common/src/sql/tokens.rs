//! Exchanges the tokens of window functions that the SQL parser has no grammar for.
//!
//! ```text
//! TUMBLE(TABLE bids, DESCRIPTOR(ts), …)                         TUMBLE(bids, DESCRIPTOR(ts), …)
//! SESSION(TABLE bids PARTITION BY (a, b), DESCRIPTOR(ts), …)    SESSION(bids, PARTITION_BY(a, b), DESCRIPTOR(ts), …)
//! ```
//!
//! The result is itself a spelling that is understood. A token that is put in has the place of the one it
//! stands for.

use super::words::{PARTITION_BY, WINDOWS};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// `tokens` with those of window functions exchanged; all others are as they were.
pub(crate) fn exchange(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let exchange = Exchange { out: Vec::with_capacity(tokens.len()), calls: Vec::new() };
    exchange.run(&tokens)
}

/// A parenthesis that is open.
struct Open {
    /// Whether it holds the arguments of a window function.
    window: bool,
    /// Whether the next token begins an argument.
    begins: bool,
    /// Whether a partition column without parentheses is to be closed.
    partition: bool,
}

struct Exchange {
    out: Vec<TokenWithSpan>,
    calls: Vec<Open>,
}

impl Exchange {
    fn run(mut self, tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
        let mut i = 0;
        while let Some(token) = tokens.get(i) {
            i = if matches!(token.token, Token::Whitespace(_)) {
                self.out.push(token.clone());
                i + 1
            } else {
                self.token(tokens, i)
            };
        }
        self.out
    }

    /// Takes the token at `i`, and gives the position of the next one to take.
    fn token(&mut self, tokens: &[TokenWithSpan], i: usize) -> usize {
        let token = &tokens[i];
        let in_window = self.calls.last().is_some_and(|open| open.window);
        let begins = self.calls.last().is_some_and(|open| open.window && open.begins);
        if let Some(open) = self.calls.last_mut() {
            open.begins = matches!(token.token, Token::Comma | Token::RArrow | Token::Assignment);
        }
        match &token.token {
            Token::LParen => {
                let window = self.follows_window_name();
                self.calls.push(Open { window, begins: window, partition: false });
            }
            Token::Comma | Token::RParen => {
                if self.calls.last_mut().is_some_and(|open| std::mem::take(&mut open.partition)) {
                    self.put(token, Token::RParen);
                }
                if token.token == Token::RParen {
                    self.calls.pop();
                }
            }
            Token::Word(word) if begins && word.keyword == Keyword::TABLE => {
                if let Some((_, Token::Word(_))) = next(tokens, i) {
                    return i + 1;
                }
            }
            Token::Word(word) if in_window && word.keyword == Keyword::PARTITION => {
                if let Some((by, Token::Word(word))) = next(tokens, i)
                    && word.keyword == Keyword::BY
                {
                    return self.partition_by(tokens, i, by);
                }
            }
            _ => {}
        }
        self.out.push(token.clone());
        i + 1
    }

    /// `, PARTITION_BY(` for `PARTITION BY (` or `PARTITION BY`.
    fn partition_by(&mut self, tokens: &[TokenWithSpan], i: usize, by: usize) -> usize {
        self.put(&tokens[i], Token::Comma);
        self.put(&tokens[i], Token::make_word(PARTITION_BY, None));
        if let Some((_, Token::LParen)) = next(tokens, by) {
            return by + 1;
        }
        self.put(&tokens[by], Token::LParen);
        if let Some(open) = self.calls.last_mut() {
            open.partition = true;
        }
        by + 1
    }

    fn put(&mut self, at: &TokenWithSpan, token: Token) {
        self.out.push(TokenWithSpan::new(token, at.span));
    }

    fn follows_window_name(&self) -> bool {
        let before = self.out.iter().rev().find(|t| !matches!(t.token, Token::Whitespace(_)));
        matches!(before.map(|t| &t.token), Some(Token::Word(Word { value, quote_style: None, .. }))
            if WINDOWS.iter().any(|name| value.eq_ignore_ascii_case(name)))
    }
}

/// The next token after `i` that is no white space.
fn next(tokens: &[TokenWithSpan], i: usize) -> Option<(usize, &Token)> {
    let after = tokens.iter().enumerate().skip(i + 1);
    after.map(|(i, t)| (i, &t.token)).find(|(_, token)| !matches!(token, Token::Whitespace(_)))
}
