use super::*;
use crate::moment::TRIES;
use crate::testing::{EVENTS, World, canonical};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::json;
use twofold_common::{Answer, Offset, OffsetRange, Partition};

const QUERIES: [&str; 11] = [
    "SELECT * FROM delays",
    "SELECT * FROM totals",
    "SELECT * FROM late",
    "SELECT * FROM worst",
    "SELECT * FROM flights",
    "SELECT _partition, _offset, delay FROM flights WHERE _offset >= 5",
    "SELECT count(*) FROM flights",
    "SELECT d.name, d.flights, t.n FROM delays d CROSS JOIN totals t WHERE d.worst > 3",
    "SELECT name, (SELECT count(*) FROM flights) AS all_flights FROM delays",
    "SELECT x.carrier, count(*) FROM flights x JOIN flights y ON x.carrier = y.carrier AND x.delay = y.delay GROUP BY 1",
    "SELECT a.name, l.delay FROM late l LEFT JOIN airlines a USING (carrier)",
];

async fn assert_all_equal(world: &World, what: &str) {
    // Without these columns a star would show what the plain query's table has beside the stream's own.
    let serving = world.serving();
    for sql in QUERIES {
        let plain = sql.replace("* FROM flights", "carrier, delay FROM flights");
        let got = serving.query(sql).await.unwrap_or_else(|e| panic!("{what}: {sql}: {e}"));
        let expected = world.plain(if sql.contains("count(*)") { sql } else { &plain }).await;
        assert_eq!(canonical(&got.batches), canonical(&expected), "{what}: {sql}");
    }
}

#[tokio::test]
async fn any_cut_gives_the_answer_of_one_plain_query() {
    let world = World::new().await;
    assert_all_equal(&world, "speed only").await;
    for (step, ends) in [[0, 5], [7, 5], [12, 33], [EVENTS, EVENTS]].into_iter().enumerate() {
        world.archive_to(ends).await;
        // Each view has a horizon of its own.
        let view = ["delays", "totals", "late", "delays"][step];
        world.batch_to(view, ends).await;
        assert_all_equal(&world, &format!("{view} at {ends:?}")).await;
    }
    for view in ["totals", "late"] {
        world.batch_to(view, [EVENTS, EVENTS]).await;
    }
    assert_all_equal(&world, "batch only").await;
}

#[tokio::test]
async fn coverage_tells_what_came_from_where() {
    let world = World::new().await;
    world.archive_to([10, 0]).await;
    world.batch_to("delays", [7, 0]).await;
    let rows =
        world.serving().query("SELECT name, (SELECT count(*) FROM flights) FROM delays").await.unwrap();
    let mut told: Vec<_> =
        rows.coverage.iter().map(|c| (c.relation.as_str(), c.partition, c.batch.end, c.speed)).collect();
    told.sort();
    let speed = |from| OffsetRange::new(Offset(from), Offset(EVENTS));
    assert_eq!(
        told,
        [
            ("delays", Partition(0), Offset(7), speed(7)),
            ("delays", Partition(1), Offset(0), speed(0)),
            ("flights", Partition(0), Offset(10), speed(10)),
            ("flights", Partition(1), Offset(0), speed(0)),
        ]
    );
    assert_eq!(world.speed.script(|s| s.asked.len()), 1);
}

#[tokio::test]
async fn a_query_over_tables_needs_no_speed_layer() {
    let world = World::new().await;
    let rows = world.serving().query("SELECT * FROM airlines WHERE carrier <> 'AA'").await.unwrap();
    assert_eq!((rows.num_rows(), rows.coverage.len()), (2, 0));
    assert_eq!(world.speed.script(|s| s.asked.len()), 0);
}

#[tokio::test]
async fn what_was_retired_is_taken_from_the_newer_manifest() {
    let world = World::new().await;
    world.batch_to("totals", [5, 5]).await;
    world.speed.script(|s| s.floor = 20);
    let serving = world.serving();
    let publish = async {
        while world.speed.script(|s| s.asked.is_empty()) {
            tokio::task::yield_now().await;
        }
        world.batch_to("totals", [20, 20]).await;
    };
    let (rows, ()) = tokio::join!(serving.query("SELECT n FROM totals"), publish);
    let rows = rows.unwrap();
    assert_eq!(rows.batches[0].column(0).as_primitive::<Int64Type>().value(0), 2 * EVENTS as i64);
    assert_eq!(rows.coverage[0].batch.end, Offset(20));
}

#[tokio::test]
async fn without_a_newer_manifest_there_is_no_answer() {
    let world = World::new().await;
    world.speed.script(|s| s.floor = 20);
    let e = world.serving().query("SELECT n FROM totals").await.unwrap_err();
    assert!(e.kind() == Kind::Unavailable && e.to_string().contains("dropped a part of totals"), "{e}");
    assert_eq!(world.speed.script(|s| s.asked.len()), TRIES as usize);
}

#[tokio::test]
async fn a_gap_is_an_error_and_never_an_answer() {
    let world = World::new().await;
    world.speed.script(|s| s.gap = true);
    let e = world.serving().query("SELECT n FROM totals").await.unwrap_err();
    assert_eq!(e.kind(), Kind::Internal);
    assert!(
        e.to_string().contains("totals: stream flights, partition 0: offsets [7, 14) are missing"),
        "{e}"
    );
}

#[tokio::test]
async fn what_the_speed_layer_cannot_give_is_told() {
    let world = World::new().await;
    let told = async |answer| {
        world.speed.script(|s| s.instead = Some(answer));
        world.serving().query("SELECT n FROM totals").await.unwrap_err()
    };
    let e = told(Answer::Building { view: "totals".into(), done: 1_203_000, total: 2_800_000 }).await;
    let expected = "view totals is being built: 42 % (1,203,000 of 2,800,000 events folded); try again later";
    assert_eq!((e.kind(), e.to_string().as_str()), (Kind::Unavailable, expected));
    let e = told(Answer::Unknown { view: "totals".into() }).await;
    assert!(
        e.kind() == Kind::Unavailable && e.to_string().contains("another definition of view totals"),
        "{e}"
    );
    let e = told(Answer::Failed { view: "totals".into(), reason: "divide by zero".into() }).await;
    assert!(e.kind() == Kind::Invalid && e.to_string().contains("divide by zero"), "{e}");
}

#[tokio::test]
async fn states_of_other_columns_are_corrupt() {
    let world = World::new().await;
    let serving = world.serving();
    serving.query("SELECT * FROM late").await.unwrap();
    let asked = world.speed.script(|s| s.asked[0].clone());
    let of_late = world.speed.snapshot(&asked).await.unwrap();
    world.speed.script(|s| s.instead = Some(of_late));
    let e = serving.query("SELECT * FROM totals").await.unwrap_err();
    assert!(e.kind() == Kind::Corrupt && e.to_string().contains("expected the columns ("), "{e}");
}

#[tokio::test]
async fn a_batch_state_is_read_once() {
    let world = World::new().await;
    world.batch_to("delays", [20, 20]).await;
    let (warm, cold) = (world.serving(), world.serving());
    let before = warm.query("SELECT * FROM delays").await.unwrap();
    let manifest = world.batch_views.latest("delays", &fingerprint(&world, "delays")).await.unwrap().unwrap();
    for file in manifest.body.cuts.iter().flatten() {
        world.store.delete(&file.path).await.unwrap();
    }
    let after = warm.query("SELECT * FROM delays").await.unwrap();
    assert_eq!(canonical(&before.batches), canonical(&after.batches));
    let e = cold.query("SELECT * FROM delays").await.unwrap_err();
    assert!(e.kind() == Kind::Corrupt && e.to_string().contains("a manifest names it"), "{e}");
}

fn fingerprint(world: &World, view: &str) -> String {
    world.catalog.view(view).unwrap().fingerprint().to_string()
}

#[tokio::test]
async fn an_archived_file_that_is_gone_is_corrupt() {
    let world = World::new().await;
    world.archive_to([20, 20]).await;
    let manifest = world.archive.manifest("flights").await.unwrap().unwrap();
    world.store.delete(&manifest.body.segments[&Partition(1)][0].path).await.unwrap();
    let e = world.serving().query("SELECT count(delay) FROM flights").await.unwrap_err();
    assert!(e.kind() == Kind::Corrupt && e.to_string().contains("it is gone"), "{e}");
}

#[tokio::test]
async fn a_view_is_filtered_by_column_values() {
    let world = World::new().await;
    let serving = world.serving();
    let query = |pairs: &[(&str, &str)], limit| ViewQuery {
        filters: pairs.iter().map(|(c, v)| (c.to_string(), v.to_string())).collect(),
        limit,
        ..ViewQuery::default()
    };
    let count =
        async |view: &str, query: ViewQuery| serving.query_view(view, &query).await.unwrap().rows.num_rows();
    let two = query(&[("name", "United"), ("name", "JetBlue")], None);
    let rows = serving.query_view("delays", &two).await.unwrap().rows;
    let plain = world.plain("SELECT * FROM delays WHERE name IN ('United', 'JetBlue')").await;
    assert_eq!(canonical(&rows.batches), canonical(&plain));
    let n = (2 * EVENTS).to_string();
    assert_eq!(count("totals", query(&[("n", &n)], None)).await, 1);
    assert_eq!(count("totals", query(&[("n", "0")], None)).await, 0);
    assert_eq!(count("worst", query(&[], Some(1))).await, 1);

    let e = serving.query_view("delays", &query(&[("nome", "x")], None)).await.unwrap_err();
    assert_eq!(e.to_string(), "view delays has no column nome; it has: name, flights, mean, worst");
    assert_eq!(serving.query_view("nothing", &query(&[], None)).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn comparisons_are_those_of_sql() {
    let world = World::new().await;
    let serving = world.serving();
    let compared = [
        (&[("delay[gt]", "40")][..], "delay > 40"),
        (&[("delay[gte]", "40"), ("delay[lt]", "60")], "delay >= 40 AND delay < 60"),
        (&[("delay[lte]", "50"), ("carrier", "AA")], "delay <= 50 AND carrier = 'AA'"),
        (&[("carrier[ne]", "AA"), ("carrier[ne]", "UA")], "carrier NOT IN ('AA', 'UA')"),
        (&[("carrier[eq]", "AA"), ("carrier", "UA")], "carrier IN ('AA', 'UA')"),
        (&[("delay[null]", "false"), ("carrier[null]", "false")], "delay IS NOT NULL"),
        (&[("delay[null]", "true")], "delay IS NULL"),
    ];
    for (filters, condition) in compared {
        let filters = filters.iter().map(|(c, v)| (c.to_string(), v.to_string())).collect();
        let query = ViewQuery { filters, ..ViewQuery::default() };
        let rows = serving.query_view("late", &query).await.unwrap().rows;
        let plain = world.plain(&format!("SELECT * FROM late WHERE {condition}")).await;
        assert_eq!(canonical(&rows.batches), canonical(&plain), "{condition}");
    }
    let told = async |filter: &str, value: &str| {
        let filters = vec![(filter.to_string(), value.to_string())];
        let query = ViewQuery { filters, ..ViewQuery::default() };
        serving.query_view("late", &query).await.unwrap_err().to_string()
    };
    assert!(told("delay[like]", "4").await.contains("there is no comparison like; there are: eq, ne, lt"));
    assert!(told("delay[null]", "maybe").await.contains("expected \"true\" or \"false\""));
    assert!(told("delay[gt]", "x").await.contains("expected BIGINT"));
    assert!(told("carrier.code", "x").await.contains("has no column carrier.code"));
}

#[tokio::test]
async fn parameters_stand_for_values() {
    let serving = World::new().await.serving();
    let answer = async |sql: &str, values: Value| {
        let rows = serving.query_with(sql, values.as_array().unwrap(), None).await;
        rows.map(|rows| texts(&rows)).unwrap_or_else(|e| e.to_string())
    };
    let all = (2 * EVENTS).to_string();
    assert_eq!(answer("SELECT n FROM totals WHERE n = $1", json!([2 * EVENTS])).await, all);
    assert_eq!(answer("SELECT n FROM totals WHERE n = $1", json!([all])).await, all);
    let quoted = "SELECT name FROM airlines WHERE carrier = $1 AND name <> $2 ORDER BY 1";
    assert_eq!(answer(quoted, json!(["AA", "x' OR 'a' = 'a"])).await, "American");
    assert_eq!(answer("SELECT $1 + 1 AS a, $2 AS b, $3 AS c", json!([1.5, null, true])).await, "2.5,,true");
    assert_eq!(answer("SELECT CAST($1 AS TEXT) || $1 AS a", json!(["é"])).await, "éé");
    let at = "SELECT n FROM totals WHERE TIMESTAMP '2013-01-01 10:00:00' > $1";
    assert_eq!(answer(at, json!(["2013-01-01T09:00:00"])).await, all);
    for (values, reason) in [
        (json!([]), "has 1 parameter, and 0 values were given"),
        (json!([1, 2]), "has 1 parameter, and 2 values were given"),
        (json!([[1]]), "parameter $1: expected null, a boolean, a number or text, found a list"),
    ] {
        let told = answer("SELECT n FROM totals WHERE n = $1", values).await;
        assert!(told.contains(reason), "{told}");
    }
    assert!(answer("SELECT $name", json!([1])).await.contains("parameters are called $1"));
}

#[tokio::test]
async fn a_limit_holds_across_archive_and_tail() {
    let world = World::new().await;
    world.archive_to([3, 0]).await;
    for (limit, expected) in [(0, 0), (2, 2), (50, 50), (1000, 2 * EVENTS as usize)] {
        let rows = world.serving().query(&format!("SELECT * FROM flights LIMIT {limit}")).await.unwrap();
        assert_eq!((rows.num_rows(), rows.schema.fields().len()), (expected, 2));
    }
}

#[tokio::test]
async fn only_queries_are_answered() {
    let serving = World::new().await.serving();
    for sql in
        ["DROP TABLE airlines", "CREATE TABLE t AS SELECT 1", "SELEC 1", "SELECT * FROM nowhere", "SET a = 1"]
    {
        let e = serving.query(sql).await.unwrap_err();
        assert!(matches!(e.kind(), Kind::Invalid | Kind::NotFound), "{sql}: {e}");
    }
    assert_eq!(serving.query("SELECT now() > to_timestamp('2020-01-01') AS b").await.unwrap().num_rows(), 1);
}

fn texts(rows: &Rows) -> String {
    let csv = rows.encode(crate::Format::Csv).unwrap();
    String::from_utf8(csv).unwrap().lines().skip(1).collect::<Vec<_>>().join(";")
}

#[tokio::test]
async fn is_final_tells_of_the_watermark_of_the_answer() {
    let world = World::new().await;
    let answer = async |sql: &str| texts(&world.serving().query(sql).await.unwrap());
    // The least of the two partitions is 10:00:00; the other has come a nanosecond further.
    let ends = "is_final(TIMESTAMP '2013-01-01 10:00:00') AS a, is_final(TIMESTAMP '2013-01-01 10:00:00.000000001') AS b";
    assert_eq!(answer(&format!("SELECT {ends} FROM totals")).await, "true,false");
    assert_eq!(answer(&format!("SELECT {ends} FROM flights LIMIT 1")).await, "true,false");
    assert_eq!(answer(&format!("SELECT {ends} FROM airlines LIMIT 1")).await, "false,false");
    assert_eq!(
        answer("SELECT n FROM totals WHERE is_final(TIMESTAMP '2013-01-01 10:00:00')").await,
        (2 * EVENTS).to_string()
    );
}

#[tokio::test]
async fn coverage_is_a_relation_that_tells_of_the_very_answer() {
    let world = World::new().await;
    world.batch_to("totals", [10, 0]).await;
    let serving = world.serving();
    let of_answer = "SELECT c.relation, c.partition, c.batch_end, c.speed_end, c.watermark, t.n \
                     FROM totals t CROSS JOIN twofold_coverage c ORDER BY 2";
    let rows = serving.query(of_answer).await.unwrap();
    let (all, end) = (2 * EVENTS, EVENTS);
    let expected = format!(
        "totals,0,10,{end},2013-01-01T10:00:00,{all};totals,1,0,{end},2013-01-01T10:00:00.000000001,{all}"
    );
    assert_eq!((texts(&rows), rows.coverage.len()), (expected, 2));
    // Alone it tells of all views that answer: one is being built. Nothing is asked for then.
    let asked = world.speed.script(|s| s.asked.len());
    let alone =
        "SELECT DISTINCT relation, stream, batch_end, speed_end, idle FROM twofold_coverage ORDER BY 1, 3";
    let folded = EVENTS - 2;
    let rows = serving.query(alone).await.unwrap();
    let expected = format!(
        "delays,flights,0,{folded},false;totals,flights,0,{folded},false;totals,flights,10,{folded},false"
    );
    assert_eq!((texts(&rows), world.speed.script(|s| s.asked.len())), (expected, asked));
}

#[tokio::test]
async fn an_answer_that_would_be_too_stale_is_refused_and_says_so() {
    let world = World::new().await;
    let query = ViewQuery { max_staleness: Some(Duration::from_millis(200)), ..ViewQuery::default() };
    world.serving().query_view("totals", &query).await.unwrap();
    assert_eq!(world.speed.script(|s| s.asked[0].max_staleness), query.max_staleness);
    let stale = Answer::Stale { staleness: Duration::from_millis(1500) };
    world.speed.script(|s| s.instead = Some(stale));
    let e = world.serving().query_view("totals", &query).await.unwrap_err();
    let expected = "the answer would be 1500 ms stale, and 200 ms are allowed (max_staleness): try again later, or \
                    allow more";
    assert_eq!((e.kind(), e.to_string().as_str()), (Kind::Unavailable, expected));
}

#[tokio::test]
async fn late_events_are_a_relation_like_any_other() {
    let world = World::new().await;
    let sql = "SELECT l.stream, l.view, partition, window_start, window_end, l.count, worst_lateness_ms, t.n \
               FROM twofold_late_events l CROSS JOIN totals t";
    let rows = world.serving().query(sql).await.unwrap();
    let all = 2 * EVENTS;
    let expected = format!("flights,totals,1,1970-01-01T00:00:00,1970-01-01T00:01:00,3,1,{all}");
    assert_eq!(texts(&rows), expected);
    let alone = world.serving().query("SELECT sum(count) FROM twofold_late_events").await.unwrap();
    assert_eq!((texts(&alone).as_str(), alone.coverage.len()), ("3", 0));
    let plain = world.serving().query("SELECT n FROM totals").await.unwrap();
    assert_eq!(texts(&plain), all.to_string());
    let asked = world.speed.script(|s| s.asked.iter().map(|r| r.late_events).collect::<Vec<_>>());
    assert_eq!(asked, [true, true, false]);
}
