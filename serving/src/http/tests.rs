use super::*;
use crate::rows::Rows;
use crate::speed_client::HttpSpeed;
use crate::status::ViewState;
use crate::testing::{EVENTS, World, canonical};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use twofold_common::Answer;

async fn send(world: &World, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Bytes) {
    let response = app(world.serving()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
}

async fn get(world: &World, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = send(world, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn post(world: &World, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let (status, _, body) = send(world, Request::post(path).body(body.into()).unwrap()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn sql_gives_columns_rows_and_coverage() {
    let world = World::new().await;
    world.batch_to("totals", [10, 0]).await;
    let (status, answer) = post(&world, "/v1/sql", r#"{"sql": "SELECT n FROM totals"}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        answer,
        json!({
            "columns": [{"name": "n", "type": "BIGINT"}],
            "rows": [{"n": 2 * EVENTS}],
            "coverage": [
                {"relation": "totals", "stream": "flights", "partition": 0, "batch": [0, 10], "speed": [10, EVENTS],
                 "watermark": "2013-01-01T10:00:00Z"},
                {"relation": "totals", "stream": "flights", "partition": 1, "batch": [0, 0], "speed": [0, EVENTS],
                 "watermark": "2013-01-01T10:00:00.000000001Z"},
            ],
            "watermark": "2013-01-01T10:00:00Z",
        })
    );
}

#[tokio::test]
async fn rows_come_in_the_format_that_is_asked_for() {
    let world = World::new().await;
    let sql = r#"{"sql": "SELECT n FROM totals"}"#;
    let request = Request::post("/v1/sql?format=csv").body(Body::from(sql)).unwrap();
    let (_, headers, body) = send(&world, request).await;
    assert_eq!(body, format!("n\n{}\n", 2 * EVENTS));
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
    assert!(headers["twofold-coverage"].to_str().unwrap().contains("\"relation\":\"totals\""));
    assert_eq!(headers["twofold-watermark"], "2013-01-01T10:00:00Z");

    let arrow = "application/vnd.apache.arrow.stream";
    let request = Request::get("/v1/views/delays").header("accept", arrow).body(Body::empty()).unwrap();
    let (_, headers, body) = send(&world, request).await;
    assert_eq!(headers["content-type"], arrow);
    let rows = Rows::from_arrow(&body, "test").unwrap();
    assert_eq!(canonical(&rows.batches), canonical(&world.plain("SELECT * FROM delays").await));
    assert_eq!(rows.coverage.len(), 2);
}

#[tokio::test]
async fn a_view_is_read_with_filters_and_limit() {
    let world = World::new().await;
    let (status, answer) = get(&world, "/v1/views/delays?name=United&name=JetBlue&limit=1").await;
    assert_eq!((status, answer["rows"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let (_, answer) = get(&world, "/v1/views/delays?name=no%20one").await;
    assert_eq!(answer["rows"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_as_json() {
    let world = World::new().await;
    let gets = [
        ("/v1/views/none", 404, "there is no view none"),
        ("/v1/views/delays?nome=x", 400, "view delays has no column nome"),
        ("/v1/views/totals?n=many", 400, "column n: expected BIGINT, found \\\"many\\\""),
        ("/v1/views/totals?limit=-1", 400, "limit: expected a number"),
        ("/v1/views/totals?limit=1&limit=2", 400, "limit is given more than once"),
        ("/v1/views/totals?format=xml", 400, "there are: json, ndjson, csv, arrow"),
        ("/v1/views/totals?order=m", 400, "view totals has no column m; it has: n, total"),
        ("/v1/views/totals?order=n&cursor=x", 400, "cursor: that is none: begin with the first page"),
        ("/v1/views/totals?cursor=00", 400, "give `order`"),
        ("/v1/views/totals?n[like]=5", 400, "there is no comparison like"),
        ("/v1/views/none/changes", 404, "there is no view none"),
        ("/v1/views/delays/changes?limit=5", 400, "view delays has no column limit"),
        ("/v1/views/%FF", 400, "UTF-8"),
        ("/v2", 404, "there is nothing at /v2"),
        ("/v1/sql", 405, "does not take GET"),
    ];
    for (path, status, reason) in gets {
        let (found, body) = get(&world, path).await;
        assert!(
            found.as_u16() == status && body["error"].to_string().contains(reason),
            "{path}: {found} {body}"
        );
    }
    let posts = [
        ("/v1/sql", "", 400, "the body is not"),
        ("/v1/sql", "{\"sql\": 1}", 400, "the body is not"),
        ("/v1/sql", "{\"sql\": \"SELECT 1\", \"limit\": 3}", 400, "unknown field"),
        ("/v1/sql?x=1", "{\"sql\": \"SELECT 1\"}", 400, "there is no parameter x"),
        ("/v1/sql", "{\"sql\": \"SELECT $1\"}", 400, "has 1 parameter, and 0 values were given"),
        ("/v1/sql", "{\"sql\": \"SELECT 1\", \"parameters\": 1}", 400, "the body is not"),
        ("/v1/sql", "{\"sql\": \"SELECT nothing FROM totals\"}", 400, "nothing"),
        ("/v1/streams/none", "{}", 404, "there is no stream none"),
    ];
    for (path, body, status, reason) in posts {
        let (found, answer) = post(&world, path, body).await;
        assert!(
            found.as_u16() == status && answer["error"].to_string().contains(reason),
            "{path}: {found} {answer}"
        );
    }
    let (_, body) = get(&world, "/v1/views/none").await;
    assert_eq!(body["kind"], "not_found");
}

#[tokio::test]
async fn errors_are_problem_details() {
    let world = World::new().await;
    for (path, status) in [("/v1/views/none", 404), ("/v1/sql", 405), ("/v2", 404)] {
        let (_, headers, body) = send(&world, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["status"], &problem["detail"]), (&json!(status), &problem["error"]));
        assert!(problem["type"].as_str().unwrap().starts_with("urn:twofold:problem:"), "{problem}");
    }
}

#[tokio::test]
async fn pages_follow_their_cursors() {
    let world = World::new().await;
    let whole = get(&world, "/v1/views/late?order=delay.desc,carrier").await.1;
    assert!(whole.get("cursor").is_none());
    let (mut rows, mut query) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/views/late?order=delay.desc,carrier&limit=7{query}");
        let (status, page) = get(&world, &path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        rows.extend(page["rows"].as_array().unwrap().clone());
        let Some(cursor) = page["cursor"].as_str() else { break };
        query = format!("&cursor={cursor}");
    }
    assert_eq!(json!(rows), whole["rows"]);
    assert!(rows.len() > 20 && rows[0]["delay"].as_i64() > rows[20]["delay"].as_i64());
    let path = "/v1/views/late?order=delay&limit=1&format=csv";
    let (_, headers, _) = send(&world, Request::get(path).body(Body::empty()).unwrap()).await;
    assert!(headers["twofold-cursor"].len() > 20);
}

#[tokio::test]
async fn lines_of_json_have_the_coverage_in_headers() {
    let world = World::new().await;
    let request = Request::get("/v1/views/delays").header("accept", "application/x-ndjson");
    let (_, headers, body) = send(&world, request.body(Body::empty()).unwrap()).await;
    assert_eq!(headers["content-type"], "application/x-ndjson");
    assert!(headers["twofold-coverage"].to_str().unwrap().contains("\"relation\":\"delays\""));
    assert_eq!(String::from_utf8_lossy(&body).lines().count(), 3);
}

#[tokio::test]
async fn parameters_are_sent_apart_from_the_statement() {
    let world = World::new().await;
    let body = json!({"sql": "SELECT name FROM airlines WHERE carrier = $1", "parameters": ["B6"]});
    let (status, answer) = post(&world, "/v1/sql", body.to_string()).await;
    assert_eq!((status, &answer["rows"]), (StatusCode::OK, &json!([{"name": "JetBlue"}])));
}

#[tokio::test]
async fn how_stale_an_answer_may_be_is_said_in_any_of_three_ways() {
    let world = World::new().await;
    let body = r#"{"sql": "SELECT n FROM totals", "max_staleness": "3s"}"#;
    post(&world, "/v1/sql", body).await;
    post(&world, "/v1/sql?max_staleness=20ms", r#"{"sql": "SELECT n FROM totals"}"#).await;
    get(&world, "/v1/views/totals?max_staleness=0ms").await;
    let request = Request::get("/v1/views/totals").header("twofold-max-staleness", "1m");
    send(&world, request.body(Body::empty()).unwrap()).await;
    get(&world, "/v1/views/totals").await;
    let asked = world.speed.script(|s| s.asked.iter().map(|r| r.max_staleness).collect::<Vec<_>>());
    let ms = |ms| Some(std::time::Duration::from_millis(ms));
    assert_eq!(asked, [ms(3000), ms(20), ms(0), ms(60_000), None]);
    let (status, problem) = get(&world, "/v1/views/totals?max_staleness=soon").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        problem["detail"].as_str().unwrap().contains("max_staleness: expected a duration, as"),
        "{problem}"
    );
}

#[tokio::test]
async fn long_answers_are_compressed_as_the_client_accepts() {
    let world = World::new().await;
    let ask = async |path: &str, accept: &str| {
        let request = Request::get(path).header("accept-encoding", accept).body(Body::empty()).unwrap();
        let (_, headers, body) = send(&world, request).await;
        let encoding = headers.get("content-encoding").map(|v| v.to_str().unwrap().to_string());
        (encoding, body)
    };
    let (_, plain) = ask("/v1/views/late", "identity").await;
    for (accept, magic) in [("gzip", &[0x1f, 0x8b][..]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd])] {
        let (encoding, body) = ask("/v1/views/late", accept).await;
        assert_eq!(encoding.as_deref(), Some(accept));
        assert!(body.starts_with(magic) && body.len() < plain.len() / 2, "{} of {}", body.len(), plain.len());
    }
    assert_eq!(ask("/v1/views/totals", "gzip").await.0, None, "too short to be worth it");
    assert_eq!(ask("/v1/views/late", "br").await.0, None);
}

#[tokio::test]
async fn changes_come_event_by_event() {
    let world = World::new().await;
    world.speed.script(|s| s.end = 3);
    let request = Request::get("/v1/views/late/changes").header("accept-encoding", "gzip, zstd");
    let response = app(world.serving()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let headers = response.headers().clone();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(headers["content-type"], "text/event-stream");
    assert!(!headers.contains_key("content-encoding"), "an event would wait for the next");
    let mut events = response.into_body().into_data_stream();
    let mut next = async || String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
    let first = next().await;
    assert!(
        first.starts_with("event: rows\nid: 1\ndata: {\"key\":[\"carrier\",\"delay\"],\"columns\":["),
        "{first}"
    );
    assert!(first.ends_with("}\n\n") && first.trim_end().lines().count() == 3, "{first}");
    world.speed.script(|s| s.end = EVENTS);
    let second = next().await;
    assert!(second.starts_with("event: changes\nid: 2\ndata: {\"changed\":[{\"carrier\":"), "{second}");
}

#[tokio::test]
async fn a_view_that_is_being_built_is_503() {
    let world = World::new().await;
    let building = Answer::Building { view: "totals".into(), done: 1, total: 4 };
    world.speed.script(|s| s.instead = Some(building));
    let (status, body) = get(&world, "/v1/views/totals").await;
    assert_eq!((status.as_u16(), &body["kind"]), (503, &json!("unavailable")));
    assert!(body["error"].to_string().contains("25 %"), "{body}");
}

#[tokio::test]
async fn events_are_passed_on_with_their_type() {
    let world = World::new().await;
    let (status, receipt) = post(&world, "/v1/streams/flights", "{}").await;
    assert_eq!((status, &receipt["accepted"], &receipt["rejected"]), (StatusCode::OK, &json!(3), &json!(1)));
    for given in ["text/csv", "application/x-www-form-urlencoded"] {
        let request =
            Request::post("/v1/streams/flights").header("content-type", given).body(Body::from("x"));
        send(&world, request.unwrap()).await;
    }
    let appended = world.speed.script(|s| s.appended.clone());
    let formats: Vec<_> = appended.iter().map(|(_, format, _)| format.as_str()).collect();
    assert_eq!(formats, ["application/x-ndjson", "text/csv", "application/x-ndjson"]);
    assert_eq!(appended[0].2, "{}");
}

#[tokio::test]
async fn the_key_of_a_request_is_passed_on() {
    let world = World::new().await;
    for key in ["k-1", "no key"] {
        let request = Request::post("/v1/streams/flights").header("Idempotency-Key", key);
        let (status, _, _) = send(&world, request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(status == StatusCode::OK, key == "k-1");
    }
    post(&world, "/v1/streams/flights", "{}").await;
    let keys = world.speed.script(|s| s.keys.clone());
    assert_eq!(keys, [Some(twofold_common::IdempotencyKey::new("k-1").unwrap()), None]);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_and_not_passed_on() {
    let world = World::new().await;
    let (status, body) = post(&world, "/v1/streams/flights", vec![b'\n'; INGEST_LIMIT + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        body["error"].to_string().contains("larger than 64 MiB: send the events in several requests"),
        "{body}"
    );
    assert!(world.speed.script(|s| s.appended.is_empty()));
    let (status, _) = post(&world, "/v1/streams/flights", vec![b'\n'; INGEST_LIMIT]).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn status_joins_what_is_stored_with_what_speed_knows() {
    let world = World::new().await;
    world.archive_to([10, 0]).await;
    world.batch_to("delays", [10, 0]).await;
    let (_, body) = get(&world, "/v1/status").await;
    let status: Status = serde_json::from_value(body).unwrap();
    let flights = status.streams.iter().find(|s| s.name == "flights").unwrap();
    assert_eq!((flights.events, flights.rejected), (2 * EVENTS, 0));
    assert_eq!((flights.partitions[0].archived, flights.partitions[0].lag), (10, Some(2)));
    assert_eq!(flights.partitions[0].watermark.as_deref(), Some("2013-01-01T10:00:00Z"));
    let view = |name: &str| status.views.iter().find(|v| v.name == name).unwrap();
    let batch = view("delays").batch.as_ref().unwrap();
    assert_eq!((batch.version, batch.created.as_str()), (1, "2013-01-01T10:00:00Z"));
    assert!(batch.rows > 0 && view("totals").batch.is_none());
    assert_eq!((view("delays").state, view("late").state), (ViewState::Live, ViewState::Building));
    assert_eq!((&status.query_views[..], status.tables[0].rows), (&["worst".to_string()][..], 3));
}

#[tokio::test]
async fn status_and_metrics_answer_without_the_speed_layer() {
    let world = World::new().await;
    let nowhere = Arc::new(HttpSpeed::new("http://127.0.0.1:1").unwrap());
    let serving = world.serving_with(nowhere);
    let status = serving.status().await.unwrap();
    assert!(!status.speed.reachable && status.speed.error.unwrap().contains("http://127.0.0.1:1"));
    assert!(status.views.iter().all(|v| v.state == ViewState::Offline));
    let request = |path| Request::get(path).body(Body::empty()).unwrap();
    let metrics = app(Arc::clone(&serving)).oneshot(request("/metrics")).await.unwrap();
    let text = to_bytes(metrics.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("twofold_speed_up 0\n"));
    let health = app(serving).oneshot(request("/healthz")).await.unwrap();
    assert_eq!(to_bytes(health.into_body(), 100).await.unwrap(), "ok");
}

#[tokio::test]
async fn queries_and_appends_are_counted() {
    let world = World::new().await;
    let app = app(world.serving());
    let call = async |request: Request<Body>| app.clone().oneshot(request).await.unwrap();
    call(Request::post("/v1/sql").body(Body::from(r#"{"sql": "SELECT * FROM airlines"}"#)).unwrap()).await;
    call(Request::get("/v1/views/none").body(Body::empty()).unwrap()).await;
    call(Request::post("/v1/streams/flights").body(Body::from("{}")).unwrap()).await;
    let metrics = call(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    let text = to_bytes(metrics.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8_lossy(&text);
    for line in [
        "twofold_queries_total 1",
        "twofold_query_rows_total 3",
        "twofold_errors_total{kind=\"not_found\"} 1",
        "twofold_ingest_accepted_events_total{stream=\"flights\"} 3",
        "twofold_lag_offsets{stream=\"flights\",partition=\"0\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}
