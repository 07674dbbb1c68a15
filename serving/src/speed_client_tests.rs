use super::*;
use crate::testing::{FoldingSpeed, World, canonical};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;
use tokio::net::TcpListener;
use twofold_common::{IdempotencyKey, Kind};

/// The speed layer's side of the protocol.
fn server(speed: Arc<FoldingSpeed>) -> Router {
    type Speed = State<Arc<FoldingSpeed>>;
    fn answer<T>(result: Result<T>, good: impl FnOnce(T) -> Body) -> Response {
        match result {
            Ok(value) => good(value).into_response(),
            Err(e) => {
                let status = StatusCode::from_u16(wire::status(e.kind())).unwrap();
                (status, Json(wire::body(&e))).into_response()
            }
        }
    }
    let json = |value: Vec<u8>| Body::from(value);
    let snapshot = async |State(speed): Speed, Json(request): Json<SnapshotRequest>| {
        answer(speed.snapshot(&request).await, |a| Body::from(a.to_bytes().unwrap()))
    };
    let ingest =
        async move |State(speed): Speed, Path(name): Path<String>, headers: HeaderMap, body: Bytes| {
            let format = headers[CONTENT_TYPE].to_str().unwrap();
            let key =
                headers.get(IDEMPOTENCY_KEY).map(|v| IdempotencyKey::from_header(v.as_bytes()).unwrap());
            let request = IngestRequest::new(name, format, body).with_key(key);
            answer(speed.ingest(request).await, |r| json(serde_json::to_vec(&r).unwrap()))
        };
    let seal = async |State(speed): Speed| answer(speed.seal().await, |()| Body::empty());
    let status = async move |State(speed): Speed| {
        answer(speed.status().await, |s| json(serde_json::to_vec(&s).unwrap()))
    };
    Router::new()
        .route("/speed/v1/snapshot", post(snapshot))
        .route("/speed/v1/streams/{name}", post(ingest))
        .route("/speed/v1/seal", post(seal))
        .route("/speed/v1/status", get(status))
        .with_state(speed)
}

async fn serve(router: Router) -> HttpSpeed {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    HttpSpeed::new(&format!("http://{address}/")).unwrap()
}

#[tokio::test]
async fn an_answer_over_http_is_the_same() {
    let world = World::new().await;
    world.archive_to([12, 3]).await;
    world.batch_to("delays", [12, 3]).await;
    let remote = world.serving_with(Arc::new(serve(server(Arc::clone(&world.speed))).await));
    for sql in
        ["SELECT * FROM delays", "SELECT * FROM late", "SELECT carrier, count(*) FROM flights GROUP BY 1"]
    {
        let (far, near) = (remote.query(sql).await.unwrap(), world.serving().query(sql).await.unwrap());
        assert_eq!(canonical(&far.batches), canonical(&near.batches), "{sql}");
        assert_eq!(far.coverage, near.coverage, "{sql}");
    }
}

#[tokio::test]
async fn everything_else_is_passed_on_too() {
    let world = World::new().await;
    let speed = serve(server(Arc::clone(&world.speed))).await;
    let key = IdempotencyKey::new("k-1").ok();
    let request = IngestRequest::new("flights", "text/csv", "x").with_key(key.clone());
    let receipt = speed.ingest(request).await.unwrap();
    assert_eq!(world.speed.script(|s| s.keys.clone()), [key]);
    assert_eq!((receipt.accepted, receipt.reasons), (3, vec!["because".to_string()]));
    assert_eq!(world.speed.script(|s| s.appended[0].1.clone()), "text/csv");
    speed.seal().await.unwrap();
    assert_eq!(world.speed.script(|s| s.sealed), 1);
    assert_eq!(speed.status().await.unwrap().epochs, 11);
}

#[tokio::test]
async fn errors_keep_their_kind_and_message() {
    let world = World::new().await;
    let speed = serve(server(Arc::clone(&world.speed))).await;
    let far = speed.ingest(IngestRequest::new("a/b c", "text/csv", "x")).await.unwrap_err();
    let near = world.speed.ingest(IngestRequest::new("a/b c", "text/csv", "x")).await.unwrap_err();
    assert_eq!((far.kind(), far.to_string()), (Kind::NotFound, near.to_string()));
}

#[tokio::test]
async fn a_speed_layer_that_is_not_there_is_named_with_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let speed = HttpSpeed::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let world = World::new().await;
    let e = world.serving_with(Arc::new(speed)).query("SELECT n FROM totals").await.unwrap_err();
    let expected = format!("the speed layer at http://127.0.0.1:{port} cannot be reached");
    assert!(e.kind() == Kind::Unavailable && e.to_string().starts_with(&expected), "{e}");
    assert!(e.to_string().contains("start it with `twofold speed`"), "{e}");
}

#[tokio::test]
async fn another_server_at_the_address_is_no_speed_layer() {
    let speed = serve(Router::new().fallback(async || "hello")).await;
    assert_eq!(speed.status().await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(speed.snapshot(&SnapshotRequest::default()).await.unwrap_err().kind(), Kind::Corrupt);
    let speed = serve(Router::new()).await;
    assert_eq!(speed.status().await.unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn an_address_that_is_none_is_refused() {
    for address in ["127.0.0.1:8661", "", "ftp://x", "mailto:a@b"] {
        let e = HttpSpeed::new(address).unwrap_err();
        assert!(e.kind() == Kind::Invalid && e.to_string().contains("http://127.0.0.1:8661"), "{e}");
    }
}
