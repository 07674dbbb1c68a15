//! `twofold check`: validates a project, and tells what each view keeps, before it costs anything.
//!
//! It reads the project's files only: no store, no log. So it cannot say whether a stream that holds data was changed
//! in a way that is refused; the next start does.

use crate::args::CheckArgs;
use crate::text::{counted, print};
use anyhow::Result;
use datafusion::logical_expr::LogicalPlan;
use std::fmt::Write;
use std::path::Path;
use twofold_common::stream::REJECTED_SUFFIX;
use twofold_common::{Catalog, Cut, CutKind, Deduplicate, Functions, Project, StreamDef, Table, View};

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &CheckArgs) -> Result<()> {
    let project = Project::load_with(dir, functions)?;
    let catalog = Catalog::with_functions(&project, functions).await?;
    print(describe(&catalog, args.explain))
}

/// The project in words.
fn describe(catalog: &Catalog, explain: bool) -> String {
    let mut text = String::new();
    let declared = || catalog.streams().values().filter(|stream| !stream.name.ends_with(REJECTED_SUFFIX));
    for stream in declared() {
        text += &describe_stream(stream);
    }
    for (name, table) in catalog.tables() {
        text += &describe_table(name, table);
    }
    for view in catalog.views().values() {
        text += &describe_view(view, explain);
    }
    for (name, sql) in catalog.query_views() {
        let _ = writeln!(text, "view {name}\n  computed when it is asked for: {sql}\n");
    }
    let _ = writeln!(
        text,
        "good: {}, {}, {}, {}",
        counted(declared().count() as u64, "stream"),
        counted(catalog.tables().len() as u64, "table"),
        counted(catalog.views().len() as u64, "maintained view"),
        counted(catalog.query_views().len() as u64, "other view"),
    );
    text
}

fn describe_stream(stream: &StreamDef) -> String {
    let by = stream.partition_by.as_ref().map(|column| format!(" by {column}")).unwrap_or_default();
    let mut text =
        format!("stream {}\n  {}{by}\n", stream.name, counted(stream.partitions.into(), "partition"));
    let _ = writeln!(text, "  columns: {}", columns(&stream.schema));
    if let Some(Deduplicate { column, within }) = &stream.deduplicate {
        let _ = writeln!(text, "  events whose {column} came within {within:?} are left out");
    }
    if let Some(watermark) = &stream.watermark {
        let _ = writeln!(text, "  watermark: {}", watermark.expression);
        if let Some(timeout) = watermark.idle_timeout {
            let _ = writeln!(text, "  a partition is idle after {timeout:?} without events");
        }
    }
    text + "\n"
}

fn describe_table(name: &str, table: &Table) -> String {
    let rows = counted(table.num_rows() as u64, "row");
    let path = table.def.path.file_name().unwrap_or_default().to_string_lossy();
    format!("table {name}\n  {rows} from {path}\n  columns: {}\n\n", columns(&table.def.schema))
}

fn describe_view(view: &View, explain: bool) -> String {
    let mut text =
        format!("materialized view {}\n  fingerprint: {}\n", view.name(), view.fingerprint().short());
    let _ = writeln!(text, "  columns: {}", columns(&view.schema()));
    for (i, cut) in view.cuts().iter().enumerate() {
        text += &describe_cut(i, cut);
    }
    for note in view.notes() {
        let _ = writeln!(text, "  note: {note}");
    }
    if explain {
        for (i, cut) in view.cuts().iter().enumerate() {
            text += &plan(&format!("fold of cut {i}"), cut.fold_plan());
            if let CutKind::Aggregate { merge, .. } = cut.kind() {
                text += &plan(&format!("merge of cut {i}"), merge);
            }
        }
        text += &plan("finish", view.finish_plan());
    }
    text + "\n"
}

fn describe_cut(i: usize, cut: &Cut) -> String {
    let streams = cut.streams().join(", ");
    let meanings = cut.meanings();
    let (keys, rest) = meanings.split_at(cut.keys().min(meanings.len()));
    match cut.kind() {
        CutKind::Aggregate { .. } => {
            let per =
                if keys.is_empty() { "one row".into() } else { format!("one row per {}", keys.join(", ")) };
            let what = if rest.is_empty() { String::new() } else { format!(": {}", rest.join(", ")) };
            format!("  cut {i}: an aggregate over {streams}, {per}{what}\n")
        }
        _ => format!("  cut {i}: keeps one row per event of {streams}: {}\n", rest.join(", ")),
    }
}

fn columns(schema: &arrow::datatypes::Schema) -> String {
    let column = |f: &arrow::datatypes::FieldRef| {
        format!(
            "{} {}{}",
            f.name(),
            twofold_common::sql_type(f.data_type()),
            if f.is_nullable() { "" } else { " NOT NULL" }
        )
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

fn plan(title: &str, plan: &LogicalPlan) -> String {
    let lines = plan.display_indent().to_string();
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}")).collect();
    format!("  {title}:\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "
        CREATE STREAM flights (at TIMESTAMP NOT NULL, carrier TEXT NOT NULL, delay BIGINT,
          WATERMARK FOR at AS at - INTERVAL '1 hour') WITH (partitions = 2, partition_by = 'carrier');
        CREATE TABLE airlines (carrier TEXT, name TEXT) WITH (path = 'airlines.csv');
        CREATE MATERIALIZED VIEW delays AS SELECT a.name, count(*) AS flights, max(f.delay) AS worst
          FROM flights f JOIN airlines a USING (carrier) WHERE f.delay IS NOT NULL GROUP BY a.name;
        CREATE MATERIALIZED VIEW late AS SELECT at, carrier FROM flights WHERE delay > 600;
        CREATE VIEW worst AS SELECT name FROM delays ORDER BY worst DESC LIMIT 1;
    ";

    async fn described(explain: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in
            [("twofold.toml", ""), ("a.sql", PROJECT), ("airlines.csv", "carrier,name\nUA,United\n")]
        {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let project = Project::load(dir.path()).unwrap();
        describe(&Catalog::new(&project).await.unwrap(), explain)
    }

    #[tokio::test]
    async fn a_project_is_told_in_words() {
        let text = described(false).await;
        // A fingerprint changes with every version of the functions.
        let lines = text.lines().filter(|line| !line.starts_with("  fingerprint: "));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
        stream flights
          2 partitions by carrier
          columns: at TIMESTAMP NOT NULL, carrier TEXT NOT NULL, delay BIGINT
          watermark: at - INTERVAL '1 hour'

        table airlines
          1 row from airlines.csv
          columns: carrier TEXT, name TEXT

        materialized view delays
          columns: name TEXT, flights BIGINT NOT NULL, worst BIGINT
          cut 0: an aggregate over flights, one row per a.name: count(*), max(f.delay)

        materialized view late
          columns: at TIMESTAMP NOT NULL, carrier TEXT NOT NULL
          cut 0: keeps one row per event of flights: at, carrier

        view worst
          computed when it is asked for: SELECT name FROM delays ORDER BY worst DESC LIMIT 1

        good: 1 stream, 1 table, 2 maintained views, 1 other view
        "#);
    }

    #[tokio::test]
    async fn explain_shows_the_three_functions() {
        let text = described(true).await;
        for expected in ["fold of cut 0:", "merge of cut 0:", "finish:", "count_state"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
