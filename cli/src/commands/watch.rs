//! `twofold watch`: the rows of a view, and then what changes of them, until a signal.
//!
//! When the server goes, it waits until one is there again, and begins with the rows.

use crate::args::{WatchArgs, WatchOutput};
use crate::node::server;
use crate::server_events::{ServerEvent, ServerEvents};
use crate::text::{columns, counted, print_on};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use twofold_common::{Kind, wire};

/// How long to wait before looking for the server again.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(dir: &Path, args: &WatchArgs) -> Result<()> {
    let Some(client) = server(dir).await? else {
        bail!(
            "no server of this project is running: start `twofold up`, or `twofold serve` beside a speed layer"
        );
    };
    let mut events = client.watch(&args.view, &args.conditions).await?;
    let mut left = args.events.unwrap_or(u64::MAX);
    let mut shown = Shown { format: args.format, names: Vec::new() };
    while left > 0 {
        let Some(event) = events.next().await else {
            eprintln!("note: the server has gone; waiting until it is there again");
            events = again(dir, args).await?;
            continue;
        };
        if event.name == "failure" {
            failed(&event)?;
            continue;
        }
        if !print_on(shown.event(&event)?)? {
            return Ok(());
        }
        left -= 1;
    }
    Ok(())
}

/// Waits until a server answers again.
async fn again(dir: &Path, args: &WatchArgs) -> Result<ServerEvents> {
    loop {
        tokio::time::sleep(AGAIN).await;
        let Some(client) = server(dir).await? else { continue };
        match client.watch(&args.view, &args.conditions).await {
            Ok(events) => return Ok(events),
            Err(e) if is_final(&e) => return Err(e),
            Err(_) => {}
        }
    }
}

fn is_final(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<twofold_common::Error>().map(twofold_common::Error::kind);
    matches!(kind, Some(Kind::Invalid | Kind::NotFound))
}

/// Says that there is nothing newer; fails if there never will be.
fn failed(event: &ServerEvent) -> Result<()> {
    let error = wire::error_from(500, event.data.as_bytes()).into();
    if is_final(&error) {
        return Err(error);
    }
    eprintln!("note: {error}");
    Ok(())
}

/// What is shown of the events.
struct Shown {
    format: WatchOutput,
    /// The names of the columns, in their order.
    names: Vec<String>,
}

impl Shown {
    fn event(&mut self, event: &ServerEvent) -> Result<String> {
        let ServerEvent { name, data } = event;
        if self.format == WatchOutput::Json {
            let rest = data.strip_prefix('{').context("an event of the server")?;
            return Ok(format!("{{\"event\":\"{name}\",{rest}\n"));
        }
        let data: Value = serde_json::from_str(data).context("an event of the server")?;
        if name != "rows" {
            return Ok(self.lines(&data));
        }
        let names = list(&data, "columns").iter().filter_map(|column| column["name"].as_str());
        self.names = names.map(str::to_string).collect();
        Ok(self.table(&data))
    }

    fn table(&self, data: &Value) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let rows = list(data, "rows").iter();
        let rows: Vec<Vec<String>> = rows.map(|row| names.iter().map(|n| text(&row[n])).collect()).collect();
        format!("{}{}; what changes follows\n", columns(&names, &rows), counted(rows.len() as u64, "row"))
    }

    fn lines(&self, data: &Value) -> String {
        let mut lines = String::new();
        for (sign, name) in [("-", "removed"), ("+", "changed")] {
            for row in list(data, name) {
                let members = self.names.iter().filter_map(|name| Some((name, row.get(name)?)));
                let members: Vec<String> =
                    members.map(|(name, value)| format!("{name}={}", text(value))).collect();
                let _ = writeln!(lines, "{sign} {}", members.join(", "));
            }
        }
        lines
    }
}

fn list<'a>(data: &'a Value, name: &str) -> &'a [Value] {
    data[name].as_array().map_or(&[], Vec::as_slice)
}

/// A value as people read it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> ServerEvent {
        ServerEvent { name: name.into(), data: data.into() }
    }

    #[test]
    fn people_see_rows_and_then_what_came_and_went() {
        let mut shown = Shown { format: WatchOutput::Text, names: Vec::new() };
        let rows = event(
            "rows",
            r#"{"key":["page"],"columns":[{"name":"page","type":"TEXT"},{"name":"clicks","type":"BIGINT"}],
                "rows":[{"page":"/home","clicks":3},{"page":null,"clicks":1}],"coverage":[],"watermark":null}"#,
        );
        insta::assert_snapshot!(shown.event(&rows).unwrap(), @r"
        page   clicks
        /home  3
        NULL   1
        2 rows; what changes follows
        ");
        let changes = event("changes", r#"{"changed":[{"page":"/a","clicks":4}],"removed":[{"page":"/b"}]}"#);
        insta::assert_snapshot!(shown.event(&changes).unwrap(), @r"
        - page=/b
        + page=/a, clicks=4
        ");
    }

    #[test]
    fn programs_get_a_line_for_each_event() {
        let mut shown = Shown { format: WatchOutput::Json, names: Vec::new() };
        let line = shown.event(&event("changes", r#"{"changed":[],"removed":[]}"#)).unwrap();
        assert_eq!(line, "{\"event\":\"changes\",\"changed\":[],\"removed\":[]}\n");
    }

    #[test]
    fn a_failure_ends_it_only_if_it_stays() {
        assert!(failed(&event("failure", r#"{"error":"later","kind":"unavailable"}"#)).is_ok());
        let gone = failed(&event("failure", r#"{"error":"there is no view v","kind":"not_found"}"#));
        assert_eq!(gone.unwrap_err().to_string(), "there is no view v");
    }
}
