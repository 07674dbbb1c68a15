//! Floating-point numbers as keys: both zeros and NaNs with different bits, in any order.
//!
//! What the engine does, and what these tests hold it to: as a key, `-0` is `+0`; NaNs are one group for each pattern
//! of bits; and inside a struct or list every pattern of bits is a value of its own. So which events come first never
//! matters, neither for the groups nor for what stands for them.

use crate::events::{Event, cut, partitions};
use crate::laws::plans;
use crate::oracle::{finish, rows};
use crate::views::{NAMES, STREAMS};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;
use twofold_common::{Catalog, CutKind, Digest, Project};

/// Numbers that compare equal with other bits, or not at all.
fn strange() -> [Option<f64>; 8] {
    let nan = |bits: u64| Some(f64::from_bits(bits));
    let quiet = 0x7ff8_0000_0000_0000;
    [
        Some(0.0),
        Some(-0.0),
        nan(quiet),
        nan(quiet | 1),
        nan(quiet | 1 << 63),
        Some(1.5),
        Some(f64::INFINITY),
        None,
    ]
}

const VIEWS: &[(&str, &str)] = &[
    ("single", "SELECT x, count(*) AS c, max(n) AS hi FROM clicks GROUP BY x"),
    ("several", "SELECT k, x, count(*) AS c FROM clicks GROUP BY k, x"),
    ("real", "SELECT CAST(x AS REAL) AS r, count(*) AS c FROM clicks GROUP BY 1"),
    ("real_and_text", "SELECT CAST(x AS REAL) AS r, k, count(*) AS c FROM clicks GROUP BY 1, 2"),
    ("negated", "SELECT -x AS y, count(*) AS c FROM clicks GROUP BY 1"),
    ("rows_only", "SELECT DISTINCT x FROM clicks"),
    ("counted", "SELECT k, count(DISTINCT x) AS d, count(*) AS c FROM clicks GROUP BY k"),
    ("counted_alone", "SELECT count(DISTINCT x) AS d FROM clicks"),
    ("summed", "SELECT sum(DISTINCT x) AS s, count(*) AS c FROM clicks"),
    ("in_struct", "SELECT named_struct('x', x) AS s, count(*) AS c FROM clicks GROUP BY 1"),
    ("in_list", "SELECT make_array(x, 1.0) AS l, k, count(*) AS c FROM clicks GROUP BY 1, 2"),
    ("cubed", "SELECT k, x, count(*) AS c FROM clicks GROUP BY CUBE (k, x)"),
    ("unioned", "SELECT x FROM clicks UNION SELECT x FROM orders"),
    (
        "joined",
        "SELECT y, count(*) AS c FROM clicks JOIN (VALUES (-0.0), (1.5), (CAST('NaN' AS DOUBLE))) t(y) ON x = y \
         GROUP BY y",
    ),
    (
        "semi_joined",
        "SELECT x, count(*) AS c FROM clicks WHERE x IN (SELECT y FROM (VALUES (-0.0), (CAST('NaN' AS DOUBLE))) t(y)) \
         GROUP BY x",
    ),
];

async fn world() -> (TempDir, Arc<Catalog>) {
    let view = |(name, query): &(&str, &str)| format!("CREATE MATERIALIZED VIEW {name} AS {query};\n");
    let sql = STREAMS.to_string() + &VIEWS.iter().map(view).collect::<String>();
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("twofold.toml", ""), ("names.csv", NAMES), ("views.sql", &sql)] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let catalog = Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap();
    (dir, Arc::new(catalog))
}

fn events(xs: &[Option<f64>]) -> Vec<Event> {
    let event = |(i, x): (usize, &Option<f64>)| {
        // Whatever else an event has is a function of its number, so that events are the same in any order.
        let bits = x.map_or(7, |x| x.to_bits() >> 51 ^ x.to_bits());
        let k = [Some("a"), Some("b"), None][(bits % 3) as usize];
        Event { second: i as i64, k, n: Some(1), x: *x, ok: None, partition: 0, gap: 0 }
    };
    xs.iter().enumerate().map(event).collect()
}

/// The digests of a view's states over these events in this order, in pieces, and the view's rows.
async fn outcome(
    catalog: &Catalog,
    name: &str,
    xs: &[Option<f64>],
    cuts: &[f64],
) -> (Vec<Digest>, Vec<RecordBatch>) {
    let view = catalog.view(name).unwrap();
    assert!(view.cuts().iter().all(|cut| matches!(cut.kind(), CutKind::Aggregate { .. })), "{name}");
    let mut plans = plans(catalog, view).await;
    let batch = &partitions(catalog.stream("clicks").unwrap(), &events(xs))[0];
    let pieces: Vec<_> = cut(batch, cuts).into_iter().map(|piece| ("clicks", piece)).collect();
    let states = plans.fold(view, &pieces).await;
    let merged = plans.merge(&states).await;
    let digests = merged.iter().map(|state| state.digest().unwrap()).collect();
    let merged: Vec<_> = merged.into_iter().map(|state| vec![state]).collect();
    (digests, finish(catalog, view, &merged).await)
}

#[test]
fn law_identity_of_floats_as_keys() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_dir, catalog) = runtime.block_on(world());
    let cases = std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let xs = proptest::collection::vec(proptest::sample::select(strange().to_vec()), 1..14);
    let two_orders = xs.prop_flat_map(|xs| (Just(xs.clone()), Just(xs).prop_shuffle()));
    let cuts = || proptest::collection::vec(0.0f64..1.0, 0..4);
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    proptest!(config, |((one, other) in two_orders, fine in cuts(), coarse in cuts())| {
        runtime.block_on(async {
            for (name, query) in VIEWS {
                let (digests, expected) = outcome(&catalog, name, &one, &fine).await;
                let (others, found) = outcome(&catalog, name, &other, &coarse).await;
                assert_eq!(digests, others, "states of {name}: {query}");
                assert_eq!(rows(&expected), rows(&found), "rows of {name}: {query}");
            }
        });
    });
}

/// How many groups a view makes of the strange numbers, each of them once.
#[tokio::test]
async fn zeros_are_one_key_and_nans_are_told_apart_by_their_bits() {
    let (_dir, catalog) = world().await;
    for (name, groups) in
        [("single", 7), ("rows_only", 7), ("negated", 7), ("in_struct", 8), ("semi_joined", 2)]
    {
        let (_, rows) = outcome(&catalog, name, &strange(), &[0.4]).await;
        let found: usize = rows.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(found, groups, "{name}:\n{}", arrow::util::pretty::pretty_format_batches(&rows).unwrap());
    }
    // Here the engine by itself gives one more when other aggregates stand beside, and the same when none does.
    let (_, rows) = outcome(&catalog, "counted_alone", &strange(), &[0.4]).await;
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 6);
}
