//! The functions as a session finds them.

use crate::session;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

async fn rows(sql: &str) -> String {
    rows_in(&session(), sql).await
}

async fn rows_in(session: &SessionContext, sql: &str) -> String {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let lines: Vec<&str> = table.lines().skip(3).filter(|line| line.starts_with('|')).collect();
    lines
        .iter()
        .map(|l| l.split_whitespace().filter(|c| *c != "|").collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("; ")
}

const T: &str = "(VALUES (1, 0.1), (2, 0.2), (2, 0.2), (3, NULL)) t(n, x)";

#[tokio::test]
async fn names_and_aliases_are_the_engines() {
    let sql = format!(
        "SELECT sum(x), avg(x), mean(n), var(n), var_samp(n), var_sample(n), var_population(n), stddev_samp(n), \
         covar(n, n), regr_count(n, x) FROM {T}"
    );
    assert_eq!(
        rows(&sql).await,
        "0.5 0.16666666666666669 2.0 0.6666666666666666 0.6666666666666666 0.6666666666666666 0.5 \
         0.816496580927726 0.6666666666666666 3"
    );
}

#[tokio::test]
async fn types_are_the_engines() {
    let calls = [
        "sum(CAST(0 AS TINYINT))",
        "sum(CAST(1 AS INT UNSIGNED))",
        "sum(CAST(2 AS REAL))",
        "sum(CAST(3 AS DECIMAL(10, 2)))",
        "sum(INTERVAL '1 day')",
        "avg(CAST(0 AS SMALLINT))",
        "avg(CAST(1 AS BIGINT UNSIGNED))",
        "avg(CAST(2 AS REAL))",
        "avg(CAST(3 AS DECIMAL(10, 2)))",
        "max(CAST(1 AS REAL))",
        "min('a')",
        "stddev(CAST(3 AS DECIMAL(10, 2)))",
    ];
    for call in calls {
        let sql = format!("SELECT arrow_typeof({call}), {call}");
        assert_eq!(rows(&sql).await, rows_in(&SessionContext::new(), &sql).await, "{call}");
    }
}

#[tokio::test]
async fn distinct_values_count_once() {
    let sql = format!(
        "SELECT sum(DISTINCT n), avg(DISTINCT x), var(DISTINCT n), corr(DISTINCT n, x), count(*) FROM {T}"
    );
    assert_eq!(rows(&sql).await, "6 0.15000000000000002 1.0 1.0 4");
    // Two of them, or the engine groups by the values.
    let zeros =
        "SELECT avg(DISTINCT x), count(DISTINCT n) FROM (VALUES (0.0, 1), (-0.0, 2), (1.0, 3)) t(x, n)";
    assert_eq!(rows(zeros).await, "0.5 3");
}

#[tokio::test]
async fn windows_grow_and_slide() {
    let sql = |frame: &str| {
        format!(
            "SELECT sum(x) OVER w, avg(n) OVER w FROM {T} WINDOW w AS (ORDER BY n, x ROWS {frame}) ORDER BY 1, 2"
        )
    };
    let growing = rows(&sql("BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW")).await;
    assert_eq!(growing, "0.1 1.0; 0.30000000000000004 1.5; 0.5 1.6666666666666667; 0.5 2.0");
    let sliding = rows(&sql("BETWEEN 1 PRECEDING AND CURRENT ROW")).await;
    assert!(sliding.contains("0.4 2.0"), "{sliding}");
}

#[tokio::test]
async fn nothing_at_all() {
    let none = "FROM (VALUES (1, 1.0)) t(n, x) WHERE n > 1";
    assert_eq!(
        rows(&format!("SELECT regr_count(n, x), count(*), sum(n) IS NULL, avg(n) IS NULL {none}")).await,
        "0 0 true true"
    );
    assert_eq!(rows(&format!("SELECT n, sum(x) {none} GROUP BY n")).await, "");
}

#[tokio::test]
async fn a_constant_stays_inside_the_sum() {
    // The engine makes sum(x) + 0.9 * count(x) of the first, which is 1.0000000000000002e17.
    let t = format!("(VALUES {}) t(x)", ["(1e16)"; 10].join(", "));
    assert_eq!(rows(&format!("SELECT sum(x + 0.9), sum(x + 0.8) FROM {t}")).await, "1e17 1e17");
}

#[tokio::test]
async fn a_sum_beside_a_distinct_is_rounded_once() {
    let floats = "(VALUES (1, 1e16), (1, 1.0), (2, 1.0)) t(n, x)";
    assert_eq!(
        rows(&format!("SELECT count(DISTINCT n), sum(x) FROM {floats}")).await,
        "2 1.0000000000000002e16"
    );
    let integers = "(VALUES (1, 9223372036854775807), (1, 1), (2, -5)) t(n, x)";
    assert_eq!(
        rows(&format!("SELECT count(DISTINCT n), sum(x) FROM {integers}")).await,
        "2 9223372036854775803"
    );
}
