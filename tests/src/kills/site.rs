//! The project whose processes are killed, and what must be true of it in the end.

use super::load::{Ledger, Load, event};
use crate::oracle::assert_same;
use crate::process::{Client, Server, binary, succeeds};
use crate::three_processes::plain_rows;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use twofold_common::Project;
use twofold_serving::Rows;

const TOML: &str = "[speed]\nlisten = \"127.0.0.1:0\"\nretire_grace = \"100ms\"\n\
                    [serve]\nlisten = \"127.0.0.1:0\"\n[archive]\nsegment_rows = 150\n[batch]\nschedule = \"off\"\n";
const SQL: &str = "
CREATE STREAM clicks (
  ts TIMESTAMP NOT NULL, k TEXT NOT NULL, n BIGINT NOT NULL, x DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (partitions = 2, partition_by = 'k');
CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS c, sum(n) AS s, avg(x) AS mean FROM clicks GROUP BY k;
CREATE MATERIALIZED VIEW minutes AS
  SELECT date_bin(INTERVAL '1 minute', ts) AS m, count(*) AS c, count(DISTINCT k) AS d, sum(x) AS s FROM clicks GROUP BY 1;
CREATE MATERIALIZED VIEW kept AS SELECT k, n FROM clicks WHERE n % 3 = 0;
";
const QUERIES: [&str; 4] =
    ["SELECT * FROM counts", "SELECT * FROM minutes", "SELECT * FROM kept", "SELECT n FROM clicks"];
/// How long what should happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A project with its data.
pub struct Site {
    dir: TempDir,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("twofold.toml"), TOML).unwrap();
        std::fs::write(dir.path().join("views.sql"), SQL).unwrap();
        Site { dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A running server, as soon as nobody else holds the data.
    pub fn start(&self, env: &[(&str, &str)]) -> Server {
        let started = Instant::now();
        loop {
            match Server::try_start(self.dir(), &["up"], "serve", env) {
                Ok(server) => return server,
                Err(status) => assert!(started.elapsed() < PATIENCE, "no server starts: {status}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts `twofold batch` and does not wait for it.
    pub fn spawn_batch(&self, full: bool, env: &[(&str, &str)]) -> BatchRun {
        let mut command = Command::new(binary());
        command.arg("-p").arg(self.dir()).arg("batch").args(full.then_some("--full"));
        let log = std::fs::File::options().create(true).append(true).open(self.dir().join("batch.log"));
        command.envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        BatchRun(command.spawn().unwrap())
    }

    /// A server that is to end by itself under load, with batch runs beside it.
    pub fn dies_of(&self, env: &[(&str, &str)], load: &Load, what: &str) {
        // It may do so before it listens.
        let Ok(mut server) = Server::try_start(self.dir(), &["up"], "serve", env) else { return };
        load.send_to(&server.url);
        let started = Instant::now();
        while server.ended().is_none() {
            let mut batch = self.spawn_batch(false, &[]);
            while server.ended().is_none() && !batch.is_over() {
                std::thread::sleep(Duration::from_millis(10));
            }
            batch.end(true);
            assert!(started.elapsed() < PATIENCE, "{what} is never reached");
        }
        load.send_nowhere();
    }

    /// Brings all to its end, and counts.
    pub fn settle(&self, ledger: Ledger) {
        let server = self.start(&[]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = Client::new(&server.url);
        let found = runtime.block_on(self.check(&client, &ledger));
        let full = self.spawn_batch(true, &[]).ends();
        assert_eq!(full.code(), Some(0), "the layers agree, and full and incremental do: see batch.log");
        // The same from the batch layer.
        let again = runtime.block_on(self.check(&client, &ledger));
        assert_eq!(found, again);
        server.stop();
        let archived =
            succeeds(self.dir(), &["query", "--format", "csv", "SELECT count(*) AS c FROM clicks"]);
        assert_eq!(archived, format!("c\n{}\n", found.len()));
        let unknown = found.iter().filter(|n| !ledger[n]).count();
        println!("{} events are there, {unknown} of them were not acknowledged", found.len());
    }

    /// Every answer is that of a plain query over the events that are there: their numbers.
    async fn check(&self, client: &Client, ledger: &Ledger) -> Vec<u64> {
        let project = Project::load(self.dir()).unwrap();
        let numbers = |rows: &Rows| {
            let of = |batch: &arrow::array::RecordBatch| {
                batch.column(0).as_primitive::<Int64Type>().values().to_vec()
            };
            let mut numbers: Vec<u64> = rows.batches.iter().flat_map(of).map(|n| n as u64).collect();
            numbers.sort_unstable();
            numbers
        };
        let acknowledged: Vec<u64> = ledger.iter().filter(|(_, acked)| **acked).map(|(n, _)| *n).collect();
        let started = Instant::now();
        let found = loop {
            let found = numbers(&client.patient_rows(QUERIES[3]).await);
            let lost = acknowledged.iter().find(|n| found.binary_search(n).is_err());
            let Some(lost) = lost else { break found };
            // What lies in the log may not be folded yet.
            assert!(started.elapsed() < PATIENCE, "event {lost} was acknowledged, and is lost");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "an event is there twice");
        assert!(found.iter().all(|n| ledger.contains_key(n)), "an event that nobody sent");
        let lines: String = found.iter().map(|n| event(*n)).collect();
        for sql in QUERIES {
            let rows = client.patient_rows(sql).await;
            assert_same(sql, &rows.batches, &plain_rows(&project, &lines, sql).await);
        }
        found
    }
}

/// A batch run in a process of its own.
pub struct BatchRun(Child);

impl BatchRun {
    pub fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Waits for its end, and kills it before if `now`: whether it was killed.
    pub fn end(&mut self, now: bool) -> bool {
        if now {
            let _ = self.0.kill();
        }
        let status = self.0.wait().unwrap();
        // 2: the server was killed under its hands. 1 would be a difference between the layers.
        assert!(matches!(status.code(), None | Some(0 | 2)), "twofold batch: {status}");
        status.signal() == Some(9)
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// Waits for its end: whether it aborted.
    pub fn aborts(&mut self) -> bool {
        self.ends().signal() == Some(6)
    }
}

impl Drop for BatchRun {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
