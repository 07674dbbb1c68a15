use super::*;
use crate::testing::World;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;
use twofold_common::{Kind, Store, Token, TokenRecord, Tokens};

fn scopes(ingest: &[&str], read: &[&str], admin: bool) -> Scopes {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    Scopes { ingest: set(ingest), read: set(read), admin }
}

/// A project's tokens, a gate over them, and the clock that both go by.
struct House {
    tokens: Tokens,
    gate: Arc<Gate>,
    now: Arc<AtomicI64>,
    local: Token,
    _stop: watch::Sender<bool>,
}

impl House {
    async fn new(exposed: bool) -> Self {
        let (tokens, now) = (Tokens::new(Store::memory()), Arc::new(AtomicI64::new(1_000)));
        let local = Token::random().unwrap();
        let time = Arc::clone(&now);
        let clock: Clock = Arc::new(move || time.load(Ordering::Relaxed));
        let gate = Gate::new(tokens.clone(), local, exposed, clock).await.unwrap();
        let (_stop, stop) = watch::channel(false);
        tokio::spawn(Arc::clone(&gate).run(stop));
        Self { tokens, gate, now, local, _stop }
    }

    async fn token(&self, name: &str, scopes: Scopes, expires: Option<i64>) -> String {
        let token = Token::random().unwrap();
        self.tokens.add(&TokenRecord::new(name, &token, scopes, 1, expires).unwrap()).await.unwrap();
        self.read_again().await;
        token.reveal()
    }

    /// Longer than the gate takes to look again.
    async fn read_again(&self) {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }

    async fn asks(&self, app: &Router, path: &str, token: Option<&str>) -> (StatusCode, String) {
        let guard =
            super::Guard { gate: Arc::clone(&self.gate), rules: Rules::Serving, origins: Origins::default() };
        let request = Request::get(path).header("host", "localhost");
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let app = super::guard(app.clone(), guard);
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers.contains_key("www-authenticate"), parts.status == StatusCode::UNAUTHORIZED);
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn the_gate_closes_with_the_first_token_and_stays_closed() {
    let house = House::new(false).await;
    assert!(house.gate.admit(None).unwrap().is_admin());
    let open = house.gate.admit(None).unwrap();
    let token = house.token("a", Scopes::all(), None).await;
    assert_eq!(house.gate.admit(None).unwrap_err().kind(), Kind::Unauthenticated);
    assert!(!house.gate.still_admits(&open), "who got in without a token does not stay in");
    let access = house.gate.admit(Some(&token)).unwrap();
    assert_eq!(access.name(), Some("a"));
    assert!(house.gate.admit(Some(&house.local.reveal())).unwrap().is_admin());
    let shut_out = tokio::spawn({
        let gate = Arc::clone(&house.gate);
        async move { gate.shut_out(&access).await }
    });
    house.tokens.revoke("a", 2).await.unwrap();
    house.read_again().await;
    assert_eq!(house.gate.admit(Some(&token)).unwrap_err().kind(), Kind::Unauthenticated);
    assert!(house.gate.admit(None).is_err(), "no token is left, and one is needed all the same");
    assert!(house.gate.scram("a").1.is_none());
    shut_out.await.unwrap();
}

#[tokio::test]
async fn a_token_expires_by_the_clock() {
    let house = House::new(false).await;
    let token = house.token("a", Scopes::all(), Some(2_000)).await;
    assert!(house.gate.admit(Some(&token)).is_ok() && house.gate.scram("a").1.is_some());
    let access = house.gate.scram("a").1.unwrap();
    house.now.store(2_000, Ordering::Relaxed);
    let e = house.gate.admit(Some(&token)).unwrap_err().to_string();
    assert!(e.contains("has expired"), "{e}");
    assert!(house.gate.scram("a").1.is_none() && !house.gate.still_admits(&access));
}

#[tokio::test]
async fn beyond_loopback_a_token_is_needed_from_the_start() {
    let house = House::new(true).await;
    assert!(house.gate.admit(None).is_err());
    assert!(house.gate.admit(Some(&house.local.reveal())).is_ok());
}

#[tokio::test]
async fn each_path_needs_its_scope() {
    let house = House::new(false).await;
    let ok = || async { "ok" };
    let app = Router::new()
        .route("/v1/streams/{name}", get(ok))
        .route("/v1/views/{name}", get(ok))
        .route("/v1/views/{name}/changes", get(ok))
        .route("/v1/sql", get(ok))
        .route("/v1/catalog", get(ok))
        .route("/v1/status", get(ok))
        .route("/v1/something/new", get(ok))
        .route("/metrics", get(ok))
        .route("/healthz", get(ok))
        .route("/", get(ok));
    let all = [
        "/",
        "/healthz",
        "/v1/sql",
        "/v1/catalog",
        "/v1/streams/s",
        "/v1/views/v",
        "/v1/views/%76/changes",
        "/v1/views/w",
        "/v1/streams/t",
        "/v1/status",
        "/v1/something/new",
        "/metrics",
    ];
    for path in all {
        assert_eq!(house.asks(&app, path, None).await.0, StatusCode::OK, "open: {path}");
    }
    let some = house.token("some", scopes(&["s"], &["v"], false), None).await;
    let admin = house.token("admin", Scopes::all(), None).await;
    for (at, path) in all.into_iter().enumerate() {
        let none = house.asks(&app, path, None).await.0;
        assert_eq!(none, if at < 2 { StatusCode::OK } else { StatusCode::UNAUTHORIZED }, "{path}");
        let (status, body) = house.asks(&app, path, Some(&some)).await;
        assert_eq!(status, if at < 7 { StatusCode::OK } else { StatusCode::FORBIDDEN }, "{path}: {body}");
        assert_eq!(house.asks(&app, path, Some(&admin)).await.0, StatusCode::OK, "{path}");
    }
    let (_, body) = house.asks(&app, "/v1/views/w", Some(&some)).await;
    assert!(body.contains("lacks the scope `read w`") && body.contains("ingest s; read v"), "{body}");
}

#[tokio::test]
async fn an_answer_that_goes_on_ends_with_the_token() {
    let house = House::new(false).await;
    let events = || async {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>("data: x\n\n"), ()))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(drops)).into_response()
    };
    let app = Router::new().route("/v1/views/{name}/changes", get(events));
    let token = house.token("a", scopes(&[], &["v"], false), None).await;
    let answer = house.asks(&app, "/v1/views/v/changes", Some(&token));
    let revoke = async {
        house.tokens.revoke("a", 2).await.unwrap();
    };
    let both = futures::future::join(answer, revoke);
    let ((status, body), ()) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("it ends");
    assert!(status == StatusCode::OK && body.starts_with("data: x"), "{body}");
}

#[tokio::test]
async fn a_query_needs_the_right_to_each_relation_that_it_names_and_no_other() {
    let world = World::new().await;
    let serving = world.serving();
    let house = House::new(false).await;
    let token = house.token("a", scopes(&[], &["totals", "worst"], false), None).await;
    let access = house.gate.admit(Some(&token)).unwrap();
    let ask = async |sql: &str| access.clone().scope(serving.query(sql)).await.map(|rows| rows.num_rows());
    assert_eq!(ask("SELECT n FROM totals").await.unwrap(), 1);
    assert_eq!(ask("SELECT * FROM worst").await.unwrap(), 2, "made of delays, which may not be read");
    assert_eq!(ask("SELECT 1").await.unwrap(), 1);
    for (sql, missing) in [
        ("SELECT * FROM flights", "flights"),
        ("SELECT * FROM totals, delays", "delays"),
        ("SELECT * FROM twofold.public.flights", "flights"),
        ("SELECT * FROM \"flights\"", "flights"),
        ("SELECT * FROM FLIGHTS", "flights"),
        ("SELECT n, (SELECT count(*) FROM flights) FROM totals", "flights"),
        ("SELECT n FROM totals WHERE EXISTS (SELECT 1 FROM airlines)", "airlines"),
        ("WITH x AS (SELECT * FROM flights) SELECT * FROM x", "flights"),
        ("WITH flights AS (SELECT * FROM flights) SELECT * FROM flights", "flights"),
        ("SELECT * FROM flights, (WITH flights AS (SELECT 1) SELECT * FROM flights) x", "flights"),
        ("SELECT n FROM totals UNION ALL SELECT count(*) FROM flights", "flights"),
        ("SELECT * FROM tumble(TABLE flights, DESCRIPTOR(_ingest_time), INTERVAL '1' HOUR)", "flights"),
        ("EXPLAIN SELECT * FROM flights", "flights"),
        ("SELECT * FROM twofold_late_events", "twofold_late_events"),
        ("SELECT * FROM nowhere", "nowhere"),
    ] {
        let e = ask(sql).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Forbidden, "{sql}: {e}");
        assert!(e.to_string().contains(&format!("`read {missing}`")), "{sql}: {e}");
    }
    assert!(ask("TABLE flights").await.is_err());
    assert!(serving.query("SELECT * FROM flights LIMIT 1").await.is_ok(), "the process itself");
}
