//! What SQL can say around aggregates: joins, DISTINCT, unions, lists, subqueries, views over views.

use super::queries::Query;

/// Name, view, and the plain query if it is not the same text.
const CONSTRUCTS: &[(&str, &str, &str)] = &[
    (
        "join_table",
        "SELECT m.name, count(*) AS c, sum(e.x * m.weight) AS s FROM wild e JOIN names m USING (k) GROUP BY m.name",
        "",
    ),
    (
        "left_join_table",
        "SELECT m.name, avg(e.x) AS a FROM wild e LEFT JOIN names m ON e.k = m.k AND e.n > m.weight GROUP BY m.name",
        "",
    ),
    (
        "table_right_join",
        "SELECT m.name, first_value(e.t ORDER BY e.ts, e._partition, e._offset) AS f \
         FROM names m RIGHT JOIN wild e ON e.k = m.k GROUP BY m.name",
        "",
    ),
    ("sets_without_calls", "SELECT k, b, grouping(k) AS g FROM wild GROUP BY CUBE (k, b)", ""),
    ("sets_of_no_key", "SELECT count(*) AS c, sum(n) AS s FROM wild GROUP BY GROUPING SETS ((), ())", ""),
    ("semi_join", "SELECT k, corr(n, x) AS r FROM wild WHERE k IN (SELECT k FROM names) GROUP BY k", ""),
    (
        "anti_join",
        "SELECT k, median(n) AS m FROM wild e WHERE NOT EXISTS (SELECT 1 FROM names m WHERE m.k = e.k) GROUP BY k",
        "",
    ),
    ("cross_join", "SELECT m.name, count_by(e.b) AS c FROM wild e CROSS JOIN names m GROUP BY m.name", ""),
    ("table_left_join", "SELECT m.name, e.n, e.t FROM names m LEFT JOIN wild e ON e.k = m.k", ""),
    (
        "equal_windows_join",
        "SELECT a.w, a.k, a.c, b.s FROM (SELECT tumble(ts, INTERVAL '10 seconds') AS w, k, count(*) AS c FROM wild \
         GROUP BY 1, 2) a JOIN (SELECT tumble(ts, INTERVAL '10 seconds') AS w, k, sum(x) AS s FROM more \
         GROUP BY 1, 2) b ON a.k = b.k AND a.w = b.w",
        "SELECT named_struct('start', a.w, 'end', a.w + INTERVAL '10 seconds') AS w, a.k, a.c, b.s FROM \
         (SELECT date_bin(INTERVAL '10 seconds', ts) AS w, k, count(*) AS c FROM wild GROUP BY 1, 2) a JOIN \
         (SELECT date_bin(INTERVAL '10 seconds', ts) AS w, k, sum(x) AS s FROM more GROUP BY 1, 2) b \
         ON a.k = b.k AND a.w = b.w",
    ),
    (
        "rows_of_one_window",
        "SELECT a.k, a.n AS an, b.n AS bn, a.win['start'] AS w FROM \
         (SELECT *, tumble(ts, INTERVAL '10 seconds') AS win FROM wild) a JOIN \
         (SELECT *, tumble(ts, INTERVAL '10 seconds') AS win FROM more) b ON a.k = b.k AND a.win = b.win",
        "SELECT a.k, a.n AS an, b.n AS bn, a.win AS w FROM \
         (SELECT *, date_bin(INTERVAL '10 seconds', ts) AS win FROM wild) a JOIN \
         (SELECT *, date_bin(INTERVAL '10 seconds', ts) AS win FROM more) b ON a.k = b.k AND a.win = b.win",
    ),
    (
        "interval_join",
        "SELECT a.k, a.n, b.t FROM wild a JOIN more b ON a.k = b.k \
         AND b.ts BETWEEN a.ts - INTERVAL '5 seconds' AND a.ts + INTERVAL '3 seconds'",
        "",
    ),
    (
        "interval_left_join",
        "SELECT a.k, a.f8, b.y FROM wild a LEFT JOIN more b ON a.k = b.k \
         AND b.ts >= a.ts AND b.ts < a.ts + INTERVAL '5 seconds'",
        "",
    ),
    (
        "aggregate_of_join",
        "SELECT a.k, count(*) AS c, sum(b.x) AS s FROM wild a JOIN more b ON a.k = b.k AND a.b = b.b GROUP BY a.k",
        "",
    ),
    ("stream_semi_join", "SELECT k, n FROM wild WHERE k IN (SELECT k FROM more WHERE b)", ""),
    ("intersect", "SELECT t, d FROM wild INTERSECT SELECT t, d FROM more", ""),
    ("except", "SELECT f8 FROM wild EXCEPT SELECT f8 FROM more", ""),
    ("distinct", "SELECT DISTINCT b, i1, st FROM wild WHERE u1 IS NOT NULL", ""),
    (
        "distinct_on",
        "SELECT DISTINCT ON (k, b) k, b, n, f8, li FROM wild ORDER BY k, b, ts DESC, _partition, _offset",
        "",
    ),
    (
        "newest_row",
        "SELECT k, t, n FROM (SELECT k, t, n, row_number() OVER (PARTITION BY k ORDER BY ts DESC, _partition, \
         _offset) AS r FROM wild) q WHERE r = 1",
        "",
    ),
    (
        "union_all",
        "SELECT k, sum(x) AS s, max(f8) AS hi FROM (SELECT k, x, f8 FROM wild UNION ALL SELECT t, x, f8 FROM more) u \
         GROUP BY k",
        "",
    ),
    ("union", "SELECT d, b FROM wild UNION SELECT d, b FROM more", ""),
    ("unnest", "SELECT m, count(*) AS c FROM (SELECT unnest(li) AS m FROM wild) u GROUP BY m", ""),
    (
        "unnest_text",
        "SELECT k, m, max(n) AS hi FROM (SELECT k, n, unnest(ls) AS m FROM wild) u GROUP BY k, m",
        "",
    ),
    (
        "cte",
        "WITH good AS (SELECT k, x, n FROM wild WHERE b), big AS (SELECT k, x FROM good WHERE n > 1) \
         SELECT k, regr_slope(x, 2 * x) AS s FROM big GROUP BY k",
        "",
    ),
    ("scalar_subquery", "SELECT k, n FROM wild WHERE n = (SELECT max(n) FROM wild)", ""),
    ("above_mean", "SELECT k, count(*) AS c FROM wild WHERE n > (SELECT avg(n) FROM wild) GROUP BY k", ""),
    ("correlated", "SELECT m.name, (SELECT sum(e.x) FROM wild e WHERE e.k = m.k) AS s FROM names m", ""),
    (
        "having",
        "SELECT k, stddev(x) AS sd FROM wild GROUP BY k HAVING count(*) > 2 ORDER BY sd DESC NULLS LAST, k LIMIT 2",
        "",
    ),
    (
        "over_groups",
        "SELECT k, c, sum(c) OVER (ORDER BY c, k) AS running, rank() OVER (ORDER BY c DESC) AS r \
         FROM (SELECT k, count(*) AS c FROM wild GROUP BY k) q",
        "",
    ),
    (
        "of_fields",
        "SELECT st['b'] AS b, sum(CAST(st['a'] AS DECIMAL(38, 0))) AS s, max(array_length(li)) AS l FROM wild GROUP BY st['b']",
        "",
    ),
    (
        "cases",
        "SELECT CASE WHEN n > 1 THEN t ELSE k END AS c, count(DISTINCT x) AS d FROM wild GROUP BY 1",
        "",
    ),
    ("kept", "SELECT ts, k, f8, st, li, y, _partition, _offset FROM wild WHERE n > 0 OR b", ""),
    ("of_ingest", "SELECT _partition, count(*) AS c, max(_offset) AS o FROM wild GROUP BY _partition", ""),
    (
        "mixed_needs",
        "SELECT k, sum(n) AS s, count(DISTINCT t) AS d, median(n) AS m, \
         array_agg(n ORDER BY ts, _partition, _offset) AS l, first_value(t ORDER BY ts, _partition, _offset) AS f \
         FROM wild GROUP BY k",
        "",
    ),
    (
        "hop_of_sessions",
        "SELECT w['start'] AS s, max(c) AS hi FROM (SELECT k, session(ts, INTERVAL '3 seconds') AS w, count(*) AS c \
         FROM wild GROUP BY 1, 2) q GROUP BY w['start']",
        "SELECT s, max(c) AS hi FROM (SELECT k, min(ts) AS s, count(*) AS c FROM (SELECT k, ts, sum(apart) OVER \
         (PARTITION BY k ORDER BY ts) AS id FROM (SELECT k, ts, CASE WHEN ts <= lag(ts) OVER (PARTITION BY k ORDER BY \
         ts) + INTERVAL '3 seconds' THEN 0 ELSE 1 END AS apart FROM wild) a) b GROUP BY k, id) q GROUP BY s",
    ),
    (
        "sessions_alone",
        "SELECT k, session(ts, INTERVAL '3 seconds') AS w FROM wild GROUP BY 1, 2",
        "SELECT k, named_struct('start', min(ts), 'end', max(ts) + INTERVAL '3 seconds') AS w FROM (SELECT *, \
         sum(apart) OVER (PARTITION BY k ORDER BY ts) AS id FROM (SELECT *, CASE WHEN ts <= lag(ts) OVER (PARTITION BY \
         k ORDER BY ts) + INTERVAL '3 seconds' THEN 0 ELSE 1 END AS apart FROM wild) a) b GROUP BY k, id",
    ),
    // A view over views, the last two of this list: the names are those of the views.
    (
        "view_over_view",
        "SELECT c, count(*) AS keys FROM construct_join_table GROUP BY c",
        "SELECT c, count(*) AS keys FROM (SELECT m.name, count(*) AS c FROM wild e JOIN names m USING (k) \
         GROUP BY m.name) q GROUP BY c",
    ),
    (
        "view_over_kept",
        "SELECT k, count(*) AS c, max(f8) AS hi FROM construct_kept GROUP BY k",
        "SELECT k, count(*) AS c, max(f8) AS hi FROM wild WHERE n > 0 OR b GROUP BY k",
    ),
];

/// All constructs.
pub fn constructs() -> Vec<Query> {
    let query = |(name, view, plain): &(&str, &str, &str)| Query {
        name: format!("construct_{name}"),
        view: view.to_string(),
        plain: if plain.is_empty() { view } else { plain }.to_string(),
        fallible: false,
    };
    CONSTRUCTS.iter().map(query).collect()
}
