//! Three real processes on one project, with ingest, batch and queries at the same time: every answer equals the
//! plain query over its own coverage.

use crate::oracle::{answer, assert_same, plain};
use crate::process::{Client, Server, succeeds};
use arrow::array::RecordBatch;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use twofold_common::{Coverage, Project};
use twofold_speed::Decoder;

const SQL: &str = "
CREATE STREAM clicks (
  ts TIMESTAMP NOT NULL, k TEXT NOT NULL, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (partitions = 2, partition_by = 'k');
CREATE TABLE names (k TEXT, name TEXT) WITH (path = 'names.csv');
CREATE MATERIALIZED VIEW counts AS
  SELECT k, count(*) AS c, sum(n) AS s, avg(n) AS mean, max(n) AS hi FROM clicks GROUP BY k;
CREATE MATERIALIZED VIEW named AS
  SELECT t.name, count(*) AS c, count(DISTINCT c.n) AS d FROM clicks c JOIN names t USING (k) GROUP BY t.name;
CREATE MATERIALIZED VIEW kept AS SELECT k, n FROM clicks WHERE n % 10 = 0;
CREATE VIEW ranked AS SELECT k, c, rank() OVER (ORDER BY c DESC, k) AS r FROM counts;
";

const QUERIES: &[&str] = &[
    "SELECT * FROM counts ORDER BY k",
    "SELECT * FROM named ORDER BY name",
    "SELECT k, n FROM kept ORDER BY k, n",
    "SELECT * FROM ranked ORDER BY r",
    "SELECT a.k, a.c, b.d FROM counts a LEFT JOIN named b ON b.name = upper(a.k) ORDER BY a.k",
    "SELECT count(*) AS c, sum(n) AS s FROM clicks",
];

pub fn write_project(dir: &Path, sql: &str) {
    let toml = "[speed]\nlisten = \"127.0.0.1:0\"\nretire_grace = \"300ms\"\n\
                [serve]\nlisten = \"127.0.0.1:0\"\n[limits]\nmax_rows = 5000000\n[archive]\nsegment_rows = 400\n[batch]\nschedule = \"off\"\n";
    std::fs::write(dir.join("twofold.toml"), toml).unwrap();
    std::fs::write(dir.join("names.csv"), "k,name\na,A\nb,B\nc,C\n").unwrap();
    std::fs::write(dir.join("views.sql"), sql).unwrap();
}

/// Every acknowledged event, by partition and offset, as the line that was sent.
#[derive(Default)]
struct Sent(Mutex<BTreeMap<u64, BTreeMap<u64, String>>>);

impl Sent {
    /// One request holds events of one key, so they lie in one partition, in order.
    fn note(&self, receipt: &Value, lines: &[String]) {
        assert_eq!(receipt["accepted"], lines.len() as u64, "{receipt}");
        let [range] = receipt["offsets"].as_array().unwrap().as_slice() else { panic!("{receipt}") };
        let mut all = self.0.lock().unwrap();
        let partition = all.entry(range["partition"].as_u64().unwrap()).or_default();
        let start = range["start"].as_u64().unwrap();
        assert_eq!(range["end"].as_u64().unwrap() - start, lines.len() as u64);
        for (offset, line) in (start..).zip(lines) {
            assert!(partition.insert(offset, line.clone()).is_none(), "an offset given twice: {receipt}");
        }
    }

    /// The events that an answer covers; waits for the receipts of those that are not noted yet.
    async fn covered(&self, coverage: &[Coverage]) -> String {
        let mut parts = BTreeMap::new();
        for part in coverage {
            assert_eq!(part.batch.start.0, 0, "{coverage:?}");
            assert_eq!(part.batch.end, part.speed.start, "no gap and no overlap: {coverage:?}");
            let end = parts.insert(u64::from(part.partition.0), part.speed.end.0);
            assert!(
                end.is_none_or(|end| end == part.speed.end.0),
                "all parts end at one moment: {coverage:?}"
            );
        }
        assert_eq!(parts.len(), 2, "every partition is covered: {coverage:?}");
        loop {
            {
                let all = self.0.lock().unwrap();
                let noted = |p: &u64| all.get(p).map_or(0, |events| events.len() as u64);
                if parts.iter().all(|(p, end)| noted(p) >= *end) {
                    let empty = BTreeMap::new();
                    let of = |(p, end): (&u64, &u64)| {
                        all.get(p)
                            .unwrap_or(&empty)
                            .range(..*end)
                            .map(|(_, line)| line.as_str())
                            .collect::<String>()
                    };
                    return parts.iter().map(of).collect();
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub async fn plain_rows(project: &Project, lines: &str, sql: &str) -> Vec<RecordBatch> {
    let stream = &project.streams["clicks"];
    let decoded = Decoder::new(stream).unwrap().decode_ndjson(lines.as_bytes()).unwrap();
    assert_eq!(decoded.rejected.num_rows(), 0);
    let rows = decoded.rows.num_rows();
    let mut columns = decoded.rows.columns().to_vec();
    let schema = stream.event_schema();
    for field in &schema.fields()[columns.len()..] {
        let zeros = arrow::array::Int64Array::from(vec![0; rows]);
        columns.push(arrow::compute::cast(&zeros, field.data_type()).unwrap());
    }
    let events = RecordBatch::try_new(schema, columns).unwrap();
    let session = plain(project, &[("clicks", vec![events])]).await;
    answer(&session, sql).await
}

#[test]
fn every_answer_equals_the_plain_query_over_its_coverage() {
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), SQL);
    let project = Project::load(dir.path()).unwrap();
    let speed = Server::start(dir.path(), &["speed"], "speed");
    let serve = Server::start(dir.path(), &["serve"], "serve");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sent = Arc::new(Sent::default());
    let done = Arc::new(AtomicBool::new(false));
    let checked = Arc::new(AtomicU64::new(0));

    let batches = {
        let (dir, done) = (dir.path().to_path_buf(), done.clone());
        std::thread::spawn(move || {
            let mut runs = 0;
            while !done.load(Ordering::SeqCst) {
                let full = if runs % 3 == 2 { &["batch", "--full"][..] } else { &["batch"] };
                succeeds(&dir, full);
                runs += 1;
                std::thread::sleep(Duration::from_millis(150));
            }
            runs
        })
    };
    runtime.block_on(async {
        let client = Client::new(&serve.url);
        let askers: Vec<_> = (0..2)
            .map(|asker| {
                let (client, sent, done) = (client.clone(), sent.clone(), done.clone());
                let (project, checked) = (project.clone(), checked.clone());
                tokio::spawn(async move {
                    let mut turn = asker;
                    while !done.load(Ordering::SeqCst) {
                        let sql = QUERIES[turn % QUERIES.len()];
                        turn += 1;
                        let rows = client.rows(sql).await;
                        let lines = sent.covered(&rows.coverage).await;
                        assert_same(sql, &rows.batches, &plain_rows(&project, &lines, sql).await);
                        checked.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for request in 0u64..150 {
            let k = ["a", "b", "c", "d", "é"][(request % 5) as usize];
            let lines: Vec<String> = (0..40)
                .map(|i| json!({"ts": format!("2026-01-01T00:{:02}:{:02}Z", request % 60, i), "k": k, "n": (request * i) % 97}))
                .map(|event| format!("{event}\n"))
                .collect();
            let (status, receipt) = client.post("/v1/streams/clicks", "application/x-ndjson", lines.concat()).await;
            assert_eq!(status, 200, "{receipt}");
            sent.note(&receipt, &lines);
            // What was acknowledged is in the next answer.
            if request % 10 == 0 {
                let (_, body) = client.sql("SELECT count(*) AS c FROM clicks").await;
                assert_eq!(body["rows"][0]["c"], (request + 1) * 40, "{body}");
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        done.store(true, Ordering::SeqCst);
        for asker in askers {
            asker.await.unwrap();
        }
    });
    let runs = batches.join().unwrap();
    let checked = checked.load(Ordering::SeqCst);
    println!("{checked} answers checked during {runs} batch runs");
    assert!(checked > 20 && runs >= 2, "{checked} answers, {runs} runs: too few to say anything");

    // Killed and stopped, then started again: everything acknowledged is there.
    speed.kill();
    serve.stop();
    let speed = Server::start(dir.path(), &["speed"], "speed");
    let serve = Server::start(dir.path(), &["serve"], "serve");
    runtime.block_on(async {
        let client = Client::new(&serve.url);
        for sql in QUERIES {
            let rows = client.rows(sql).await;
            let lines = sent.covered(&rows.coverage).await;
            assert_eq!(lines.lines().count(), 150 * 40, "{sql}: {:?}", rows.coverage);
            assert_same(sql, &rows.batches, &plain_rows(&project, &lines, sql).await);
        }
        let (_, status) = client.get("/v1/status").await;
        assert!(status["views"].as_array().is_some_and(|views| views.len() == 3), "{status}");
    });
    serve.stop();
    speed.stop();
}
