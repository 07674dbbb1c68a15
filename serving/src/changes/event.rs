//! Server-Sent Events, as `text/event-stream` has them.
//!
//! ```text
//! event: rows      data: {"key", "columns", "rows", "coverage", "watermark"}
//! event: changes   data: {"changed", "removed", "coverage", "watermark"}
//! event: failure   data: problem details
//! ```

use super::content::{Content, Difference};
use crate::encode::{Format, PREVIOUS};
use bytes::Bytes;
use serde_json::json;
use std::fmt::Write;
use twofold_common::{Error, Result, rfc3339, wire};

/// What is sent when nothing else is, so that both ends see that the other is there.
pub(super) const HEARTBEAT: &[u8] = b": still here\n\n";

/// All rows.
pub(super) fn rows(generation: u64, content: &Content) -> Result<Bytes> {
    let answer = content.rows.encode(Format::Json)?;
    let answer = std::str::from_utf8(&answer).map_err(|e| Error::Internal(e.to_string()))?;
    let rest = answer.trim_end().strip_prefix('{').unwrap_or_default();
    Ok(event("rows", generation, &format!("{{\"key\":{},{rest}", json!(content.key_names()))))
}

/// What has changed up to `content`.
pub(super) fn changes(generation: u64, step: &Difference, content: &Content) -> Result<Bytes> {
    let rows = &content.rows;
    let list = |lines: &mut dyn Iterator<Item = &str>| lines.collect::<Vec<_>>().join(",");
    let changed = list(&mut step.changed.iter().map(|(_, row)| row.as_ref()));
    let removed = list(&mut step.removed.iter().map(AsRef::as_ref));
    let (coverage, watermark) = (rows.coverage_json()?, json!(rows.watermark().map(rfc3339)));
    let mut data = format!(
        "{{\"changed\":[{changed}],\"removed\":[{removed}],\"coverage\":{coverage},\"watermark\":{watermark}"
    );
    if rows.previous {
        let _ = write!(data, ",\"version\":\"{PREVIOUS}\"");
    }
    data.push('}');
    Ok(event("changes", generation, &data))
}

/// Why there is nothing newer.
pub(super) fn failure(error: &Error) -> Bytes {
    let problem = wire::problem(wire::status(error.kind()), error);
    Bytes::from(format!("event: failure\ndata: {problem}\n\n"))
}

/// JSON has no line ends but between its tokens, and the writers here set none.
fn event(name: &str, generation: u64, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {generation}\ndata: {data}\n\n"))
}
