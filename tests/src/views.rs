//! The project that the laws are tried on: two streams, a table, and a view for each kind of query.

use std::sync::Arc;
use tempfile::TempDir;
use twofold_common::{Catalog, Project};

pub const STREAMS: &str = "
CREATE STREAM clicks (
  ts TIMESTAMP NOT NULL, k TEXT, n BIGINT, x DOUBLE, ok BOOLEAN,
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (partitions = 2, partition_by = 'k');
CREATE STREAM orders (ts TIMESTAMP NOT NULL, k TEXT, n BIGINT, x DOUBLE, ok BOOLEAN) WITH (partitions = 2);
CREATE TABLE names (k TEXT, name TEXT, weight BIGINT) WITH (path = 'names.csv');
";

pub const NAMES: &str = "k,name,weight\na,Anna,1\nb,Ben,2\nb,Bea,3\nz,Zoe,4\n";

/// Name, query, and whether its state is one row for each event.
pub const VIEWS: &[(&str, &str, bool)] = &[
    ("counts", "SELECT k, count(*) AS c, count(n) AS cn, sum(n) AS s FROM clicks GROUP BY k", false),
    (
        "extremes",
        "SELECT ok, min(n) AS lo, max(n) AS hi, min(k) AS first, max(k) AS last FROM clicks GROUP BY ok",
        false,
    ),
    (
        "means",
        "SELECT k, avg(n) AS mean, bool_and(ok) AS every, bit_xor(n) AS bits FROM clicks GROUP BY k",
        false,
    ),
    ("whole", "SELECT count(*) AS c, sum(n) AS s, avg(n) AS mean, max(k) AS last FROM clicks", false),
    (
        "filtered",
        "SELECT k, count(*) FILTER (WHERE n > 0) AS positive, sum(n) FILTER (WHERE ok) AS s \
      FROM clicks WHERE n <> 3 GROUP BY k",
        false,
    ),
    (
        "named",
        "SELECT t.name, count(*) AS c, sum(c.n * t.weight) AS s FROM clicks c JOIN names t USING (k) \
      GROUP BY t.name",
        false,
    ),
    (
        "table_first",
        "SELECT t.name, count(*) AS c FROM names t JOIN clicks c ON c.k = t.k AND c.n > t.weight \
      GROUP BY t.name",
        false,
    ),
    (
        "left_named",
        "SELECT t.name, count(*) AS c FROM clicks c LEFT JOIN names t USING (k) GROUP BY t.name",
        false,
    ),
    ("known", "SELECT k, count(*) AS c FROM clicks WHERE k IN (SELECT k FROM names) GROUP BY k", false),
    (
        "unknown",
        "SELECT k, count(*) AS c FROM clicks c WHERE NOT EXISTS (SELECT 1 FROM names t WHERE t.k = c.k) \
      GROUP BY k",
        false,
    ),
    (
        "windows",
        "SELECT date_bin(INTERVAL '10 seconds', ts) AS w, k, count(*) AS c FROM clicks GROUP BY 1, 2",
        false,
    ),
    (
        "distinct_counts",
        "SELECT k, count(DISTINCT n) AS d, count(*) AS c, sum(DISTINCT n) AS s, max(n) AS hi \
      FROM clicks GROUP BY k",
        false,
    ),
    ("distinct_only", "SELECT count(DISTINCT n) AS d FROM clicks", false),
    (
        "distinct_filtered",
        "SELECT ok, count(DISTINCT k) FILTER (WHERE n > 0) AS d, count(*) AS c FROM clicks \
      GROUP BY ok",
        false,
    ),
    ("distinct_rows", "SELECT DISTINCT k, ok FROM clicks", false),
    (
        "busy",
        "SELECT k, sum(n) AS s FROM clicks GROUP BY k HAVING count(*) > 2 ORDER BY s DESC NULLS LAST, k LIMIT 3",
        false,
    ),
    ("cubed", "SELECT k, ok, count(*) AS c, grouping(k) AS g FROM clicks GROUP BY CUBE (k, ok)", false),
    (
        "both",
        "SELECT k, count(*) AS c, sum(n) AS s FROM (SELECT k, n FROM clicks UNION ALL SELECT k, n FROM orders) u \
      GROUP BY k",
        false,
    ),
    (
        "compared",
        "SELECT a.k, a.c AS clicks, b.c AS orders FROM (SELECT k, count(*) AS c FROM clicks GROUP BY k) a \
      JOIN (SELECT k, count(*) AS c FROM orders GROUP BY k) b ON a.k = b.k",
        false,
    ),
    (
        "shares",
        "SELECT k, c, sum(c) OVER () AS total, rank() OVER (ORDER BY c DESC) AS r \
      FROM (SELECT k, count(*) AS c FROM clicks GROUP BY k) q",
        false,
    ),
    ("uncertain", "SELECT approx_distinct(n) AS d FROM clicks", false),
    ("float_extremes", "SELECT k, min(x) AS lo, max(x) AS hi FROM clicks GROUP BY k", false),
    ("float_extremes_whole", "SELECT min(x) AS lo, max(x) FILTER (WHERE ok) AS hi FROM clicks", false),
    ("kept", "SELECT ts, k, n + 1 AS m FROM clicks WHERE n > 1", true),
    ("kept_meta", "SELECT k, _partition, _offset FROM clicks WHERE ok", true),
    ("kept_named", "SELECT c.k, c.n, t.name FROM clicks c LEFT JOIN names t ON c.k = t.k", true),
    (
        "numbered",
        "SELECT k, n, row_number() OVER (PARTITION BY k ORDER BY n, ts, x, ok) AS r FROM clicks",
        true,
    ),
    ("floats", "SELECT k, sum(x) AS s, avg(x) AS mean FROM clicks GROUP BY k", false),
    (
        "moments",
        "SELECT k, var(x) AS v, stddev_pop(x) AS sd, corr(x, n) AS r, regr_slope(x, n) AS slope, covar_samp(n, x) AS c, \
         min(x) AS lo, max(x) FILTER (WHERE ok) AS hi, sum(CAST(n AS DECIMAL(38, 4))) AS d, \
         avg(CAST(n AS DECIMAL(25, 2))) AS dm FROM clicks GROUP BY k",
        false,
    ),
    ("whole_floats", "SELECT sum(x) AS s, stddev(x) AS sd, regr_count(n, x) AS pairs FROM clicks", false),
    ("above", "SELECT k, count(*) AS c FROM clicks WHERE n > (SELECT avg(n) FROM clicks) GROUP BY k", true),
    ("latest", "SELECT k, n FROM clicks c WHERE n = (SELECT max(d.n) FROM clicks d WHERE d.k = c.k)", true),
    ("joined", "SELECT c.k, c.n, o.n AS m FROM clicks c JOIN orders o ON c.k = o.k AND c.n < o.n", true),
    ("empty_names", "SELECT t.name, c.n FROM names t LEFT JOIN clicks c ON c.k = t.k", true),
    (
        "all_names",
        "SELECT t.name, count(*) AS c FROM names t LEFT JOIN clicks c ON c.k = t.k GROUP BY t.name",
        true,
    ),
    (
        "outer",
        "SELECT a.k AS ak, b.k AS bk, a.c, b.c AS d FROM (SELECT k, count(*) AS c FROM clicks GROUP BY k) a \
      FULL JOIN (SELECT k, count(*) AS c FROM orders GROUP BY k) b ON a.k = b.k",
        false,
    ),
    ("shared", "SELECT k FROM clicks INTERSECT SELECT k FROM orders", true),
    ("missing", "SELECT k FROM clicks EXCEPT SELECT k FROM orders", true),
    ("unioned", "SELECT k, ok FROM clicks UNION SELECT k, ok FROM orders", false),
    (
        "with_table",
        "SELECT k, count(*) AS c FROM (SELECT k FROM clicks UNION ALL SELECT k FROM names) u GROUP BY k",
        true,
    ),
    (
        "unnested",
        "SELECT m, count(*) AS c FROM (SELECT unnest(make_array(n, n + 1)) AS m FROM clicks) u GROUP BY m",
        false,
    ),
    (
        "first_of_each",
        "SELECT DISTINCT ON (k) k, n, _partition AS p, _offset AS o FROM clicks \
      ORDER BY k, _partition, _offset",
        false,
    ),
    (
        "newest",
        "SELECT k, n FROM (SELECT k, n, row_number() OVER (PARTITION BY k ORDER BY ts DESC, _partition, _offset) \
      AS r FROM clicks) q WHERE r = 1",
        false,
    ),
    (
        "busiest",
        "SELECT k, c FROM (SELECT k, count(*) AS c FROM clicks GROUP BY k) q \
      WHERE c = (SELECT max(c) FROM (SELECT k, count(*) AS c FROM clicks GROUP BY k) r)",
        false,
    ),
    (
        "counted_names",
        "SELECT t.name, (SELECT count(*) FROM clicks c WHERE c.k = t.k) AS c FROM names t",
        false,
    ),
    (
        "not_in",
        "SELECT k, count(*) AS c FROM clicks WHERE n NOT IN (SELECT weight FROM names) GROUP BY k",
        false,
    ),
    (
        "steps",
        "WITH RECURSIVE r AS (SELECT k, count(*) AS c FROM clicks GROUP BY k UNION ALL SELECT k, c - 1 FROM r WHERE c > 1) \
      SELECT k, c FROM r",
        false,
    ),
    (
        "crossed",
        "SELECT c.k, t.name, count(*) AS c FROM clicks c CROSS JOIN names t GROUP BY c.k, t.name",
        false,
    ),
    (
        "texts",
        "SELECT upper(k) AS u, count(*) AS c, min(length(k)) AS l FROM clicks GROUP BY upper(k)",
        false,
    ),
    (
        "dated",
        "SELECT date_trunc('minute', ts) AS m, max(ts) AS last, min(ts - INTERVAL '1 second') AS first FROM clicks \
      GROUP BY 1",
        false,
    ),
    (
        "stats",
        "SELECT k, stddev(x) AS sd, median(n) AS md, array_agg(n ORDER BY ts, x, n, ok) AS ns FROM clicks GROUP BY k",
        true,
    ),
    (
        "hops",
        "SELECT k, hop(ts, INTERVAL '4 seconds', INTERVAL '10 seconds') AS w, count(*) AS c, sum(n) AS s, max(x) AS hi \
      FROM clicks GROUP BY 1, 2",
        false,
    ),
    (
        "hops_by_start",
        "SELECT k, w['start'] AS s, w['end'] AS e, count(*) AS c \
      FROM (SELECT *, hop(ts, INTERVAL '2 seconds', INTERVAL '10 seconds') AS w FROM clicks) h \
      WHERE n > 0 GROUP BY k, w['start'], w['end'] HAVING count(*) > 1",
        false,
    ),
    (
        "many_hops",
        "SELECT k, hop(ts, INTERVAL '1 second', INTERVAL '30 seconds') AS w, count(*) AS c, sum(x) AS s, max(n) AS hi \
      FROM clicks GROUP BY 1, 2",
        false,
    ),
    (
        "hops_distinct",
        "SELECT hop(ts, INTERVAL '5 seconds', INTERVAL '10 seconds') AS w, count(DISTINCT k) AS d, count(*) AS c \
      FROM clicks GROUP BY 1",
        false,
    ),
    (
        "cumulated",
        "SELECT cumulate(ts, INTERVAL '5 seconds', INTERVAL '20 seconds') AS w, count(*) AS c FROM clicks GROUP BY 1",
        false,
    ),
    (
        "tumbling",
        "SELECT tumble(ts, INTERVAL '10 seconds') AS w, k, count(*) AS c FROM clicks GROUP BY 1, 2",
        false,
    ),
    (
        "sessions",
        "SELECT k, session(ts, INTERVAL '3 seconds') AS w, count(*) AS c, sum(n) AS s FROM clicks GROUP BY 1, 2",
        false,
    ),
    (
        "all_sessions",
        "SELECT w['start'] AS s, w['end'] AS e, c FROM (SELECT session(ts, INTERVAL '1 second') AS w, count(*) AS c \
      FROM clicks WHERE ok GROUP BY 1) q WHERE c > 1",
        false,
    ),
    (
        "session_values",
        "SELECT session(ts, INTERVAL '2 seconds') AS w, array_agg(n ORDER BY ts, n, x, k, ok) AS ns FROM clicks \
      GROUP BY 1",
        true,
    ),
    ("over_view", "SELECT c, count(*) AS keys FROM counts GROUP BY c", false),
    ("over_kept", "SELECT k, count(*) AS c FROM kept GROUP BY k", false),
];

/// The same rows for [`VIEWS`] that say something which a plain session does not know.
pub const PLAIN: &[(&str, &str)] = &[
    (
        "hops",
        "SELECT k, named_struct('start', s, 'end', s + INTERVAL '10 seconds') AS w, count(*) AS c, sum(n) AS s, \
      max(x) AS hi FROM (SELECT *, unnest(range(date_bin(INTERVAL '4 seconds', ts) - INTERVAL '8 seconds', \
      ts + INTERVAL '1 nanosecond', INTERVAL '4 seconds')) AS s FROM clicks) u \
      WHERE s + INTERVAL '10 seconds' > ts GROUP BY k, u.s",
    ),
    (
        "hops_by_start",
        "SELECT k, s, s + INTERVAL '10 seconds' AS e, count(*) AS c FROM (SELECT *, \
      unnest(range(date_bin(INTERVAL '2 seconds', ts) - INTERVAL '8 seconds', ts + INTERVAL '1 nanosecond', \
      INTERVAL '2 seconds')) AS s FROM clicks WHERE n > 0) u GROUP BY k, s HAVING count(*) > 1",
    ),
    (
        "many_hops",
        "SELECT k, named_struct('start', s, 'end', s + INTERVAL '30 seconds') AS w, count(*) AS c, sum(x) AS s, \
      max(n) AS hi FROM (SELECT *, unnest(range(date_bin(INTERVAL '1 second', ts) - INTERVAL '29 seconds', \
      ts + INTERVAL '1 nanosecond', INTERVAL '1 second')) AS s FROM clicks) u GROUP BY k, u.s",
    ),
    (
        "hops_distinct",
        "SELECT named_struct('start', s, 'end', s + INTERVAL '10 seconds') AS w, count(DISTINCT k) AS d, \
      count(*) AS c FROM (SELECT *, unnest(range(date_bin(INTERVAL '5 seconds', ts) - INTERVAL '5 seconds', \
      ts + INTERVAL '1 nanosecond', INTERVAL '5 seconds')) AS s FROM clicks) u GROUP BY s",
    ),
    (
        "cumulated",
        "SELECT named_struct('start', date_bin(INTERVAL '20 seconds', ts), 'end', e) AS w, count(*) AS c FROM \
      (SELECT ts, unnest(range(date_bin(INTERVAL '5 seconds', ts) + INTERVAL '5 seconds', \
      date_bin(INTERVAL '20 seconds', ts) + INTERVAL '21 seconds', INTERVAL '5 seconds')) AS e FROM clicks) u \
      GROUP BY date_bin(INTERVAL '20 seconds', ts), e",
    ),
    (
        "tumbling",
        "SELECT named_struct('start', s, 'end', s + INTERVAL '10 seconds') AS w, k, count(*) AS c \
      FROM (SELECT k, date_bin(INTERVAL '10 seconds', ts) AS s FROM clicks) u GROUP BY s, k",
    ),
    (
        "sessions",
        "SELECT k, named_struct('start', min(ts), 'end', max(ts) + INTERVAL '3 seconds') AS w, count(*) AS c, \
      sum(n) AS s FROM (SELECT k, ts, n, sum(b) OVER (PARTITION BY k ORDER BY ts) AS id FROM (SELECT k, ts, n, \
      CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts) <= INTERVAL '3 seconds' THEN 0 ELSE 1 END AS b \
      FROM clicks) a) b GROUP BY k, id",
    ),
    (
        "all_sessions",
        "SELECT min(ts) AS s, max(ts) + INTERVAL '1 second' AS e, count(*) AS c FROM (SELECT ts, \
      sum(b) OVER (ORDER BY ts) AS id FROM (SELECT ts, \
      CASE WHEN ts - lag(ts) OVER (ORDER BY ts) <= INTERVAL '1 second' THEN 0 ELSE 1 END AS b \
      FROM clicks WHERE ok) a) b GROUP BY id HAVING count(*) > 1",
    ),
    (
        "session_values",
        "SELECT named_struct('start', min(ts), 'end', max(ts) + INTERVAL '2 seconds') AS w, \
      array_agg(n ORDER BY ts, n, x, k, ok) AS ns FROM (SELECT *, sum(b) OVER (ORDER BY ts) AS id FROM (SELECT *, \
      CASE WHEN ts - lag(ts) OVER (ORDER BY ts) <= INTERVAL '2 seconds' THEN 0 ELSE 1 END AS b \
      FROM clicks) a) b GROUP BY id",
    ),
];

/// A view whose query fails on some events: not among those that every law is tried on.
const FRAGILE: (&str, &str, bool) = ("fragile", "SELECT k, CAST(k AS BIGINT) AS n FROM clicks", true);

/// A project with all [`VIEWS`], or with those named.
pub async fn catalog(only: &[&str]) -> (TempDir, Project, Arc<Catalog>) {
    let mut sql = String::new();
    for (name, query, _) in VIEWS.iter().chain([&FRAGILE]) {
        if only.contains(name) || only.is_empty() && *name != FRAGILE.0 {
            sql += &format!("CREATE MATERIALIZED VIEW {name} AS {query};\n");
        }
    }
    catalog_of(&sql).await
}

/// A project of [`STREAMS`] and these statements, and its catalog.
pub async fn catalog_of(statements: &str) -> (TempDir, Project, Arc<Catalog>) {
    let sql = format!("{STREAMS}{statements}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("names.csv"), NAMES).unwrap();
    std::fs::write(dir.path().join("views.sql"), sql).unwrap();
    let project = Project::load(dir.path()).unwrap();
    let catalog = Arc::new(Catalog::new(&project).await.unwrap());
    (dir, project, catalog)
}
