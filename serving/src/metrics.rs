//! What is measured, as Prometheus reads it.
//!
//! Counters and the histogram are of this process, from its start. Gauges are asked of the speed layer when
//! they are read: when it cannot be reached, `twofold_speed_up` is 0 and the others are absent. Audits are told as
//! they are stored: those of a view whose findings cannot be read are absent. Labels are
//! names of declared streams and views and kinds of errors only, so that no request can make new series.

use crate::limits::Limits;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use std::time::Duration;
use twofold_common::{AuditTotals, Digest, Error, IngestReceipt, Kind, Result, SpeedStatus, wire};

/// The MIME type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric is called; counters get `_total` at the end, and those with a unit its name.
struct Name {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

const fn name(name: &'static str, help: &'static str) -> Name {
    Name { name, help, unit: None }
}

const QUERIES: Name = name("twofold_queries", "Queries answered");
const ROWS: Name = name("twofold_query_rows", "Rows returned by queries");
const ERRORS: Name = name("twofold_errors", "Queries and appends that failed, by kind of error");
const ACCEPTED: Name = name("twofold_ingest_accepted_events", "Events taken in, by stream");
const REJECTED: Name =
    name("twofold_ingest_rejected_events", "Events rejected and kept as raw bytes, by stream");
const DUPLICATES: Name =
    name("twofold_ingest_duplicate_events", "Events left out because their ids were known, by stream");
const SECONDS: Name =
    Name { name: "twofold_query_duration", help: "Time to answer a query", unit: Some(Unit::Seconds) };
const WATCHERS: Name = name("twofold_watchers", "Connections to which changes of views are told");
const SPEED_UP: Name = name("twofold_speed_up", "Whether the speed layer answers: 1 or 0");
const EPOCHS: Name = name("twofold_speed_epochs", "Epochs that the speed layer committed since it started");
const LOG_END: Name = name("twofold_log_end_offset", "One past the last durable event");
const FOLDED: Name = name("twofold_folded_offset", "One past the last event that was folded");
const LAG: Name = name("twofold_lag_offsets", "Offsets that are durable and not folded yet");
const ARCHIVED: Name = name("twofold_archived_offset", "The exclusive end of what is archived");
const WAITING: Name = name("twofold_segments_waiting", "Segments that are sealed and not archived yet");
const WATERMARK: Name = Name {
    name: "twofold_watermark_timestamp",
    help: "How far event time has come less the allowed delay, since the epoch",
    unit: Some(Unit::Seconds),
};
const STATE_ROWS: Name =
    name("twofold_view_state_rows", "Rows of the states that the speed layer holds of a view");
const STATE_BYTES: Name = Name {
    name: "twofold_view_state",
    help: "About how much memory the speed layer's states of a view take",
    unit: Some(Unit::Bytes),
};
const LATE: Name =
    name("twofold_late_events", "Events that came after the end of their window, by stream and view");
const BUILDING: Name =
    name("twofold_view_building_events", "Events that are still to be folded to build a view");

const AUDIT: Name = name(
    "twofold_audit_states",
    "States that audits have compared, by view and result: equal, unequal, or unaudited",
);

const RUNNING: Name = name("twofold_queries_running", "Queries that run now");
const QUEUED: Name = name("twofold_queries_waiting", "Queries that wait for their turn");
const RESERVED: Name = Name {
    name: "twofold_query_memory",
    help: "What the operators and rows of the queries that run now take",
    unit: Some(Unit::Bytes),
};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// The measurements of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    queries: Counter,
    rows: Counter,
    seconds: Histogram,
    running: Gauge,
    queued: Gauge,
    reserved: Gauge,
    errors: Counters,
    accepted: Counters,
    rejected: Counters,
    duplicates: Counters,
    watchers: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        // From a quarter of a millisecond to 16 seconds.
        let seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 17));
        Self {
            queries: register(&mut registry, QUERIES, Counter::default()),
            rows: register(&mut registry, ROWS, Counter::default()),
            seconds: register(&mut registry, SECONDS, seconds),
            running: register(&mut registry, RUNNING, Gauge::default()),
            queued: register(&mut registry, QUEUED, Gauge::default()),
            reserved: register(&mut registry, RESERVED, Gauge::default()),
            errors: register(&mut registry, ERRORS, Counters::default()),
            accepted: register(&mut registry, ACCEPTED, Counters::default()),
            rejected: register(&mut registry, REJECTED, Counters::default()),
            duplicates: register(&mut registry, DUPLICATES, Counters::default()),
            watchers: register(&mut registry, WATCHERS, Gauge::default()),
            registry,
        }
    }
}

impl Metrics {
    /// A query was answered.
    pub(crate) fn answered(&self, rows: usize, elapsed: Duration) {
        self.queries.inc();
        self.rows.inc_by(rows as u64);
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// What queries take now.
    pub(crate) fn taken(&self, limits: &Limits) {
        let gauge = |gauge: &Gauge, n: usize| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        gauge(&self.running, limits.running());
        gauge(&self.queued, limits.waiting());
        gauge(&self.reserved, limits.reserved());
    }

    /// A query or an append failed.
    pub(crate) fn failed(&self, kind: Kind) {
        self.errors.get_or_create(&vec![("kind", wire::name(kind).to_string())]).inc();
    }

    /// So many watch now.
    pub(crate) fn watched(&self, watchers: usize) {
        self.watchers.set(i64::try_from(watchers).unwrap_or(i64::MAX));
    }

    /// Events were appended.
    pub(crate) fn ingested(&self, stream: &str, receipt: &IngestReceipt) {
        let labels = vec![("stream", stream.to_string())];
        self.accepted.get_or_create(&labels).inc_by(receipt.accepted);
        self.rejected.get_or_create(&labels).inc_by(receipt.rejected);
        self.duplicates.get_or_create(&labels).inc_by(receipt.duplicates);
    }

    /// All metrics in the OpenMetrics text format, with gauges from the speed layer's status, and from what audits have
    /// found about each view.
    pub(crate) fn encode(&self, speed: Option<&SpeedStatus>, audits: &[ViewAudit]) -> Result<String> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &gauges(speed)))
            .and_then(|()| encode_registry(&mut text, &of_audits(audits)))
            .and_then(|()| encode_eof(&mut text))
            .map_err(|e| Error::Internal(format!("metrics: {e}")))?;
        Ok(text)
    }
}

/// What audits have found about a version of a view.
#[derive(Debug, Clone)]
pub(crate) struct ViewAudit {
    pub(crate) view: String,
    pub(crate) fingerprint: Digest,
    pub(crate) totals: AuditTotals,
}

fn of_audits(audits: &[ViewAudit]) -> Registry {
    let mut registry = Registry::default();
    let states: Gauges = register(&mut registry, AUDIT, Gauges::default());
    for ViewAudit { view, fingerprint, totals } in audits {
        let AuditTotals { equal, unaudited, unequal, .. } = *totals;
        for (result, n) in [("equal", equal), ("unequal", unequal), ("unaudited", unaudited)] {
            let result = ("result", result.to_string());
            let labels = vec![("view", view.clone()), ("fingerprint", fingerprint.short()), result];
            set(&states, &labels, n);
        }
    }
    registry
}

fn gauges(speed: Option<&SpeedStatus>) -> Registry {
    let mut registry = Registry::default();
    let up: Gauge = register(&mut registry, SPEED_UP, Gauge::default());
    up.set(i64::from(speed.is_some()));
    let Some(speed) = speed else { return registry };
    let epochs: Counter = register(&mut registry, EPOCHS, Counter::default());
    epochs.inc_by(speed.epochs);
    let mut family = |name| register(&mut registry, name, Gauges::default());
    let (log_end, folded, lag, archived) = (family(LOG_END), family(FOLDED), family(LAG), family(ARCHIVED));
    let (waiting, watermark) = (family(WAITING), family(WATERMARK));
    let (rows, bytes, building) = (family(STATE_ROWS), family(STATE_BYTES), family(BUILDING));
    for p in &speed.partitions {
        let labels = vec![("stream", p.stream.clone()), ("partition", p.partition.to_string())];
        set(&log_end, &labels, p.log_end);
        set(&folded, &labels, p.folded);
        set(&lag, &labels, p.log_end.saturating_sub(p.folded));
        set(&archived, &labels, p.archived);
        set(&waiting, &labels, p.segments_waiting);
        if let Some(nanoseconds) = p.watermark {
            watermark.get_or_create(&labels).set(nanoseconds.div_euclid(1_000_000_000));
        }
    }
    let late: Counters = register(&mut registry, LATE, Counters::default());
    for total in &speed.late {
        let labels = vec![("stream", total.stream.clone()), ("view", total.view.clone())];
        late.get_or_create(&labels).inc_by(total.count);
    }
    for v in &speed.views {
        let labels = vec![("view", v.view.clone()), ("fingerprint", v.fingerprint.short())];
        set(&rows, &labels, v.rows);
        set(&bytes, &labels, v.bytes);
        set(&building, &labels, v.building.map_or(0, |(done, total)| total.saturating_sub(done)));
    }
    registry
}

fn set(family: &Gauges, labels: &Labels, value: u64) {
    family.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn register<M: Metric + Clone>(registry: &mut Registry, name: Name, metric: M) -> M {
    match name.unit {
        Some(unit) => registry.register_with_unit(name.name, name.help, unit, metric.clone()),
        None => registry.register(name.name, name.help, metric.clone()),
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::{LateTotal, Partition, PartitionStatus};

    #[test]
    fn what_was_counted_is_told() {
        let metrics = Metrics::default();
        metrics.answered(7, Duration::from_millis(3));
        metrics.failed(Kind::NotFound);
        metrics
            .ingested("s", &IngestReceipt { accepted: 5, rejected: 1, duplicates: 2, ..Default::default() });
        let text = metrics.encode(None, &[]).unwrap();
        for line in [
            "twofold_queries_total 1",
            "twofold_query_rows_total 7",
            "twofold_query_duration_seconds_count 1",
            "twofold_errors_total{kind=\"not_found\"} 1",
            "twofold_ingest_accepted_events_total{stream=\"s\"} 5",
            "twofold_ingest_rejected_events_total{stream=\"s\"} 1",
            "twofold_ingest_duplicate_events_total{stream=\"s\"} 2",
            "twofold_speed_up 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn gauges_are_those_of_the_speed_layer() {
        let partition = PartitionStatus {
            stream: "s".into(),
            partition: Partition(1),
            log_start: 0,
            log_end: 9,
            folded: 7,
            archived: 4,
            segments_waiting: 0,
            watermark: Some(1_500_000_000),
            idle: false,
        };
        let late = vec![LateTotal { stream: "s".into(), view: "v".into(), count: 5 }];
        let speed = SpeedStatus { partitions: vec![partition], late, ..Default::default() };
        let text = Metrics::default().encode(Some(&speed), &[]).unwrap();
        assert!(text.contains("twofold_lag_offsets{stream=\"s\",partition=\"1\"} 2\n"), "{text}");
        assert!(
            text.contains("twofold_watermark_timestamp_seconds{stream=\"s\",partition=\"1\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("twofold_speed_up 1\n"), "{text}");
        assert!(text.contains("twofold_late_events_total{stream=\"s\",view=\"v\"} 5\n"), "{text}");
    }

    #[test]
    fn what_audits_found_is_told_also_where_nothing_differs() {
        let totals = AuditTotals { equal: 7, unaudited: 0, unequal: 1, at: 5 };
        let audit = ViewAudit { view: "v".into(), fingerprint: Digest::of(b"f"), totals };
        let text = Metrics::default().encode(None, &[audit]).unwrap();
        let fingerprint = Digest::of(b"f").short();
        for (result, n) in [("equal", 7), ("unequal", 1), ("unaudited", 0)] {
            let labels = format!("view=\"v\",fingerprint=\"{fingerprint}\",result=\"{result}\"");
            assert!(text.contains(&format!("twofold_audit_states{{{labels}}} {n}\n")), "{text}");
        }
    }
}
