use super::*;
use crate::testing::{EVENTS, World, canonical};
use arrow::array::{AsArray, Int64Array, StringArray};

fn by(filters: &[(&str, &str)]) -> ViewQuery {
    let filters = filters.iter().map(|(column, value)| (column.to_string(), value.to_string())).collect();
    ViewQuery { filters, ..ViewQuery::default() }
}

#[tokio::test]
async fn a_key_is_looked_up_as_the_long_way_finds_it() {
    let world = World::new().await;
    for (step, ends) in [[0, 0], [7, 5], [EVENTS, 33]].into_iter().enumerate() {
        if step > 0 {
            world.batch_to("delays", ends).await;
        }
        let serving = world.serving();
        // Twice, so that a plan that was run before is run again, with other states.
        for name in ["United", "JetBlue", "American", "Nobody", "", "United"] {
            let found = serving.look_up("delays", &by(&[("name", name)])).await.unwrap().unwrap();
            let long = serving.query(&format!("SELECT * FROM delays WHERE name = '{name}'")).await.unwrap();
            assert_eq!(canonical(&found.batches), canonical(&long.batches), "{name} after {ends:?}");
            let known = ["United", "JetBlue", "American"].contains(&name);
            assert_eq!((&found.coverage, found.num_rows()), (&long.coverage, usize::from(known)));
            assert_eq!(found.schema.fields(), long.schema.fields());
        }
    }
}

#[tokio::test]
async fn what_a_view_leaves_out_is_not_found() {
    let world = World::with(
        "CREATE MATERIALIZED VIEW busy AS SELECT carrier, count(*) AS n FROM flights GROUP BY carrier HAVING sum(delay) > 500",
    )
    .await;
    let serving = world.serving();
    let all = serving
        .query("SELECT carrier, sum(delay) > 500 AS busy FROM flights GROUP BY carrier")
        .await
        .unwrap();
    let (mut found, mut left_out) = (0, 0);
    for batch in &all.batches {
        let (carriers, busy) = (batch.column(0).as_string::<i32>(), batch.column(1).as_boolean());
        for row in 0..batch.num_rows() {
            let rows =
                serving.look_up("busy", &by(&[("carrier", carriers.value(row))])).await.unwrap().unwrap();
            assert_eq!(rows.num_rows(), usize::from(busy.value(row)), "{}", carriers.value(row));
            if busy.value(row) { found += 1 } else { left_out += 1 }
        }
    }
    assert!(found > 0 && left_out > 0, "{found} {left_out}");
}

#[tokio::test]
async fn what_is_not_one_key_goes_the_long_way() {
    let serving = World::new().await.serving();
    for (view, query) in [
        ("delays", by(&[])),
        ("delays", by(&[("flights", "1")])),
        ("delays", by(&[("name", "United"), ("flights", "1")])),
        ("delays", by(&[("name", "United"), ("name", "JetBlue")])),
        ("delays", by(&[("name[ne]", "United")])),
        ("delays", ViewQuery { order: Some("name".into()), ..by(&[("name", "United")]) }),
        ("delays", ViewQuery { limit: Some(0), ..by(&[("name", "United")]) }),
        ("totals", by(&[("n", "5")])),
        ("late", by(&[("carrier", "AA"), ("delay", "40")])),
        ("worst", by(&[("name", "United")])),
        ("none", by(&[("name", "United")])),
    ] {
        assert!(serving.look_up(view, &query).await.unwrap().is_none(), "{view} {query:?}");
    }
}

#[tokio::test]
async fn a_gap_is_no_answer_here_either() {
    let world = World::new().await;
    world.speed.script(|s| s.gap = true);
    let e = world.serving().look_up("delays", &by(&[("name", "United")])).await.unwrap_err();
    assert!(e.to_string().contains("offsets [7, 14) are missing"), "{e}");
}

#[tokio::test]
async fn lookups_at_the_same_time_do_not_meet() {
    let world = World::new().await;
    let serving = world.serving();
    let mut all = Vec::new();
    for i in 0..30 {
        let (serving, name) = (Arc::clone(&serving), ["United", "JetBlue", "American"][i % 3]);
        all.push(tokio::spawn(async move {
            let rows = serving.look_up("delays", &by(&[("name", name)])).await.unwrap().unwrap();
            let text = String::from_utf8(rows.encode(crate::Format::Ndjson).unwrap()).unwrap();
            assert!(text.contains(name) && rows.num_rows() == 1, "{name}: {text}");
        }));
    }
    for one in all {
        one.await.unwrap();
    }
    assert!(serving.finishers.idle.lock().unwrap().values().all(|idle| idle.len() <= KEPT));
}

#[test]
fn each_key_of_a_sorted_batch_is_found_and_no_other() {
    let keys = [(None, 1), (None, 4), (Some("a"), -3), (Some("a"), 2), (Some("b"), 2), (Some("é"), 0)];
    let names: StringArray = keys.iter().map(|(name, _)| *name).collect();
    let numbers = Int64Array::from_iter_values(keys.iter().map(|(_, n)| *n));
    let columns = [("k0", Arc::new(names) as ArrayRef), ("k1", Arc::new(numbers) as ArrayRef)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let probe = |name: Option<&str>, n: i64| -> Probe {
        vec![Arc::new(StringArray::from(vec![name])), Arc::new(Int64Array::from(vec![n]))]
    };
    for length in 0..=keys.len() {
        let part = batch.slice(0, length);
        for (row, (name, n)) in keys.iter().enumerate() {
            let expected = (row < length).then_some(row);
            assert_eq!(find(&part, &probe(*name, *n)).unwrap(), expected);
        }
        for (name, n) in [(None, 2), (Some("a"), 0), (Some("a"), 3), (Some("c"), 0), (Some(""), 0)] {
            assert_eq!(find(&part, &probe(name, n)).unwrap(), None);
        }
    }
}
