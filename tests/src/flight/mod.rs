//! Arrow Flight SQL by its own client, against a real server: each call, all types, values, errors, many clients.

mod relations;
mod statements;
mod types;

use crate::process::{Client, Server, refuses};
use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, Any, ProstMessageExt};
use arrow_flight::{Action, FlightInfo};
use futures::TryStreamExt;
use prost::Message;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const SQL: &str = "
CREATE STREAM clicks (
  ts TIMESTAMP NOT NULL, k TEXT NOT NULL, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (partitions = 2, partition_by = 'k');
CREATE STREAM kinds (
  id BIGINT NOT NULL, flag BOOLEAN, tiny TINYINT, small SMALLINT, i INT, r REAL, d DOUBLE,
  amount DECIMAL(12, 2), wide DECIMAL(60, 5), t TEXT, b BYTEA, day DATE, at TIMESTAMP, zoned TIMESTAMP WITH TIME ZONE,
  words TEXT[], pair STRUCT<a BIGINT, b TEXT[]>
);
CREATE TABLE names (k TEXT, name TEXT) WITH (path = 'names.csv');
CREATE MATERIALIZED VIEW counts AS
  SELECT k, count(*) AS c, sum(n) AS s, avg(n) AS mean, max(ts) AS last FROM clicks GROUP BY k;
CREATE MATERIALIZED VIEW nested AS
  SELECT count(*) AS c, array_agg(n ORDER BY n) AS ns, count_by(k) AS by_k, top_k(k, 2) AS top FROM clicks;
CREATE MATERIALIZED VIEW all_kinds AS SELECT * FROM kinds;
CREATE VIEW ranked AS SELECT k, c, rank() OVER (ORDER BY c DESC, k) AS r FROM counts;
";

type Flight = FlightSqlServiceClient<Channel>;

/// Where the server of a project answers Flight, as its run file says.
fn address(project: &Path) -> Option<String> {
    let file = std::fs::read(project.join("data/run/serve.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    file["flight"].as_str().map(|url| url.replacen("grpc://", "http://", 1))
}

async fn connect(project: &Path) -> Flight {
    let endpoint = Endpoint::from_shared(address(project).unwrap()).unwrap();
    FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
}

struct World {
    dir: tempfile::TempDir,
    http: Client,
    server: Server,
}

impl World {
    fn new(command: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::three_processes::write_project(dir.path(), SQL);
        let server = Server::start(dir.path(), command, "serve");
        Self { http: Client::new(&server.url), dir, server }
    }

    async fn ingest(&self, stream: &str, events: &[serde_json::Value]) {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        let path = format!("/v1/streams/{stream}");
        let (status, receipt) = self.http.post(&path, "application/x-ndjson", lines).await;
        assert!(status == 200 && receipt["accepted"] == events.len(), "{receipt}");
    }

    async fn clicks(&self, from: u64, to: u64) {
        let event = |i: u64| {
            let k = ["a", "b", "c"][(i % 3) as usize];
            json!({"ts": "2026-01-01T00:00:01.123456789Z", "k": k, "n": i})
        };
        self.ingest("clicks", &(from..to).map(event).collect::<Vec<_>>()).await;
    }
}

async fn fetch(client: &mut Flight, info: FlightInfo) -> Result<(Schema, Vec<RecordBatch>), Status> {
    let announced = info.clone().try_decode_schema().unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.map_err(refused)?;
    let batches: Vec<_> = (&mut stream).try_collect().await.map_err(Status::from)?;
    let schema = stream.schema().unwrap().as_ref().clone();
    assert_eq!(announced.fields(), schema.fields(), "what GetFlightInfo announced");
    Ok((schema, batches))
}

async fn query(client: &mut Flight, sql: &str) -> Result<(Schema, Vec<RecordBatch>), Status> {
    let info = client.execute(sql.to_string(), None).await.map_err(refused)?;
    fetch(client, info).await
}

async fn rows(client: &mut Flight, sql: &str) -> Vec<RecordBatch> {
    query(client, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).1
}

/// The status in what the client makes of it.
fn refused(e: arrow_flight::error::FlightError) -> Status {
    match e {
        arrow_flight::error::FlightError::Tonic(status) => *status,
        other => Status::unknown(other.to_string()),
    }
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let texts = batches.iter().flat_map(|batch| {
        let column = arrow::compute::cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().map(|text| text.unwrap_or("null").to_string()).collect::<Vec<_>>()
    });
    texts.collect()
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_large_answer_comes_in_messages_that_clients_take_and_can_be_cancelled() {
    let world = World::new(&["up"]);
    multi_thread().block_on(async {
        for part in 0..5 {
            world.clicks(part * 400, (part + 1) * 400).await;
        }
        let mut client = connect(world.dir.path()).await;
        // 4 million rows; tonic's client takes 4 MiB at most in one message.
        let sql = "SELECT a.n AS x, b.n AS y FROM clicks a, clicks b";
        let info = client.execute(sql.into(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut stream = client.do_get(ticket).await.unwrap();
        let (mut count, mut sum, mut most) = (0, 0i64, 0);
        while let Some(batch) = stream.try_next().await.unwrap() {
            count += batch.num_rows();
            most = most.max(batch.get_array_memory_size());
            sum += arrow::compute::sum(batch.column(0).as_primitive::<Int64Type>()).unwrap();
        }
        assert_eq!((count, sum), (4_000_000, 2000 * (1999 * 2000 / 2)));
        assert!(most < 4 << 20, "{most} bytes in one batch");

        // Of which the server holds only the pairs of the first two.
        let endless = "SELECT a.n FROM clicks a, clicks b, clicks c";
        let info = client.execute(endless.into(), None).await.unwrap();
        let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        assert!(stream.try_next().await.unwrap().unwrap().num_rows() > 0);
        let asked = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
        let action = Action::new("CancelQuery", asked.as_any().encode_to_vec());
        let mut other = connect(world.dir.path()).await;
        let result = other.inner_mut().do_action(Request::new(action)).await.unwrap().into_inner();
        let result: Vec<_> = result.try_collect().await.unwrap();
        let result: ActionCancelQueryResult =
            Any::decode(&*result[0].body).unwrap().unpack().unwrap().unwrap();
        assert_eq!(result.result, 1, "cancelled");
        let started = Instant::now();
        let status = loop {
            match stream.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a cancelled query must not look whole"),
                Err(e) => break Status::from(e),
            }
        };
        assert_eq!(status.code(), Code::Cancelled, "{status}");
        assert!(started.elapsed() < Duration::from_secs(10));
        // A connection that is closed takes its queries with it: the server has nothing left to wait for.
        let info = client.execute(endless.into(), None).await.unwrap();
        let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        drop((stream, client, other));
    });
    let stopped = world.server.stop_within(Duration::from_secs(20));
    assert!(stopped < Duration::from_secs(8), "{stopped:?}: it waited for a query that nobody reads");
}

#[test]
fn a_server_is_stopped_while_a_client_reads_nothing() {
    let world = World::new(&["up"]);
    let runtime = multi_thread();
    let held = runtime.block_on(async {
        world.clicks(0, 1000).await;
        let mut client = connect(world.dir.path()).await;
        let info = client.execute("SELECT a.n FROM clicks a, clicks b, clicks c".into(), None).await.unwrap();
        let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        (client, stream)
    });
    world.server.stop_within(Duration::from_secs(20));
    drop(held);
}

#[test]
fn several_clients_see_whole_answers_while_events_stream_in() {
    let world = World::new(&["up"]);
    let done = Arc::new(AtomicBool::new(false));
    let asked = Arc::new([const { AtomicU64::new(0) }; 3]);
    multi_thread().block_on(async {
        let dir = world.dir.path().to_path_buf();
        let askers: Vec<_> = (0..asked.len())
            .map(|i| {
                let (dir, done, asked) = (dir.clone(), Arc::clone(&done), Arc::clone(&asked));
                tokio::spawn(async move {
                    let mut client = connect(&dir).await;
                    let mut last = 0;
                    while !done.load(Ordering::SeqCst) {
                        // One moment for both: the view and the stream itself agree in every answer.
                        let sql = "SELECT (SELECT sum(c) FROM counts) AS view, (SELECT count(*) FROM clicks) AS stream";
                        let batches = rows(&mut client, sql).await;
                        let (view, stream) = (column(&batches, "view"), column(&batches, "stream"));
                        assert!(view == stream || (view == ["null"] && stream == ["0"]), "{view:?} {stream:?}");
                        let seen: u64 = stream[0].parse().unwrap();
                        assert!(seen >= last, "{seen} after {last}");
                        last = seen;
                        asked[i].fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let mut parts = 0;
        while parts < 20 || asked.iter().any(|asked| asked.load(Ordering::SeqCst) < 5) {
            world.clicks(parts * 50, (parts + 1) * 50).await;
            parts += 1;
        }
        done.store(true, Ordering::SeqCst);
        for asker in askers {
            asker.await.unwrap();
        }
        let mut client = connect(&dir).await;
        assert_eq!(column(&rows(&mut client, "SELECT sum(c) AS c FROM counts").await, "c"), [(50 * parts).to_string()]);
    });
    world.server.stop();
}

#[test]
fn the_address_is_where_the_project_says_or_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    crate::three_processes::write_project(dir.path(), SQL);
    let server = Server::start(dir.path(), &["up", "--flight-listen", "off"], "serve");
    assert_eq!(address(dir.path()), None);
    server.stop();
    let toml = dir.path().join("twofold.toml");
    let text = std::fs::read_to_string(&toml)
        .unwrap()
        .replace("[serve]\n", "[serve]\nflight_listen = \"127.0.0.1:0\"\n");
    std::fs::write(&toml, text).unwrap();
    // In processes of their own, too; and a port that was asked for and is taken is an error.
    let speed = Server::start(dir.path(), &["speed"], "speed");
    let serve = Server::start(dir.path(), &["serve"], "serve");
    let found = address(dir.path()).unwrap();
    multi_thread().block_on(async {
        let mut client = connect(dir.path()).await;
        assert_eq!(column(&rows(&mut client, "SELECT count(*) AS c FROM counts").await, "c"), ["0"]);
    });
    let taken = found.trim_start_matches("http://");
    let message = refuses(dir.path(), &["serve", "--flight-listen", taken]);
    assert!(message.contains(taken) && message.contains("--flight-listen"), "{message}");
    serve.stop();
    speed.stop();
}
