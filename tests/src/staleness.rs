//! How stale an answer may be: it is waited for, or refused.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use twofold_common::{Archive, BatchViews, Catalog, IngestRequest, Kind, Project, Result, SpeedLayer, Store};
use twofold_serving::Serving;
use twofold_speed::log::MemoryLog;
use twofold_speed::{Engine, EngineConfig};

const SQL: &str = "CREATE STREAM s (k TEXT, n BIGINT) WITH (partitions = 2, partition_by = 'k');
    CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM s;";

struct World {
    _dir: tempfile::TempDir,
    clock: Arc<AtomicI64>,
    engine: Arc<Engine>,
    serving: Serving,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
        std::fs::write(dir.path().join("views.sql"), SQL).unwrap();
        let project = Project::load(dir.path()).unwrap();
        let catalog = Arc::new(Catalog::new(&project).await.unwrap());
        let streams: Vec<_> = project.all_streams().collect();
        let (archive, views) = {
            let store = Store::memory();
            (Archive::new(store.clone()), BatchViews::new(store))
        };
        for stream in &streams {
            archive.declare(stream).await.unwrap();
        }
        let config = EngineConfig {
            state_path: dir.path().join("state.redb"),
            epoch_rows: 1000,
            epoch_interval: Duration::ZERO,
            segment_rows: 1000,
            segment_age: Duration::MAX,
            retire_grace: Duration::from_secs(1),
        };
        let clock = Arc::new(AtomicI64::new(1_000_000_000_000));
        let now = Arc::clone(&clock);
        let engine = Engine::open(
            config,
            Arc::clone(&catalog),
            Arc::new(MemoryLog::new(&streams)),
            archive.clone(),
            views.clone(),
            Arc::new(move || now.load(Ordering::SeqCst)),
        );
        let engine = engine.await.unwrap();
        let serving = Serving::new(catalog, archive, views, Arc::clone(&engine) as _);
        Self { _dir: dir, clock, engine, serving }
    }

    async fn ingest(&self, key: &str) {
        let event = format!("{{\"k\":\"{key}\",\"n\":1}}\n");
        self.engine.ingest(IngestRequest::new("s", "application/x-ndjson", event)).await.unwrap();
    }

    fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms * 1_000_000, Ordering::SeqCst);
    }

    /// How many events are in an answer that may be this stale.
    async fn count(&self, max_ms: u64) -> Result<i64> {
        let max = Some(Duration::from_millis(max_ms));
        let rows = self.serving.query_with("SELECT c FROM v", &[], max).await?;
        Ok(rows.batches.iter().map(|b| b.column(0).as_primitive::<Int64Type>().value(0)).sum())
    }
}

#[tokio::test]
async fn an_answer_is_as_stale_as_its_oldest_missing_event() {
    let world = World::new().await;
    world.ingest("a").await;
    world.engine.catch_up().await.unwrap();
    world.pass(60_000);
    assert_eq!(world.count(0).await.unwrap(), 1, "nothing is missing, however long ago the last came");
    world.ingest("a").await;
    world.pass(100);
    world.ingest("b").await;
    world.pass(200);
    assert_eq!(world.count(300).await.unwrap(), 1);
    let e = world.count(299).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.to_string().contains("would be 300 ms stale, and 299 ms are allowed"), "{e}");
    world.engine.catch_up().await.unwrap();
    assert_eq!(world.count(0).await.unwrap(), 3);
}

#[tokio::test]
async fn a_fresh_enough_answer_is_waited_for() {
    let world = World::new().await;
    let (stop, stopped) = watch::channel(false);
    let engine = Arc::clone(&world.engine);
    let run = tokio::spawn(async move { engine.run(stopped).await });
    // Until the loop runs: before, nothing is waited for.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for n in 1..=20 {
        world.ingest("a").await;
        world.pass(1000);
        assert_eq!(world.count(0).await.unwrap(), n);
    }
    stop.send_replace(true);
    run.await.unwrap();
}
