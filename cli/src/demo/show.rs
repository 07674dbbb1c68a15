//! What the demo prints.

use super::feed::Feed;
use crate::coverage::coverage_lines;
use crate::format::{Output, render};
use crate::text::{count, duration};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;
use twofold_serving::Rows;

/// Rows as a table.
pub(super) fn rows(rows: &Rows) -> Result<String> {
    Ok(String::from_utf8(render(rows, Output::Table)?)?)
}

/// Rows as a table, and below it what they are made of.
pub(super) fn answer(answer: &Rows) -> Result<String> {
    Ok(rows(answer)? + "\n" + &coverage_lines(&answer.coverage))
}

/// What was measured, and how.
pub(super) fn measures(feed: &Feed<'_>, full_batch: Duration, query: Duration) -> String {
    let (sent, spent) = (feed.sent(), feed.spent());
    let rate = sent as f64 / spent.as_secs_f64().max(1e-9);
    let measures = [
        ("ingest", format!("{} rows/s", count(rate as u64)), {
            format!("{} flights in {}, over HTTP and durable", count(sent), duration(spent))
        }),
        ("full batch", duration(full_batch), format!("all views over {} flights, from raw", count(sent))),
        ("query", duration(query), "median, over HTTP".to_string()),
    ];
    let lines: Vec<String> =
        measures.iter().map(|(name, value, how)| format!("{name:<12}{value:>16}   {how}\n")).collect();
    format!("\n{}\n", lines.concat())
}

/// How to go on with a server that is left running.
pub(super) fn kept(url: &str, project: &Path, sql: &str) -> String {
    let project = project.display();
    format!(
        "\nthe server is left running at {url}; try\n  twofold -p {project} query '{sql}'\n  \
         twofold -p {project} status\n  curl -d '{{\"sql\": \"SELECT * FROM punctuality\"}}' {url}/v1/sql\n\
         Ctrl-C ends it and removes the project\n"
    )
}
