//! The actors: what each does in one go, as a future, and what must be true of its end.

use super::gate::Parked;
use super::log::Events;
use super::world::{Fate, Node, VIEWS, World};
use crate::oracle::{answer, assert_same, plain};
use arrow::array::RecordBatch;
use chrono::DateTime;
use futures::future::LocalBoxFuture;
use std::collections::BTreeSet;
use twofold_batch::{Options, Outcome, ViewReport};
use twofold_common::stream::below;
use twofold_common::{
    Coverage, Error, Gc, IdempotencyKey, IngestReceipt, IngestRequest, Kind, Offset, Project, Result,
    SpeedLayer,
};
use twofold_serving::Rows;

/// Who acts. Each does one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Opener,
    Producer(u8),
    Engine,
    /// Two, as if an owner did not know that it was replaced.
    Archiver(u8),
    Batch(u8),
    Query(u8),
    Collector,
}

impl Actor {
    pub const ALL: [Actor; 11] = [
        Actor::Opener,
        Actor::Producer(0),
        Actor::Producer(1),
        Actor::Engine,
        Actor::Archiver(0),
        Actor::Archiver(1),
        Actor::Batch(0),
        Actor::Batch(1),
        Actor::Query(0),
        Actor::Query(1),
        Actor::Collector,
    ];

    /// Whether it ends when the node is killed.
    pub fn is_of_node(self) -> bool {
        !matches!(self, Actor::Batch(_) | Actor::Collector)
    }

    /// Whether it writes files before it names them.
    pub fn writes(self) -> bool {
        matches!(self, Actor::Batch(_) | Actor::Archiver(_))
    }
}

/// What an actor is doing.
pub struct Op {
    pub actor: Actor,
    pub what: String,
    /// When it began.
    pub since: i64,
    /// How many writes had been torn by then.
    torn: u64,
    pub future: LocalBoxFuture<'static, Done>,
    /// The I/O at which it stands.
    pub parked: Option<Parked>,
}

/// How it ended.
pub enum Done {
    Opened(Result<Node>),
    Ingested(Request, Result<IngestReceipt>),
    Folded(Result<()>),
    Archived(Result<usize>),
    Ran(Result<Vec<ViewReport>>),
    Answered(String, Result<Rows>),
    Collected(Result<usize>),
}

/// Some events, under a key of their own.
#[derive(Debug)]
pub struct Request {
    stream: &'static str,
    ids: Vec<i64>,
    body: String,
}

impl Request {
    fn sent(&self) -> IngestRequest {
        let key = IdempotencyKey::new(format!("from-{}", self.ids[0])).unwrap();
        IngestRequest::new(self.stream, "application/x-ndjson", self.body.clone()).with_key(Some(key))
    }
}

impl World {
    /// What `actor` does next; `None` if it cannot do anything now.
    pub fn begin(&mut self, actor: Actor) -> Option<Op> {
        let (what, future): (String, LocalBoxFuture<'static, Done>) = match (actor, self.node.clone()) {
            (Actor::Opener, None) => {
                let opening = self.opening();
                ("open".into(), Box::pin(async { Done::Opened(opening.await) }))
            }
            (Actor::Producer(_), Some(node)) => {
                // What was not answered is sent again, sooner or later.
                let again = match self.again.len() {
                    0 => None,
                    n => {
                        self.rng.once_in(2).then(|| self.again.swap_remove(self.rng.below(n as u64) as usize))
                    }
                };
                let request = again.unwrap_or_else(|| self.request());
                let what = format!("ingest {:?} into {}", request.ids, request.stream);
                let sent = request.sent();
                let ingest = async move { Done::Ingested(request, node.engine.ingest(sent).await) };
                (what, Box::pin(ingest))
            }
            (Actor::Engine, Some(node)) => {
                let choice = self.rng.below(6);
                let what = ["turn", "turn", "turn", "seal", "retire", "retire"][choice as usize];
                let fold = async move {
                    Done::Folded(match what {
                        "seal" => node.engine.seal_all().await,
                        "retire" => node.engine.retire_covered().await,
                        _ => node.engine.turn().await.map(drop),
                    })
                };
                (what.into(), Box::pin(fold))
            }
            (Actor::Archiver(_), Some(node)) => {
                let archiver = self.archiver(&node);
                ("archive".into(), Box::pin(async move { Done::Archived(archiver.run_once().await) }))
            }
            (Actor::Query(_), Some(node)) => {
                let sql = self.question();
                let ask = async move {
                    let answer = node.serving.query(&sql).await;
                    Done::Answered(sql, answer)
                };
                ("query".into(), Box::pin(ask))
            }
            (Actor::Batch(_), _) => {
                let (batch, full) = (self.batch(), self.rng.once_in(3));
                let options = Options { full, view: None, workers: 1 };
                let run = async move { Done::Ran(batch.run(&options, &|_| {}).await) };
                (format!("batch, full: {full}"), Box::pin(run))
            }
            (Actor::Collector, _) => ("collect".into(), self.collecting()),
            _ => return None,
        };
        Some(Op { actor, what, since: self.gate.now(), torn: self.torn(), future, parked: None })
    }

    /// A few events with numbers that no other has.
    fn request(&mut self) -> Request {
        let stream = self.rng.pick(&["clicks", "clicks", "orders"]);
        let (mut ids, mut body) = (Vec::new(), String::new());
        for _ in 0..1 + self.rng.below(4) {
            let id = self.ledger.len() as i64;
            let second = self.rng.below(60);
            let k = self.rng.pick(&["\"a\"", "\"b\"", "\"c\"", "\"é\"", "null"]);
            let x = self.rng.pick(&["0.1", "1e16", "-1e16", "null"]);
            let ok = self.rng.pick(&["true", "false", "null"]);
            let ts = format!("2026-01-01T00:00:{second:02}Z");
            body += &format!("{{\"ts\":\"{ts}\",\"k\":{k},\"n\":{id},\"x\":{x},\"ok\":{ok}}}\n");
            self.ledger.insert(id, (stream, Fate::Unknown));
            ids.push(id);
        }
        Request { stream, ids, body }
    }

    fn question(&mut self) -> String {
        let relation = match self.rng.below(VIEWS.len() as u64 + 2) as usize {
            n if n < VIEWS.len() => VIEWS[n],
            _ => self.rng.pick(&["clicks", "orders"]),
        };
        match relation {
            "clicks" | "orders" => format!("SELECT k, n, x FROM {relation}"),
            view if self.rng.once_in(4) => format!("SELECT a.k, a.c, b.* FROM counts a, {view} b"),
            view => format!("SELECT * FROM {view}"),
        }
    }

    /// Collects what is older than anybody who may be about to name it.
    fn collecting(&self) -> LocalBoxFuture<'static, Done> {
        let writers = self.ops.iter().filter(|op| op.actor.writes()).map(|op| op.since);
        let cutoff = DateTime::from_timestamp_nanos(writers.min().unwrap_or(self.gate.now()));
        let views = self.site.catalog.views().values();
        let live: BTreeSet<_> = views.map(|v| (v.name().to_string(), v.fingerprint().to_string())).collect();
        let gc = Gc::new(self.store.clone());
        Box::pin(async move {
            let collect = async {
                let orphans = gc.orphans(&live, cutoff).await?;
                Ok(gc.delete(&orphans).await?.len())
            };
            Done::Collected(collect.await)
        })
    }

    /// Takes note of the end of an op, and checks it.
    pub async fn over(&mut self, op: &Op, done: Done) {
        let retry = |e: &Error| assert_kind(&op.what, e, &[Kind::Unavailable, Kind::Conflict]);
        // What was torn without a word is found when it is read back.
        let torn = self.torn() > op.torn;
        let write = |e: &Error| match torn {
            true => assert_kind(&op.what, e, &[Kind::Unavailable, Kind::Conflict, Kind::Corrupt]),
            false => retry(e),
        };
        match done {
            Done::Opened(Ok(node)) => self.node = Some(node),
            Done::Opened(Err(e)) => retry(&e),
            Done::Ingested(Request { ids, .. }, Ok(receipt)) => {
                assert_eq!((receipt.accepted, receipt.rejected), (ids.len() as u64, 0), "{receipt:?}");
                for id in ids {
                    self.ledger.entry(id).and_modify(|(_, fate)| *fate = Fate::Acknowledged);
                }
            }
            Done::Ingested(request, Err(e)) => {
                retry(&e);
                self.again.push(request);
            }
            Done::Folded(Err(e)) => retry(&e),
            Done::Collected(Err(e)) => retry(&e),
            Done::Folded(Ok(())) => {}
            Done::Collected(Ok(n)) => self.tally.collected += n as u64,
            Done::Archived(Ok(n)) => self.tally.archived += n as u64,
            Done::Archived(Err(e)) | Done::Ran(Err(e)) => write(&e),
            Done::Ran(Ok(reports)) => self.audit(&reports),
            Done::Answered(sql, Ok(rows)) => {
                self.tally.answers += 1;
                self.check(&sql, &rows).await;
            }
            Done::Answered(_, Err(e)) => {
                self.tally.refused += 1;
                retry(&e);
            }
        }
    }

    /// What batch found of the speed layer's states, and of its own.
    pub fn audit(&mut self, reports: &[ViewReport]) {
        for report in reports {
            assert!(report.agrees(), "batch and speed, or full and incremental, differ: {report:?}");
            match &report.outcome {
                Outcome::Published(_) => self.tally.published += 1,
                Outcome::Lost => self.tally.lost += 1,
                Outcome::UpToDate => {}
                Outcome::Failed(why) => panic!("{}: {why}", report.view),
            }
        }
    }

    /// An answer equals that of a plain query over the events that it covers.
    pub async fn check(&self, sql: &str, rows: &Rows) {
        let covered = covered(&self.site.project, &self.log.all(), &rows.coverage);
        let session = plain(&self.site.project, &covered).await;
        assert_same(sql, &rows.batches, &answer(&session, sql).await);
    }
}

fn assert_kind(what: &str, error: &Error, kinds: &[Kind]) {
    assert!(kinds.contains(&error.kind()), "{what}: {:?}: {error}", error.kind());
}

/// The events that an answer covers, by stream, in (partition, offset) order.
fn covered<'a>(
    project: &'a Project,
    all: &Events,
    coverage: &[Coverage],
) -> Vec<(&'a str, Vec<RecordBatch>)> {
    let of_stream = |name: &'a String| {
        let mut batches = Vec::new();
        for ((_, partition), events) in all.iter().filter(|((stream, _), _)| stream == name) {
            let part = coverage.iter().find(|c| c.stream == *name && c.partition == *partition);
            let Some(part) = part else { continue };
            assert_eq!((part.batch.start, part.batch.end), (Offset(0), part.speed.start), "{coverage:?}");
            batches.extend(events.iter().map(|batch| below(batch, part.speed.end).unwrap()));
        }
        (name.as_str(), batches)
    };
    project.streams.keys().map(of_stream).collect()
}
