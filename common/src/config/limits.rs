//! `[limits]`: what queries may take.

use super::{A_SIZE, Section};
use crate::error::Result;
use crate::memory;
use std::time::Duration;

pub(super) const KEYS: &[&str] = &[
    "query_timeout",
    "query_memory",
    "max_rows",
    "queries",
    "queries_waiting",
    "token_queries",
    "token_memory",
];

/// `[limits]`: what one query, and the queries of one token, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// `query_timeout`: how long a query may take, its wait for its turn included. Default 1 minute.
    pub query_timeout: Duration,
    /// `query_memory`: how many bytes a query's operators and its rows may take. Default 1 GiB.
    pub query_memory: u64,
    /// `max_rows`: how many rows an answer may have. Default 1,000,000.
    pub max_rows: u64,
    /// `queries`: how many queries run at once. Default 64.
    pub queries: usize,
    /// `queries_waiting`: how many more wait for their turn; the next are refused. Default 256.
    pub queries_waiting: usize,
    /// `token_queries`: how many queries of one token run or wait at once. Default 32.
    pub token_queries: usize,
    /// `token_memory`: how many bytes the queries of one token may take together. Default 2 GiB.
    pub token_memory: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            query_timeout: Duration::from_secs(60),
            query_memory: 1 << 30,
            max_rows: 1_000_000,
            queries: 64,
            queries_waiting: 256,
            token_queries: 32,
            token_memory: 2 << 30,
        }
    }
}

pub(super) fn read(section: &Section<'_>, default: LimitsConfig) -> Result<LimitsConfig> {
    let size = |key| section.text(key, A_SIZE, memory::parse);
    Ok(LimitsConfig {
        query_timeout: section.duration("query_timeout")?.unwrap_or(default.query_timeout),
        query_memory: size("query_memory")?.unwrap_or(default.query_memory),
        max_rows: section.count("max_rows")?.unwrap_or(default.max_rows),
        queries: section.count("queries")?.unwrap_or(default.queries),
        queries_waiting: section.count("queries_waiting")?.unwrap_or(default.queries_waiting),
        token_queries: section.count("token_queries")?.unwrap_or(default.token_queries),
        token_memory: size("token_memory")?.unwrap_or(default.token_memory),
    })
}
