use super::*;
use crate::query::Serving;
use crate::testing::World;
use std::time::Duration;
use twofold_common::Kind;

fn limited(world: &World, change: impl FnOnce(&mut LimitsConfig)) -> Arc<Serving> {
    let mut config = LimitsConfig::default();
    change(&mut config);
    let serving = Arc::into_inner(world.serving()).unwrap();
    Arc::new(serving.with_limits(Limits::new(&config)))
}

/// Longer than any of these tests: each value of three lists of a thousand with each other, sorted.
const LONG: &str = "SELECT a.value AS a, b.value AS b, c.value AS c FROM generate_series(1, 1000) a, \
                    generate_series(1, 1000) b, generate_series(1, 1000) c ORDER BY c.value % 7, a.value LIMIT 3";
/// Holds memory, and goes on for long.
const HOARDS: &str = "SELECT count(*) FROM (SELECT a.value % 1000003 AS k, b.value % 1009 AS l, count(*) AS n \
                      FROM generate_series(1, 100000) a, generate_series(1, 100000) b GROUP BY 1, 2)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_stopped_and_leaves_nothing() {
    let world = World::new().await;
    let serving = limited(&world, |limits| limits.query_timeout = Duration::from_millis(300));
    for sql in [LONG, HOARDS] {
        let started = tokio::time::Instant::now();
        let e = serving.query(sql).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(e.kind() == Kind::Unavailable && e.to_string().contains("`query_timeout`"), "{e}");
        assert_eq!((serving.limits.running(), serving.limits.reserved()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_query_and_its_memory_is_free() {
    let world = World::new().await;
    let serving = limited(&world, |_| {});
    let asked = tokio::spawn({
        let serving = Arc::clone(&serving);
        async move { serving.query(HOARDS).await }
    });
    let started = tokio::time::Instant::now();
    while serving.limits.reserved() < 1 << 20 {
        assert!(started.elapsed() < Duration::from_secs(30) && !asked.is_finished(), "it takes no memory");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(serving.limits.running(), 1);
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    assert_eq!((serving.limits.running(), serving.limits.reserved()), (0, 0));
}

#[tokio::test]
async fn an_answer_has_no_more_rows_than_it_may() {
    let world = World::new().await;
    let serving = limited(&world, |limits| limits.max_rows = 1000);
    let ask = async |n: u32| serving.query(&format!("SELECT * FROM generate_series(1, {n})")).await;
    assert_eq!(ask(1000).await.unwrap().num_rows(), 1000);
    let e = ask(1001).await.unwrap_err();
    assert!(e.kind() == Kind::Invalid && e.to_string().contains("more than 1000 rows"), "{e}");
}

#[tokio::test]
async fn a_query_takes_no_more_memory_than_it_may_neither_for_its_rows() {
    let world = World::new().await;
    let serving = limited(&world, |limits| limits.query_memory = 1 << 20);
    let gathered = "SELECT array_length(array_agg(value)) AS n FROM generate_series(1, 1000000)";
    for sql in [gathered, "SELECT * FROM generate_series(1, 999999)"] {
        let e = serving.query(sql).await.unwrap_err();
        assert!(e.kind() == Kind::Unavailable && e.to_string().contains("`query_memory`"), "{e}");
        assert_eq!(serving.limits.reserved(), 0);
    }
    assert_eq!(serving.query("SELECT 1").await.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_wait_for_their_turn_and_beyond_that_are_refused() {
    let world = World::new().await;
    let limits = Limits::new(&LimitsConfig { queries: 1, queries_waiting: 1, ..LimitsConfig::default() });
    let limits = Arc::new(limits);
    let first = limits.admit(&Access::trusted()).await.unwrap();
    let second = tokio::spawn({
        let limits = Arc::clone(&limits);
        async move { limits.admit(&Access::trusted()).await.map(drop) }
    });
    while limits.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let e = limits.admit(&Access::trusted()).await.unwrap_err();
    assert!(e.kind() == Kind::Busy && e.to_string().contains("1 queries run and 1 more wait"), "{e}");
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().unwrap();
    assert_eq!((limits.running(), limits.waiting()), (0, 0));
    drop(world);
}

#[tokio::test]
async fn the_queries_of_a_token_share_what_it_may_take() {
    let config = LimitsConfig { token_queries: 2, token_memory: 1000, ..LimitsConfig::default() };
    let limits = Limits::new(&config);
    let (a, b) = (Access::named("a"), Access::named("b"));
    let (first, second) = (limits.admit(&a).await.unwrap(), limits.admit(&a).await.unwrap());
    assert_eq!(limits.admit(&a).await.unwrap_err().kind(), Kind::Busy);
    let other = limits.admit(&b).await.unwrap();
    let reserve = |permit: &Permit| {
        let session = datafusion::prelude::SessionContext::new();
        let context = permit.context(session.task_ctx()).unwrap();
        MemoryConsumer::new("test").register(context.memory_pool())
    };
    let (one, two, three) = (reserve(&first), reserve(&second), reserve(&other));
    one.try_grow(600).unwrap();
    let e = Error::from(two.try_grow(600).unwrap_err());
    assert!(e.to_string().contains("`token_memory`"), "{e}");
    three.try_grow(600).unwrap();
    drop(one);
    two.try_grow(600).unwrap();
    assert_eq!(limits.reserved(), 1200);
    drop((two, three, first));
    assert_eq!(limits.reserved(), 0);
    assert!(limits.admit(&a).await.is_ok());
}
