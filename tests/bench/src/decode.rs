//! Decoding: ndjson to Arrow on one core, beside arrow-json's reader.

use crate::events::ndjson;
use crate::measure::{Cost, start};
use crate::project::{catalog, stream};
use crate::report::Report;
use anyhow::{Result, bail, ensure};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::ReaderBuilder;
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use twofold_speed::Decoder;

/// How many events are decoded at once.
const PIECE: u64 = 65_536;
/// The same, in pieces that stay in the processor's caches.
const SMALL_PIECE: u64 = 8_192;

type Side<'a> = (&'a str, Box<dyn Fn() -> Result<u64> + 'a>);

pub(crate) fn measure(report: &mut Report, events: u64) -> Result<()> {
    report.part("decode", "ndjson to Arrow on one core, all columns, 65,536 events at once and 8,192");
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let catalog = runtime.block_on(catalog(dir.path(), &[] as &[(&str, &str)]))?;
    let decoder = Decoder::new(stream(&catalog)?)?;
    let pieces = |of: u64| -> Vec<String> {
        (0..events).step_by(of as usize).map(|at| ndjson(at, (at + of).min(events), 100_000)).collect()
    };
    let (large, small) = (pieces(PIECE), pieces(SMALL_PIECE));
    let bytes: usize = large.iter().map(String::len).sum();

    let sides: Vec<Side<'_>> = vec![
        ("twofold, 65,536 at once", Box::new(|| ours(&decoder, &large))),
        ("twofold, 8,192 at once", Box::new(|| ours(&decoder, &small))),
        ("arrow-json, batches of 65,536", Box::new(|| arrow_json(&large, PIECE as usize))),
        ("arrow-json, batches of 8,192", Box::new(|| arrow_json(&large, SMALL_PIECE as usize))),
    ];

    let mut costs: Vec<Vec<Cost>> = sides.iter().map(|_| Vec::new()).collect();
    for run in 0..=report.runs() {
        for ((name, work), costs) in sides.iter().zip(&mut costs) {
            let started = start();
            let found = work()?;
            ensure!(found == events, "{name} found {found} events of {events}");
            // The first warms up.
            if run > 0 {
                costs.push(started.cost());
            }
        }
    }
    let mut rates = Vec::new();
    for ((name, _), costs) in sides.iter().zip(&costs) {
        let rate = report.figure(name, events as f64, "events", costs).median;
        report.derived(&format!("{name}, MB/s"), rate * bytes as f64 / events as f64 / 1e6, None);
        rates.push(rate);
    }
    let [ours, ours_small, theirs, theirs_small] = rates[..] else { bail!("a side was not measured") };
    report.derived("speed against arrow-json's, 65,536 at once", ours / theirs, Some("at least 2"));
    let (ours, theirs) = (ours.max(ours_small), theirs.max(theirs_small));
    report.derived("speed against arrow-json's, the better of each", ours / theirs, Some("at least 2"));
    Ok(())
}

fn ours(decoder: &Decoder, pieces: &[String]) -> Result<u64> {
    let mut rows = 0;
    for piece in pieces {
        let decoded = decoder.decode_ndjson(piece.as_bytes())?;
        ensure!(decoded.rejected.num_rows() == 0, "an event was rejected");
        rows += black_box(decoded).rows.num_rows() as u64;
    }
    Ok(rows)
}

fn arrow_json(pieces: &[String], batch_size: usize) -> Result<u64> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![
        text("user_id"),
        text("page_id"),
        text("ad_id"),
        text("ad_type"),
        text("event_type"),
        // As it is written: milliseconds.
        Field::new("event_time", DataType::Int64, true),
        text("ip_address"),
    ]));
    let mut rows = 0;
    for piece in pieces {
        for batch in
            ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(batch_size).build(Cursor::new(piece))?
        {
            rows += black_box(batch?).num_rows() as u64;
        }
    }
    Ok(rows)
}
