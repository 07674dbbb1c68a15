use super::*;
use crate::stream::Watermark;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use std::sync::Arc;

const FLIGHTS: &str = "
CREATE STREAM flights (
  event_time TIMESTAMP NOT NULL, carrier TEXT NOT NULL, Dep_Delay BIGINT, \"Mixed\" DOUBLE NULL,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 hour'
) WITH (partitions = 2, partition_by = 'carrier');
";

fn one(sql: &str) -> Statement {
    let mut statements = parse("f.sql", sql).unwrap();
    assert_eq!(statements.len(), 1);
    statements.remove(0)
}

fn stream(sql: &str) -> StreamDef {
    match one(sql) {
        Statement::Stream(stream, _) => stream,
        other => panic!("{other:?}"),
    }
}

fn table(sql: &str) -> TableDecl {
    match one(sql) {
        Statement::Table(table) => table,
        other => panic!("{other:?}"),
    }
}

fn view(sql: &str) -> ViewDef {
    match one(sql) {
        Statement::View(view) => *view,
        other => panic!("{other:?}"),
    }
}

fn error(sql: &str) -> String {
    let message = parse("f.sql", sql).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Each text is refused with a message that holds the other.
fn refused(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let message = error(sql);
        assert!(message.contains(expected), "{sql}\n  {message}\n  does not say {expected}");
    }
}

#[test]
fn a_stream_has_its_columns_options_and_watermark() {
    let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let expected = StreamDef {
        name: "flights".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("event_time", timestamp, false),
            Field::new("carrier", DataType::Utf8, false),
            Field::new("dep_delay", DataType::Int64, true),
            Field::new("Mixed", DataType::Float64, true),
        ])),
        partitions: 2,
        partition_by: Some("carrier".into()),
        watermark: Some(Watermark {
            column: "event_time".into(),
            expression: "event_time - INTERVAL '1 hour'".into(),
            idle_timeout: None,
        }),
        deduplicate: None,
    };
    assert_eq!(stream(FLIGHTS), expected);
}

#[test]
fn a_stream_without_options_has_one_partition_and_no_watermark() {
    let stream = stream("create stream s (watermark int)");
    assert_eq!((stream.partitions, stream.partition_by, stream.watermark), (1, None, None));
}

#[test]
fn sql_types_are_the_arrow_types_of_datafusion() {
    let stream = stream(
        "CREATE STREAM s (a VARCHAR(5), b DECIMAL(10, 2), c BYTEA, d DATE, e BIGINT[], f TIMESTAMP(3))",
    );
    let types: Vec<_> = stream.schema.fields().iter().map(|f| f.data_type().clone()).collect();
    let expected = [
        DataType::Utf8,
        DataType::Decimal128(10, 2),
        DataType::Binary,
        DataType::Date32,
        DataType::new_list(DataType::Int64, true),
        DataType::Timestamp(TimeUnit::Millisecond, None),
    ];
    assert_eq!(types, expected);
}

#[test]
fn columns_that_cannot_be_are_refused() {
    refused(&[
        ("CREATE STREAM s ()", "f.sql:1:18: expected"),
        ("CREATE STREAM s (a INT, A TEXT)", "f.sql:1:25: column `a` is declared twice"),
        ("CREATE STREAM s (_offset INT)", "f.sql:1:18: column `_offset`: names that begin with `_`"),
        ("CREATE STREAM s (a INT PRIMARY KEY)", "column `a`: expected NULL or NOT NULL, found PRIMARY KEY"),
        ("CREATE STREAM s (a INT DEFAULT 5)", "column `a`: expected NULL or NOT NULL, found DEFAULT 5"),
        ("CREATE STREAM s (a INT NULL NOT NULL)", "column `a` is both NULL and NOT NULL"),
        ("CREATE STREAM s (a JSON)", "column `a`: Unsupported SQL type JSON"),
        ("CREATE STREAM s (a STRUCT<b INTERVAL>)", "column `a` is an INTERVAL: Parquet cannot hold it"),
        ("CREATE STREAM s (WATERMARK FOR a AS a)", "a stream needs at least one column"),
    ]);
}

#[test]
fn events_are_told_apart_by_a_column_for_a_bounded_time() {
    let by = |options: &str| stream(&format!("CREATE STREAM s (id TEXT, tags TEXT[]) WITH ({options})"));
    let found = by("deduplicate_by = 'id'").deduplicate.unwrap();
    assert_eq!((found.column.as_str(), found.within.as_secs()), ("id", 86_400));
    let found = by("deduplicate_by = 'id', deduplicate_within = '90 minutes'").deduplicate.unwrap();
    assert_eq!(found.within.as_secs(), 5400);
    assert_eq!(by("partitions = 2").deduplicate, None);
    let sql = |options: &str| format!("CREATE STREAM s (id TEXT, tags TEXT[])\nWITH ({options})");
    refused(&[
        (&sql("deduplicate_by = 'key'"), "option `deduplicate_by`: the stream has no column `key`"),
        (&sql("deduplicate_by = 'tags'"), "expected a column of single values"),
        (&sql("deduplicate_within = '1 day'"), "name the column of ids, `deduplicate_by`"),
        (&sql("deduplicate_by = 'id', deduplicate_within = '1 month'"), "expected an interval, as '1 day'"),
    ]);
}

#[test]
fn an_idle_timeout_is_an_interval_above_zero() {
    let sql = |timeout: &str| {
        format!("CREATE STREAM s (t TIMESTAMP, WATERMARK FOR t AS t)\nWITH (idle_timeout = {timeout})")
    };
    let timeout = |text: &str| stream(&sql(text)).watermark.unwrap().idle_timeout.unwrap().as_secs_f64();
    assert_eq!(timeout("'1 minute'"), 60.0);
    assert_eq!(timeout("'1 day 0.5 seconds'"), 86_400.5);
    for wrong in ["'0 s'", "'-1 minute'", "'1 month'", "'soon'", "60"] {
        let message = error(&sql(wrong));
        assert!(message.contains("option `idle_timeout`: expected an interval, as '1 minute'"), "{message}");
    }
    let without = error("CREATE STREAM s (t TIMESTAMP)\nWITH (idle_timeout = '1 minute')");
    assert_eq!(
        without,
        "f.sql:2:7: option `idle_timeout`: the stream has no WATERMARK that a partition could hold back"
    );
}

#[test]
fn options_that_cannot_be_are_refused() {
    let with = |options: &str| error(&format!("CREATE STREAM s (a INT, b INT[])\nWITH ({options})"));
    assert_eq!(with("partition = 2"), "f.sql:2:7: unknown option `partition`; did you mean `partitions`?");
    assert!(
        with("partitions = 2, PARTITIONS = 3").contains("`partitions` is given twice, first at f.sql:2:7")
    );
    for wrong in ["0", "1025", "-1", "1.5", "'2'", "a"] {
        let message = with(&format!("partitions = {wrong}"));
        assert!(message.contains("expected a whole number from 1 to 1024, found"), "{message}");
    }
    assert!(with("partition_by = 'c'").contains("the stream has no column `c`"));
    assert!(with("partition_by = 'b'").contains("expected a column of single values"));
    assert!(with("partition_by = a").contains("expected the name of a column"));
}

#[test]
fn watermarks_that_cannot_be_are_refused() {
    let watermark = |clause: &str| error(&format!("CREATE STREAM s (t TIMESTAMP, n BIGINT,\n{clause})"));
    let cases = [
        ("WATERMARK FOR x AS x", "f.sql:2:15: WATERMARK FOR `x`: the stream has no such column"),
        ("WATERMARK FOR n AS n", "f.sql:2:15: WATERMARK FOR `n`: expected a TIMESTAMP, found Int64"),
        ("WATERMARK FOR t AS n", "the expression does not use `t`"),
        ("WATERMARK FOR t AS t - INTERVAL '1 hour' > t", "expected a TIMESTAMP, found Boolean"),
        ("WATERMARK FOR t AS t - other", "f.sql:2:20: WATERMARK FOR `t`: No field named other"),
        ("WATERMARK FOR t AS t - 'an hour'", "WATERMARK FOR `t`: "),
        ("WATERMARK FOR t AS nosuch(t)", "nosuch"),
        ("WATERMARK FOR t AS greatest(t, now())", "now() does not depend on the event alone"),
        (
            "WATERMARK FOR t AS t + random() * INTERVAL '1 hour'",
            "random() does not depend on the event alone",
        ),
        ("WATERMARK FOR t AS max(t)", "no aggregates"),
        ("WATERMARK FOR t AS t, WATERMARK FOR t AS t", "f.sql:2:23: a stream has one watermark"),
    ];
    for (clause, expected) in cases {
        let message = watermark(clause);
        assert!(message.contains(expected), "{clause}\n  {message}");
    }
}

#[test]
fn names_that_cannot_be_are_refused_for_streams_tables_and_views() {
    refused(&[
        (
            "CREATE STREAM _s (a INT)",
            "f.sql:1:15: `_s` cannot be the name of a stream: names that begin with `_`",
        ),
        ("CREATE VIEW s_rejected AS SELECT 1", "names that end in `_rejected` are reserved"),
        ("CREATE TABLE Twofold_x (a INT)", "names that begin with `twofold_` are reserved"),
        ("CREATE TABLE \"../etc\" WITH (path = 'x.csv')", "a name is ASCII letters, digits and `_`"),
        ("CREATE TABLE \"\" WITH (path = 'x.csv')", "a name is ASCII letters"),
        ("CREATE VIEW a.b AS SELECT 1", "a view's name has one part"),
        ("CREATE VIEW IF NOT EXISTS a AS SELECT 1", "IF NOT EXISTS is not needed"),
        ("CREATE OR REPLACE VIEW a AS SELECT 1", "OR REPLACE is not needed"),
    ]);
}

#[test]
fn a_table_guesses_its_format_by_the_name_of_the_file() {
    let format = |sql: &str| table(&format!("CREATE TABLE t WITH ({sql})")).format;
    assert_eq!(format("path = 'a.csv'"), TableFormat::Csv { header: true, delimiter: b',' });
    assert_eq!(format("path = 'a.PARQUET'"), TableFormat::Parquet);
    assert_eq!(format("path = 'a.ndjson'"), TableFormat::Ndjson);
    let tabs = format("path = 'a.txt', format = 'csv', header = false, delimiter = '\\t'");
    assert_eq!(tabs, TableFormat::Csv { header: false, delimiter: b'\t' });
}

#[test]
fn a_table_has_its_columns_if_they_are_declared() {
    assert_eq!(table("CREATE TABLE t WITH (path = 'a.csv')").columns, None);
    let declared = table("CREATE TABLE t (a INT NOT NULL) WITH (path = 'sub/a.csv')");
    let schema = Schema::new(vec![Field::new("a", DataType::Int32, false)]);
    assert_eq!(declared.columns.as_deref(), Some(&schema));
    assert_eq!(declared.path, PathBuf::from("sub/a.csv"));
}

#[test]
fn tables_that_cannot_be_are_refused() {
    refused(&[
        ("CREATE TABLE t (a INT)", "f.sql:1:1: table `t` needs its file: WITH (path = 't.csv')"),
        ("CREATE TABLE t WITH (path = 'a.xls')", "cannot tell the format of `a.xls` by its name"),
        (
            "CREATE TABLE t WITH (path = 'a', format = 'xls')",
            "expected 'csv', 'parquet' or 'ndjson', found 'xls'",
        ),
        ("CREATE TABLE t WITH (path = 'a.csv', delimiter = '||')", "expected one ASCII character"),
        ("CREATE TABLE t WITH (path = 'a.csv', header = 'yes')", "expected true or false, found 'yes'"),
        (
            "CREATE TABLE t WITH (path = 'a.parquet', header = true)",
            "option `header` is for format 'csv' only",
        ),
        ("CREATE TABLE t AS SELECT 1", "needs its file"),
    ]);
}

#[test]
fn a_view_keeps_its_query_its_columns_and_its_place() {
    let view = view("\n  CREATE MATERIALIZED VIEW v (A, \"B\") AS select x, count(*) from s group by x");
    assert_eq!((view.name.as_str(), view.materialized), ("v", true));
    assert_eq!(view.columns, ["a", "B"]);
    assert_eq!(view.sql, "SELECT x, count(*) FROM s GROUP BY x");
    assert_eq!(view.query.to_string(), view.sql);
    assert_eq!(view.location.to_string(), "f.sql:2:3");
}

#[test]
fn a_plain_view_is_not_materialized() {
    assert!(!view("CREATE VIEW v AS SELECT 1").materialized);
}

#[test]
fn views_that_cannot_be_are_refused() {
    refused(&[
        ("CREATE VIEW v (a, A) AS SELECT 1, 2", "column `a` is named twice"),
        ("CREATE VIEW v AS INSERT INTO s VALUES (1)", "f.sql:1:18: expected"),
        ("CREATE VIEW v AS WITH q AS (SELECT 1) DELETE FROM s", "a view changes nothing"),
    ]);
}

#[test]
fn other_statements_are_refused_with_what_is_allowed() {
    let allowed = "CREATE STREAM, CREATE TABLE, CREATE MATERIALIZED VIEW or CREATE VIEW";
    assert_eq!(error("SELECT 1"), format!("f.sql:1:1: expected {allowed}, found `SELECT`"));
    assert_eq!(error("CREATE INDEX i ON s (a)"), format!("f.sql:1:8: expected {allowed}, found `INDEX`"));
    assert_eq!(error("CREATE SINK k AS SELECT 1"), "f.sql:1:1: sinks are not available yet");
}

#[test]
fn syntax_errors_are_one_line_with_their_place() {
    refused(&[
        ("CREATE STREAM s (a INT", "f.sql:1:23: expected"),
        (
            "CREATE VIEW v AS\nSELECT a FROM s WHERE\n",
            "f.sql:3:1: expected an expression, found the end of the file",
        ),
        ("CREATE VIEW v AS\nSELECT 'open", "f.sql:2:8: Unterminated string literal"),
        ("CREATE VIEW v AS SELECT 1)", "f.sql:1:26: expected `;` after the statement, found `)`"),
        ("CREATE VIEW v", "f.sql:1:14: expected AS, found the end of the file"),
    ]);
    let deep = format!("CREATE VIEW v AS SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(error(&deep).contains("nested too deeply"));
}

#[test]
fn comments_and_empty_statements_are_nothing() {
    assert_eq!(parse("f.sql", "\u{feff}-- a comment\n;; /* another */ ;").unwrap(), []);
    assert_eq!(parse("f.sql", &format!("{FLIGHTS};\n-- end\nCREATE VIEW v AS SELECT 1;")).unwrap().len(), 2);
}
