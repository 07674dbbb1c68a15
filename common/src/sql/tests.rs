use super::*;
use crate::engine;

/// The query as the engine reads it, or what is wrong with it.
fn rewritten(query: &str) -> Result<String, String> {
    let state = engine::state(&engine::session());
    statement(query, &state).map(|statement| statement.to_string()).map_err(|e| e.to_string())
}

fn error(query: &str) -> String {
    let message = rewritten(query).unwrap_err();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Both are the same to the engine.
fn same(query: &str, plain: &str) {
    let plain = statement_text(plain);
    assert_eq!(rewritten(query).unwrap_or_else(|e| panic!("{query}: {e}")), plain);
}

fn statement_text(plain: &str) -> String {
    Parser::parse_sql(&DIALECT, plain).unwrap_or_else(|e| panic!("{plain}: {e}")).remove(0).to_string()
}

/// The relation with its window, which the call gives, beside it.
fn beside(relation: &str, call: &str, window_time: bool) -> String {
    let time = ", get_field(__window, 'end') - INTERVAL '1 millisecond' AS window_time";
    format!(
        "(SELECT * EXCLUDE (__window), get_field(__window, 'start') AS window_start, \
         get_field(__window, 'end') AS window_end{} FROM (SELECT *, {call} AS __window FROM {relation}))",
        if window_time { time } else { "" }
    )
}

#[test]
fn a_query_without_windows_is_not_changed() {
    for query in [
        "SELECT table_name, count(*) OVER (PARTITION BY a) FROM hop AS tumble",
        "SELECT * FROM generate_series(1, 3)",
        "SELECT tumble(ts, INTERVAL '1 minute'), sum(a) OVER (PARTITION BY b ORDER BY c) FROM bids",
        "SELECT row_number() OVER w FROM bids WINDOW w AS (ORDER BY ts)",
        "SELECT window.start FROM window",
    ] {
        same(query, query);
    }
}

#[test]
fn windows_of_risingwave_are_beside_the_relation() {
    let tumble = beside("bids", "tumble(ts, INTERVAL '10 seconds')", false);
    same("SELECT * FROM tumble(bids, ts, INTERVAL '10 seconds')", &format!("SELECT * FROM {tumble}"));
    let hop = beside("\"Bids\"", "hop(ts, INTERVAL '2' MINUTE, INTERVAL '10' MINUTE, INTERVAL '1 s')", false);
    same(
        "SELECT * FROM HOP(\"Bids\", ts, INTERVAL '2' MINUTE, INTERVAL '10' MINUTE, INTERVAL '1 s') AS b (c)",
        &format!("SELECT * FROM {hop} AS b (c)"),
    );
    let of_query = beside("(SELECT 1 AS ts)", "tumble(ts, INTERVAL '1 s')", false);
    same("SELECT * FROM tumble((SELECT 1 AS ts), ts, INTERVAL '1 s')", &format!("SELECT * FROM {of_query}"));
}

#[test]
fn windows_of_flink_have_a_time() {
    let tumble = format!("SELECT * FROM {}", beside("bids", "tumble(ts, INTERVAL '10' SECOND)", true));
    for query in [
        "SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        "SELECT * FROM table ( tumble ( table bids , descriptor(ts) , INTERVAL '10' SECOND ) )",
        "SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)",
        "SELECT * FROM TABLE(TUMBLE(
            DATA => TABLE bids, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND))",
        "SELECT * FROM TABLE(TUMBLE(SIZE => INTERVAL '10' SECOND, TIMECOL => DESCRIPTOR(ts), DATA => TABLE bids))",
    ] {
        same(query, &tumble);
    }
    let cumulate = beside("bids", "cumulate(ts, INTERVAL '2' MINUTES, INTERVAL '10' MINUTES)", true);
    same(
        "SELECT a.x FROM b JOIN TABLE(CUMULATE(TABLE bids, DESCRIPTOR(ts), INTERVAL '2' MINUTES,
         INTERVAL '10' MINUTES)) AS a ON a.k = b.k",
        &format!("SELECT a.x FROM b JOIN {cumulate} AS a ON a.k = b.k"),
    );
}

#[test]
fn sessions_have_the_columns_that_they_are_partitioned_by() {
    let of = |keys: &str| {
        let session = beside("bids", &format!("session(ts, INTERVAL '5' MINUTES{keys})"), true);
        format!("SELECT * FROM {session}")
    };
    let query = |relation: &str| {
        format!("SELECT * FROM TABLE(SESSION({relation}, DESCRIPTOR(ts), INTERVAL '5' MINUTES))")
    };
    same(&query("TABLE bids"), &of(""));
    same(&query("TABLE bids PARTITION BY item"), &of(", item"));
    same(&query("TABLE bids PARTITION BY (a, \"B\")"), &of(", a, \"B\""));
    same(
        &query("DATA => TABLE bids PARTITION BY (a)")
            .replace("DESC", "TIMECOL => DESC")
            .replace("INT", "GAP => INT"),
        &of(", a"),
    );
    same(
        "SELECT * FROM session(bids PARTITION BY a, ts, INTERVAL '5' MINUTES)",
        &of(", a").replace(", get_field(__window, 'end') - INTERVAL '1 millisecond' AS window_time", ""),
    );
}

#[test]
fn windows_are_found_wherever_a_relation_may_stand() {
    let tumble = beside("c", "tumble(ts, INTERVAL '1 s')", false);
    let call = "tumble(c, ts, INTERVAL '1 s')";
    for query in [
        "WITH c AS (SELECT 1 AS ts) SELECT * FROM {}",
        "SELECT a FROM b WHERE a IN (SELECT a FROM {})",
        "SELECT a FROM b UNION ALL SELECT a FROM {} AS d",
        "EXPLAIN SELECT * FROM {}",
    ] {
        same(&query.replace("{}", call), &query.replace("{}", &tumble));
    }
}

#[test]
fn group_windows_are_parts_of_one_call() {
    same(
        "SELECT TUMBLE_START(ts, INTERVAL '1' DAY), hop_end(ts, INTERVAL '1' DAY, INTERVAL '2' DAY),
         session_rowtime(ts, INTERVAL '1' DAY) FROM bids GROUP BY TUMBLE(ts, INTERVAL '1' DAY)",
        "SELECT get_field(tumble(ts, INTERVAL '1' DAY), 'start'),
         get_field(hop(ts, INTERVAL '1' DAY, INTERVAL '2' DAY), 'end'),
         (get_field(session(ts, INTERVAL '1' DAY), 'end') - INTERVAL '1 millisecond')
         FROM bids GROUP BY TUMBLE(ts, INTERVAL '1' DAY)",
    );
    assert!(error("SELECT tumble_proctime(ts, INTERVAL '1' DAY) FROM bids").contains("tumble_rowtime"));
}

#[test]
fn spark_names_the_window_that_it_groups_by() {
    same(
        "SELECT window.start, window.end AS until, window, count(*) FROM bids GROUP BY window(ts, '10 minutes')
         HAVING window.end > now() ORDER BY window.start",
        "SELECT get_field(tumble(ts, INTERVAL '10 minutes'), 'start') AS start,
         get_field(tumble(ts, INTERVAL '10 minutes'), 'end') AS until,
         tumble(ts, INTERVAL '10 minutes') AS window, count(*)
         FROM bids GROUP BY tumble(ts, INTERVAL '10 minutes')
         HAVING get_field(tumble(ts, INTERVAL '10 minutes'), 'end') > now()
         ORDER BY get_field(tumble(ts, INTERVAL '10 minutes'), 'start')",
    );
    same(
        "SELECT window(ts, '10 minutes', '5 minutes'), window(ts, '1 day', '1 day', '1 hour'),
         session_window(ts, '5 minutes') FROM bids",
        "SELECT hop(ts, INTERVAL '5 minutes', INTERVAL '10 minutes'),
         tumble(ts, INTERVAL '1 day', INTERVAL '1 hour'), session(ts, INTERVAL '5 minutes') FROM bids",
    );
}

#[test]
fn a_window_that_cannot_be_says_how_it_is_written() {
    for (relation, part) in [
        ("tumble(bids, ts)", "expected tumble(relation, time, size [, offset]) or TUMBLE(TABLE relation"),
        (
            "TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '1 s'))",
            "expected hop(relation, time, slide, size",
        ),
        ("TUMBLE(DATA => TABLE bids, TIME => DESCRIPTOR(ts), SIZE => INTERVAL '1 s')", "found TIME => "),
        ("tumble(bids, ts, INTERVAL '1 s', DATA => TABLE bids)", "found DATA => bids"),
        ("tumble(1, ts, INTERVAL '1 s')", "expected a stream, table, view or query, found 1"),
        ("TUMBLE(TABLE bids PARTITION BY a, DESCRIPTOR(ts), INTERVAL '1 s')", "group by the columns beside"),
        ("TUMBLE(TABLE bids, DESCRIPTOR(a, b), INTERVAL '1 s')", "expected DESCRIPTOR(column)"),
        ("TUMBLE(TABLE bids PARTITION BY a", "Expected"),
        ("TUMBLE(TABLE bids PARTITION BY", "Expected"),
        ("TUMBLE(TABLE", "Expected"),
    ] {
        let message = error(&format!("SELECT * FROM {relation}"));
        assert!(message.contains(part), "{relation}: {message}");
    }
}

#[test]
fn syntax_errors_keep_their_place() {
    let message = error("SELECT * FROM TABLE(SESSION(TABLE bids PARTITION BY a, DESCRIPTOR(ts), ))");
    assert!(message.ends_with("Line: 1, Column: 72"), "{message}");
}

#[test]
fn one_statement_is_expected() {
    assert_eq!(error(" "), "expected a query, found nothing");
    assert_eq!(error("SELECT 1; SELECT 2"), "expected one query, found 2: send each by itself");
}
