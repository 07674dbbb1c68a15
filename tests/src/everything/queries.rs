//! The table of queries: each as the text of a view, and as the text of a plain query that gives the same rows.

use super::calls::{Call, FORMS, select_list};
use super::wild::COLUMNS;

/// A view, and the plain query that gives its rows.
#[derive(Debug, Clone)]
pub struct Query {
    pub name: String,
    pub view: String,
    pub plain: String,
    /// Whether the answer may be an error, as when a sum is wider than its type.
    pub fallible: bool,
}

impl Query {
    fn new(name: impl Into<String>, view: impl Into<String>, plain: impl Into<String>) -> Self {
        Self { name: name.into(), view: view.into(), plain: plain.into(), fallible: false }
    }
}

/// How many calls stand in one view.
const TOGETHER: usize = 10;

/// Each call twice: grouped by a key; and over everything, with a filter.
pub fn by_call(calls: &[Call]) -> Vec<Query> {
    let mut queries = Vec::new();
    for form in FORMS {
        let (fallible, sure): (Vec<Call>, Vec<Call>) =
            calls.iter().filter(|c| c.form == form.name).cloned().partition(|c| c.fallible);
        // The engine does not order by two things in one plain query.
        let together = if sure.iter().any(orders_by_its_own) { 1 } else { TOGETHER };
        let packs = sure.chunks(together).chain(fallible.chunks(1));
        for (i, pack) in packs.enumerate() {
            let keyed = |call: fn(&Call) -> &String| {
                format!("SELECT k{} FROM wild GROUP BY k", select_list(pack, |c| call(c).clone()))
            };
            let whole = |call: fn(&Call) -> &String| {
                let calls = select_list(pack, |c| filtered(call(c)));
                format!("SELECT count(*) AS events{calls} FROM wild")
            };
            let both = [
                (format!("{}_{i}_by_k", form.name), keyed(|c| &c.view), keyed(|c| &c.plain)),
                (format!("{}_{i}_whole", form.name), whole(|c| &c.view), whole(|c| &c.plain)),
            ];
            // What stands alone is tried in one of the two ways, or there would be too many.
            let alone = pack.len() == 1 && !pack[0].fallible;
            for (_, (name, view, plain)) in
                both.into_iter().enumerate().filter(|(way, _)| !alone || i % 2 == *way)
            {
                let fallible = pack.iter().any(|c| c.fallible);
                queries.push(Query { fallible, ..Query::new(name, view, plain) });
            }
        }
    }
    queries
}

fn orders_by_its_own(call: &Call) -> bool {
    let column = call.column;
    let orders = [format!("ORDER BY {column}"), format!("ORDER BY CAST({column}")];
    let order = !call.plain.contains("WITHIN GROUP") && orders.iter().any(|by| call.plain.contains(by));
    // Beside another DISTINCT, the engine's takes every value, however often it comes.
    order || call.form == "bit_xor_distinct"
}

/// `FILTER` stands before `IGNORE NULLS`.
fn filtered(call: &str) -> String {
    match call.strip_suffix(" IGNORE NULLS") {
        Some(call) => format!("{call} FILTER (WHERE n > 0) IGNORE NULLS"),
        None => format!("{call} FILTER (WHERE n > 0)"),
    }
}

/// Each column as a key.
pub fn by_key() -> Vec<Query> {
    let query = |(name, _): &(&str, &str)| {
        let sql =
            format!("SELECT {name}, count(*) AS c, sum(x) AS s, max(t) AS last FROM wild GROUP BY {name}");
        Query::new(format!("key_{name}"), &sql, &sql)
    };
    let mut queries: Vec<Query> = COLUMNS.iter().map(query).collect();
    let all: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let distinct = format!("SELECT DISTINCT {} FROM wild", all.join(", "));
    queries.push(Query::new("key_all", &distinct, &distinct));
    queries
}

/// Kinds of windows: in a view, as a plain query, and the name.
const WINDOWS: [(&str, &str, &str); 5] = [
    (
        "tumble",
        "SELECT tumble(ts, INTERVAL '10 seconds') AS w, k{} FROM wild GROUP BY 1, 2",
        "SELECT named_struct('start', s, 'end', s + INTERVAL '10 seconds') AS w, k{} \
         FROM (SELECT *, date_bin(INTERVAL '10 seconds', ts) AS s FROM wild) u GROUP BY s, k",
    ),
    (
        "hop",
        "SELECT hop(ts, INTERVAL '4 seconds', INTERVAL '10 seconds') AS w{} FROM wild GROUP BY 1",
        "SELECT named_struct('start', s, 'end', s + INTERVAL '10 seconds') AS w{} FROM (SELECT *, \
         unnest(range(date_bin(INTERVAL '4 seconds', ts) - INTERVAL '8 seconds', ts + INTERVAL '1 nanosecond', \
         INTERVAL '4 seconds')) AS s FROM wild) u WHERE s + INTERVAL '10 seconds' > ts GROUP BY s",
    ),
    (
        "cumulate",
        "SELECT cumulate(ts, INTERVAL '5 seconds', INTERVAL '20 seconds') AS w{} FROM wild GROUP BY 1",
        "SELECT named_struct('start', date_bin(INTERVAL '20 seconds', ts), 'end', e) AS w{} FROM (SELECT *, \
         unnest(range(date_bin(INTERVAL '5 seconds', ts) + INTERVAL '5 seconds', \
         date_bin(INTERVAL '20 seconds', ts) + INTERVAL '21 seconds', INTERVAL '5 seconds')) AS e FROM wild) u \
         GROUP BY date_bin(INTERVAL '20 seconds', ts), e",
    ),
    (
        "session",
        "SELECT k, session(ts, INTERVAL '3 seconds') AS w{} FROM wild GROUP BY 1, 2",
        "SELECT k, named_struct('start', min(ts), 'end', max(ts) + INTERVAL '3 seconds') AS w{} FROM (SELECT *, \
         sum(apart) OVER (PARTITION BY k ORDER BY ts) AS id FROM (SELECT *, \
         CASE WHEN ts <= lag(ts) OVER (PARTITION BY k ORDER BY ts) + INTERVAL '3 seconds' THEN 0 ELSE 1 END AS apart \
         FROM wild) a) b GROUP BY k, id",
    ),
    (
        "session_of_all",
        "SELECT session(ts, INTERVAL '1 second') AS w{} FROM wild WHERE b GROUP BY 1",
        "SELECT named_struct('start', min(ts), 'end', max(ts) + INTERVAL '1 second') AS w{} FROM (SELECT *, \
         sum(apart) OVER (ORDER BY ts) AS id FROM (SELECT *, \
         CASE WHEN ts <= lag(ts) OVER (ORDER BY ts) + INTERVAL '1 seconds' THEN 0 ELSE 1 END AS apart \
         FROM wild WHERE b) a) b GROUP BY id",
    ),
];

/// Calls of each kind of state, for windows and grouping sets.
const SMALL: &[(&str, &str)] = &[
    ("sum", "x"),
    ("sum", "n"),
    ("avg", "d"),
    ("min", "f8"),
    ("max", "t"),
    ("bit_xor", "i8"),
    ("stddev", "x"),
    ("corr", "n"),
    ("approx_distinct", "t"),
    ("approx_median", "x"),
    ("histogram", "x"),
    ("arg_max", "t9"),
];
const ORDERED: &[(&str, &str)] = &[
    ("first_value_by", "st"),
    ("last_value", "f8"),
    ("nth_value_by", "li"),
    ("sequence_match", "b"),
    ("count", "y"),
];
const COUNTED: &[(&str, &str)] = &[
    ("median", "n"),
    ("percentile_cont_desc", "d"),
    ("mode", "t"),
    ("count_distinct", "da"),
    ("top_k", "k"),
];
/// By themselves: the engine does not order by two things in one plain query.
const KEPT: &[(&str, &str)] = &[("array_agg_by", "t"), ("string_agg", "t"), ("array_agg_distinct", "i4")];

fn pack(calls: &[Call], of: &[(&str, &str)]) -> Vec<Call> {
    let find = |(form, column): &(&str, &str)| {
        let found = calls.iter().find(|c| c.form == *form && c.column == *column);
        found.unwrap_or_else(|| panic!("{form} of {column} is left out")).clone()
    };
    of.iter().map(find).collect()
}

/// Each kind of window and of grouping set, over each kind of state.
pub fn by_window(calls: &[Call]) -> Vec<Query> {
    let mut packs = vec![("small", SMALL), ("ordered", ORDERED), ("counted", COUNTED)];
    packs.extend(KEPT.chunks(1).map(|one| (one[0].0, one)));
    let mut queries = Vec::new();
    for (kind, of) in packs {
        let pack = pack(calls, of);
        let views = select_list(&pack, |c| c.view.clone());
        let plains = select_list(&pack, |c| c.plain.clone());
        for (window, view, plain) in WINDOWS {
            let name = format!("{window}_{kind}");
            queries.push(Query::new(name, view.replacen("{}", &views, 1), plain.replacen("{}", &plains, 1)));
        }
        for (set, groups) in [
            ("cube", "CUBE (k, b)"),
            ("rollup", "ROLLUP (k, i1, b)"),
            ("sets", "GROUPING SETS ((k), (b, u1), ())"),
            ("same_sets", "GROUPING SETS ((k), (b, k), (b), (k))"),
        ] {
            let keys = if set == "sets" { "k, b, u1" } else { "k, b" };
            let query =
                |calls: &str| format!("SELECT {keys}, grouping(k) AS g{calls} FROM wild GROUP BY {groups}");
            queries.push(Query::new(format!("{set}_{kind}"), query(&views), query(&plains)));
        }
    }
    queries
}
