//! Windows of time in views and queries: what a query reads of them, and what is refused.

use crate::events::{Event, events, partitions};
use crate::oracle::{answer, assert_same, finish, plain};
use crate::views::{STREAMS, catalog, catalog_of};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use proptest::prelude::*;
use std::sync::Arc;
use twofold_common::scan::{Source, bind};
use twofold_common::{Catalog, Folder, State, StateTable, View};

/// The states of the pieces of one stream, for each cut.
pub async fn states(catalog: &Catalog, view: &View, stream: &str, pieces: &[RecordBatch]) -> Vec<Vec<State>> {
    let mut states = Vec::new();
    for cut in view.cuts() {
        let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
        let mut folder = Folder::try_new(catalog.session(), cut, schema).await.unwrap();
        let mut folded = Vec::new();
        for piece in pieces {
            folded.push(folder.fold(stream, std::slice::from_ref(piece)).await.unwrap());
        }
        states.push(folded);
    }
    states
}

/// The rows of a query over views with these states, and its optimized plan.
pub async fn query(catalog: &Catalog, sql: &str, states: &[Vec<State>]) -> (Vec<RecordBatch>, String) {
    let plan = catalog.plan(sql).await.unwrap();
    let bound = bind(plan, |source| {
        let Source::State { view, cut, .. } = source else { panic!("{source:?}") };
        let view = catalog.view(view)?;
        let cut_of_view = &view.cuts()[*cut];
        let batches = states[*cut].iter().map(|s| s.batch().clone()).collect();
        Ok(Arc::new(StateTable::new(cut_of_view.schema().clone(), cut_of_view.keys(), batches)))
    });
    let frame = catalog.session().execute_logical_plan(bound.unwrap()).await.unwrap();
    let optimized = frame.clone().into_optimized_plan().unwrap().display_indent().to_string();
    (frame.collect().await.unwrap(), optimized)
}

/// What is left of the list of the windows that each pane is in.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    All,
    Within,
    None,
}

const FILTERS: &[(&str, Listed)] = &[
    ("w['end'] = TIMESTAMP '1970-01-01 00:00:14'", Listed::None),
    ("w['start'] = TIMESTAMP '1970-01-01 00:00:04' AND s > 1", Listed::None),
    (
        "w['start'] > TIMESTAMP '1970-01-01 00:00:08' AND w['start'] <= TIMESTAMP '1970-01-01 00:00:13'",
        Listed::None,
    ),
    (
        "w['start'] >= TIMESTAMP '1970-01-01 00:00:08' AND w['end'] <= TIMESTAMP '1970-01-01 00:00:22'",
        Listed::Within,
    ),
    (
        "w['start'] > TIMESTAMP '1970-01-01 00:00:08' AND w['start'] < TIMESTAMP '1970-01-01 00:00:17' AND k = 'a'",
        Listed::Within,
    ),
    ("TIMESTAMP '1970-01-01 00:00:30' < w['end']", Listed::Within),
    ("w['end'] = TIMESTAMP '1970-01-01 00:00:13'", Listed::Within),
    (
        "w['start'] > TIMESTAMP '1970-01-01 00:00:20' AND w['start'] < TIMESTAMP '1970-01-01 00:00:12'",
        Listed::Within,
    ),
    ("w['start'] <> TIMESTAMP '1970-01-01 00:00:20'", Listed::All),
    ("w['start'] = TIMESTAMP '1970-01-01 00:00:20' OR k = 'a'", Listed::All),
];

/// A query for few windows reads few panes, and finds what it would have found among all.
#[test]
fn a_filter_on_windows_prunes_panes_and_nothing_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_dir, project, catalog) = runtime.block_on(catalog(&["hops"]));
    let config = ProptestConfig { cases: 8, ..ProptestConfig::default() };
    proptest!(config, |(events in events(40))| {
        let pieces = partitions(&catalog.streams()["clicks"], &events);
        runtime.block_on(async {
            let oracle = plain(&project, &[("clicks", pieces.clone()), ("orders", Vec::new())]).await;
            let view = catalog.view("hops").unwrap();
            let states = states(&catalog, view, "clicks", &pieces).await;
            for (filter, listed) in FILTERS {
                let sql = format!("SELECT * FROM hops WHERE {filter}");
                let (rows, plan) = query(&catalog, &sql, &states).await;
                assert_same(filter, &rows, &answer(&oracle, &sql).await);
                let found = match (plan.contains("pane_windows_within"), plan.contains("pane_windows")) {
                    (true, _) => Listed::Within,
                    (_, true) => Listed::All,
                    _ => Listed::None,
                };
                assert_eq!(found, *listed, "{filter}\n{plan}");
            }
        });
    });
}

/// Whatever a view asks of windows that overlap, an event changes one row of each relation that is kept for it.
#[tokio::test]
async fn an_event_is_kept_once_however_many_windows_it_is_in() {
    let sql = "CREATE MATERIALIZED VIEW v AS
        SELECT k, hop(ts, INTERVAL '1 second', INTERVAL '10 minutes') AS w, count(*) AS c,
          count(DISTINCT n) AS d, median(x) AS m, first_value(n ORDER BY x) AS f, array_agg(n ORDER BY x) AS a
        FROM clicks GROUP BY 1, 2;";
    let (_dir, _project, catalog) = catalog_of(sql).await;
    let view = catalog.view("v").unwrap();
    let of = |i: i64| Event {
        second: i % 50,
        k: Some("a"),
        n: Some(i % 3),
        x: Some(0.1),
        ok: None,
        partition: 0,
        gap: 0,
    };
    let events: Vec<Event> = (0..40).map(of).collect();
    let pieces = partitions(&catalog.streams()["clicks"], &events);
    for (cut, states) in view.cuts().iter().zip(states(&catalog, view, "clicks", &pieces).await) {
        let rows: usize = states.iter().map(State::rows).sum();
        let lists = states.iter().flat_map(|s| s.batch().schema().fields().to_vec());
        let wide: Vec<_> = lists.filter(|f| matches!(f.data_type(), DataType::List(_))).collect();
        assert!((1..=events.len()).contains(&rows), "{rows} rows of {:?}", cut.meanings());
        assert!(wide.is_empty(), "{wide:?} of {:?}", cut.meanings());
    }
}

/// All windows of many panes are made of blocks, and are what they would be without.
#[tokio::test]
async fn all_of_many_windows_are_made_of_blocks() {
    let (_dir, _project, catalog) = catalog(&["many_hops"]).await;
    let view = catalog.view("many_hops").unwrap();
    let events: Vec<Event> = (0..40)
        .map(|i| Event {
            second: i * 7 % 40,
            k: Some("a"),
            n: Some(i),
            x: Some(0.1),
            ok: None,
            partition: 0,
            gap: 0,
        })
        .collect();
    let pieces = partitions(&catalog.streams()["clicks"], &events);
    let states = states(&catalog, view, "clicks", &pieces).await;
    let (all, plan) = query(&catalog, "SELECT * FROM many_hops", &states).await;
    assert!(plan.contains("block_windows") && !plan.contains("pane_windows"), "{plan}");
    let mut one_by_one = Vec::new();
    for start in -29..40 {
        let sql = format!(
            "SELECT * FROM many_hops WHERE w['start'] = TIMESTAMP '1970-01-01' + INTERVAL '{start} seconds'"
        );
        let (rows, plan) = query(&catalog, &sql, &states).await;
        // Of one window nothing is listed, and each state is merged once.
        assert!(!plan.contains("pane_windows") && plan.matches("Aggregate:").count() == 1, "{plan}");
        one_by_one.extend(rows);
    }
    assert_same("all windows", &all, &one_by_one);
}

/// A late event that lies between two sessions makes them one, in whatever piece it comes.
#[tokio::test]
async fn a_late_event_bridges_two_sessions() {
    let (_dir, _project, catalog) = catalog(&["sessions"]).await;
    let view = catalog.view("sessions").unwrap();
    let event = |second| Event { second, k: Some("a"), n: Some(1), x: None, ok: None, partition: 0, gap: 0 };
    let sessions = |seconds: Vec<i64>| {
        let catalog = catalog.clone();
        async move {
            let events: Vec<Event> = seconds.into_iter().map(event).collect();
            let all = partitions(&catalog.streams()["clicks"], &events)[0].clone();
            let pieces: Vec<RecordBatch> = (0..all.num_rows()).map(|i| all.slice(i, 1)).collect();
            let rows = finish(&catalog, view, &states(&catalog, view, "clicks", &pieces).await).await;
            rows.iter().map(RecordBatch::num_rows).sum::<usize>()
        }
    };
    assert_eq!(sessions(vec![0, 2, 8, 10]).await, 2);
    assert_eq!(sessions(vec![0, 2, 8, 10, 5]).await, 1, "5 is 3 seconds from 2 and from 8");
    assert_eq!(sessions(vec![0, 2, 8, 10, 4]).await, 2, "4 is 4 seconds from 8");
}

#[tokio::test]
async fn windows_without_a_meaning_are_refused_with_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("names.csv"), crate::views::NAMES).unwrap();
    for (query, part) in [
        ("SELECT k, session(ts, INTERVAL '5 seconds') AS w FROM clicks", "GROUP BY k, w"),
        (
            "SELECT k FROM clicks WHERE hop(ts, INTERVAL '1 second', INTERVAL '5 seconds')['start'] > ts",
            "subquery",
        ),
        (
            "SELECT n, count(*) AS c FROM SESSION(TABLE clicks PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND) \
             GROUP BY n, window_start, window_end",
            "grouped by these",
        ),
        ("SELECT tumble(ts, INTERVAL '1 month') AS w, count(*) AS c FROM clicks GROUP BY 1", "date_trunc"),
    ] {
        let sql = format!("{STREAMS} CREATE MATERIALIZED VIEW v AS {query};");
        std::fs::write(dir.path().join("views.sql"), sql).unwrap();
        let project = twofold_common::Project::load(dir.path()).unwrap();
        let message = Catalog::new(&project).await.unwrap_err().to_string();
        assert!(message.contains(part) && message.starts_with("views.sql:"), "{message}");
    }
}
