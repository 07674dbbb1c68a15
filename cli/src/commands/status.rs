//! `twofold status`: what the platform is doing, for people; with `--json` as `GET /v1/status` gives it.

use crate::args::StatusArgs;
use crate::node::Door;
use crate::text::{bytes, columns, count, print};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;
use twofold_common::Functions;
use twofold_serving::{AuditStatus, Status, StreamPartition, StreamStatus, ViewState, ViewStatus};

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &StatusArgs, command: &str) -> Result<()> {
    let door = Door::open(dir, functions, None, command).await?;
    let status = door.status().await?;
    if args.json {
        return print(serde_json::to_string_pretty(&status)? + "\n");
    }
    let who = match &door {
        Door::Server(client) => format!("server: {}\n", client.url()),
        Door::Beside(_) => "server: none; the speed layer answers\n".to_string(),
        Door::Alone { .. } => "server: none is running\n".to_string(),
    };
    print(who + &describe(&status))
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    if let Some(error) = &status.speed.error {
        let what = if status.speed.reachable { "the speed layer cannot go on" } else { "no speed layer" };
        let _ = writeln!(text, "{what}: {error}");
    }
    let rows: Vec<_> =
        status.streams.iter().flat_map(|s| s.partitions.iter().map(|p| stream_line(s, p))).collect();
    if !rows.is_empty() {
        let heads = [
            "stream",
            ">partition",
            ">log",
            ">folded",
            ">lag",
            ">archived",
            ">segments",
            ">waiting",
            ">size",
            "watermark",
        ];
        let _ = write!(text, "\n{}", columns(&heads, &rows));
    }
    for stream in status.streams.iter().filter(|s| s.rejected > 0) {
        let _ = writeln!(
            text,
            "{}: {} rejected events, kept in {}_rejected",
            stream.name,
            count(stream.rejected),
            stream.name
        );
    }
    let rows: Vec<_> = status.views.iter().map(view_line).collect();
    if !rows.is_empty() {
        let heads = [
            "view",
            "fingerprint",
            "state",
            "batch",
            ">covers",
            ">batch rows",
            ">speed rows",
            "watermark",
            "audit",
        ];
        let _ = write!(text, "\n{}", columns(&heads, &rows));
    }
    for view in &status.views {
        if let Some(failed) = &view.failed {
            let _ = writeln!(text, "{} stands still: {failed}", view.name);
        }
        for bad in view.batch.iter().flat_map(|batch| &batch.audit.unequal) {
            let _ = writeln!(
                text,
                "{}: batch and speed disagree on stream {}, partition {}, offsets {}, cut {}",
                view.name, bad.stream, bad.partition, bad.range, bad.cut
            );
        }
        if view.audit.as_ref().is_some_and(|audit| audit.unequal > 0) {
            let _ = writeln!(text, "{}: `twofold audit --explain` lists the keys that differ", view.name);
        }
    }
    if !status.query_views.is_empty() {
        let _ = writeln!(text, "\nviews computed when asked for: {}", status.query_views.join(", "));
    }
    if !status.tables.is_empty() {
        let tables: Vec<_> =
            status.tables.iter().map(|t| format!("{} ({} rows)", t.name, count(t.rows))).collect();
        let _ = writeln!(text, "tables: {}", tables.join(", "));
    }
    text
}

fn stream_line(stream: &StreamStatus, p: &StreamPartition) -> Vec<String> {
    let known = |n: Option<u64>| n.map_or_else(|| "?".into(), count);
    let log = match (p.log_start, p.log_end) {
        (Some(start), Some(end)) => format!("[{}, {})", count(start), count(end)),
        _ => "?".into(),
    };
    vec![
        stream.name.clone(),
        p.partition.to_string(),
        log,
        known(p.folded),
        known(p.lag),
        count(p.archived),
        count(p.segments),
        known(p.segments_waiting),
        bytes(p.archived_bytes),
        p.watermark.clone().unwrap_or_else(|| "-".into()) + if p.idle { " (idle)" } else { "" },
    ]
}

fn view_line(view: &ViewStatus) -> Vec<String> {
    let state: String = match (view.state, view.building) {
        (ViewState::Live, _) => "live".into(),
        (ViewState::Building, Some(b)) => format!("building, {} of {}", count(b.done), count(b.total)),
        (ViewState::Building, None) => "building".into(),
        (ViewState::Failed, _) => "failed".into(),
        (ViewState::Unknown, _) => "not in the speed layer: restart it".into(),
        (ViewState::Offline, _) => "offline".into(),
    };
    let state: String = match &view.previous {
        Some(previous) => format!("{state}; {} answers", previous.chars().take(16).collect::<String>()),
        None => state,
    };
    let batch = view.batch.as_ref();
    let horizon = |b: &twofold_serving::BatchStatus| -> u64 {
        b.horizon.values().flat_map(|offsets| offsets.values()).map(|offset| offset.0).sum()
    };
    let audit = |a: &AuditStatus| {
        let audited = format!("{} equal, {} unaudited", count(a.equal), count(a.unaudited));
        if a.unequal == 0 { audited } else { format!("{audited}, {} UNEQUAL", count(a.unequal)) }
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    vec![
        view.name.clone(),
        view.fingerprint.chars().take(16).collect(),
        state,
        or_dash(batch.map(|b| format!("{} {}", b.mode, b.created))),
        or_dash(batch.map(|b| count(horizon(b)))),
        or_dash(batch.map(|b| count(b.rows))),
        or_dash(view.speed.map(|s| count(s.rows))),
        or_dash(view.watermark.clone()),
        or_dash(view.audit.as_ref().map(audit)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use twofold_common::{AuditSummary, Offset, Partition};
    use twofold_serving::{BatchStatus, Building, LayerStatus, SpeedStates, TableStatus};

    fn partition(known: bool) -> StreamPartition {
        let only = |n: u64| known.then_some(n);
        StreamPartition {
            partition: 0,
            archived: 25_000,
            segments: 1,
            archived_events: 25_000,
            archived_bytes: 200_000,
            segments_waiting: only(0),
            log_start: only(0),
            log_end: only(30_000),
            folded: only(29_000),
            lag: only(1_000),
            watermark: known.then(|| "2013-01-01T00:00:00Z".into()),
            idle: false,
        }
    }

    fn view(name: &str, state: ViewState, batch: Option<BatchStatus>) -> ViewStatus {
        ViewStatus {
            name: name.into(),
            fingerprint: "0123456789abcdef0123".into(),
            state,
            streams: vec!["flights".into()],
            audit: batch.as_ref().map(|_| AuditStatus {
                equal: 3,
                unaudited: 2,
                unequal: 1,
                at: "2013-01-02T00:00:00Z".into(),
            }),
            batch,
            speed: Some(SpeedStates { segments: 1, rows: 16, bytes: 4_096 }),
            building: Some(Building { done: 5, total: 10 }),
            failed: None,
            previous: (state == ViewState::Building).then(|| "fedcba98765432100123".into()),
            watermark: (state == ViewState::Live).then(|| "2013-01-01T00:00:00Z".into()),
        }
    }

    #[test]
    fn status_is_two_tables_and_what_is_wrong() {
        let horizon = BTreeMap::from([("flights".into(), BTreeMap::from([(Partition(0), Offset(25_000))]))]);
        let batch = BatchStatus {
            version: 3,
            created: "2013-01-02T00:00:00Z".into(),
            mode: "incremental".into(),
            horizon,
            rows: 16,
            bytes: 900,
            audit: AuditSummary { equal: 1, unaudited: 0, unequal: vec![] },
        };
        let stream = |known| StreamStatus {
            name: "flights".into(),
            events: 30_000,
            rejected: 2,
            partitions: vec![partition(known)],
        };
        let status = Status {
            speed: LayerStatus { reachable: true, epochs: Some(4), error: None },
            streams: vec![stream(true)],
            views: vec![
                view("delays", ViewState::Live, Some(batch)),
                view("days", ViewState::Building, None),
            ],
            query_views: vec!["punctuality".into()],
            tables: vec![TableStatus { name: "airlines".into(), rows: 16 }],
        };
        insta::assert_snapshot!(describe(&status).trim_start(), @r#"
        stream   partition          log  folded    lag  archived  segments  waiting       size  watermark
        flights          0  [0, 30,000)  29,000  1,000    25,000         1        0  195.3 KiB  2013-01-01T00:00:00Z
        flights: 2 rejected events, kept in flights_rejected

        view    fingerprint       state                                        batch                             covers  batch rows  speed rows  watermark             audit
        delays  0123456789abcdef  live                                         incremental 2013-01-02T00:00:00Z  25,000          16          16  2013-01-01T00:00:00Z  3 equal, 2 unaudited, 1 UNEQUAL
        days    0123456789abcdef  building, 5 of 10; fedcba9876543210 answers  -                                      -           -          16  -                     -
        delays: `twofold audit --explain` lists the keys that differ

        views computed when asked for: punctuality
        tables: airlines (16 rows)
        "#);
        let error = Some("the speed layer at http://x cannot be reached".into());
        let offline = Status {
            speed: LayerStatus { reachable: false, epochs: None, error },
            streams: vec![stream(false)],
            views: vec![view("delays", ViewState::Offline, None)],
            query_views: vec![],
            tables: vec![],
        };
        insta::assert_snapshot!(describe(&offline), @r#"
        no speed layer: the speed layer at http://x cannot be reached

        stream   partition  log  folded  lag  archived  segments  waiting       size  watermark
        flights          0    ?       ?    ?    25,000         1        ?  195.3 KiB  -
        flights: 2 rejected events, kept in flights_rejected

        view    fingerprint       state    batch  covers  batch rows  speed rows  watermark  audit
        delays  0123456789abcdef  offline  -           -           -          16  -          -
        "#);
    }
}
