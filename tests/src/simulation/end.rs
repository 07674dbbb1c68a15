//! The end of a run: nothing fails any more, all is brought to its end, and everything is counted.

use super::gate::Parked;
use super::world::{Fate, Node, VIEWS, World};
use crate::oracle::assert_same;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use std::collections::BTreeMap;
use twofold_batch::Options;
use twofold_common::{Log, Offset, Partition};

impl World {
    /// Ends the run, and checks what must be true then.
    pub async fn end(&mut self) {
        self.trace.push("the end".into());
        self.gate.open();
        while let Some(mut op) = self.ops.pop() {
            op.parked.take().into_iter().for_each(Parked::let_through);
            let done = (&mut op.future).await;
            self.over(&op, done).await;
        }
        let node = match self.node.clone() {
            Some(node) => node,
            None => self.opening().await.unwrap(),
        };
        self.node = Some(node.clone());
        for _ in 0..2 {
            node.engine.catch_up().await.unwrap();
            node.engine.seal_all().await.unwrap();
            self.archiver(&node).run_once().await.unwrap();
            let options = Options { full: true, view: None, workers: 1 };
            let reports = self.batch().run(&options, &|_| {}).await.unwrap();
            self.audit(&reports);
            node.engine.retire_covered().await.unwrap();
        }
        self.check_answers(&node).await;
        self.check_archive().await;
        let of = |fate| self.ledger.values().filter(|(_, known)| *known == fate).count() as u64;
        (self.tally.acknowledged, self.tally.unknown) = (of(Fate::Acknowledged), of(Fate::Unknown));
    }

    /// All answers cover everything, and are right; each acknowledged event is there once, each other at most once.
    async fn check_answers(&self, node: &Node) {
        let views = VIEWS.iter().map(|view| format!("SELECT * FROM {view}"));
        let streams =
            ["clicks", "orders"].map(|s| format!("SELECT ts, k, n, x, ok, _partition, _offset FROM {s}"));
        for sql in views.chain(streams) {
            let rows = node.serving.query(&sql).await.unwrap();
            for part in &rows.coverage {
                let end = self.log.bounds(&part.stream, part.partition).await.unwrap().end;
                assert_eq!(part.speed.end, end, "{sql} covers everything");
            }
            self.check(&sql, &rows).await;
        }
        let mut found: BTreeMap<(&str, i64), u64> = BTreeMap::new();
        for stream in ["clicks", "orders"] {
            let rows = node.serving.query(&format!("SELECT n FROM {stream}")).await.unwrap();
            for batch in &rows.batches {
                for n in batch.column(0).as_primitive::<Int64Type>().values() {
                    *found.entry((stream, *n)).or_default() += 1;
                }
            }
        }
        for (id, (stream, fate)) in &self.ledger {
            let times = found.remove(&(*stream, *id)).unwrap_or(0);
            let expected = match fate {
                Fate::Acknowledged => 1..=1,
                Fate::Unknown => 0..=1,
            };
            assert!(expected.contains(&times), "event {id} of {stream} ({fate:?}) is there {times} times");
        }
        assert!(found.is_empty(), "events that nobody sent: {found:?}");
    }

    /// The archive holds every event of the log once, in order.
    async fn check_archive(&self) {
        let archive = self.archive();
        let all = self.log.all();
        for (name, def) in &self.site.project.streams {
            let manifest = archive.manifest(name).await.unwrap().unwrap().body;
            for partition in def.partitions() {
                let mut at = Offset(0);
                let mut archived = Vec::new();
                for segment in manifest.segments.get(&partition).into_iter().flatten() {
                    assert_eq!(segment.range.start, at, "{name}, {partition}: segments follow one another");
                    at = segment.range.end;
                    archived.extend(archive.read_segment(segment, &def.event_schema(), None).await.unwrap());
                }
                assert_eq!(at, self.log.bounds(name, partition).await.unwrap().end, "{name}, {partition}");
                let key: (String, Partition) = (name.clone(), partition);
                let logged = all.get(&key).map_or(&[][..], Vec::as_slice);
                assert_same(&format!("the archive of {name}, {partition}"), &archived, logged);
            }
        }
    }
}
