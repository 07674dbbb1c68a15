//! Valid inputs for each target: what the program itself writes, and what its users may write.

use super::targets::{FINGERPRINT, STREAM, VIEW, decoder, stream};
use crate::views::{STREAMS, VIEWS};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampNanosecondArray};
use parquet::arrow::ArrowWriter;
use std::collections::BTreeMap;
use std::sync::Arc;
use twofold_common::{
    Answer, Archive, BatchManifest, BatchViews, NewSegment, Offset, OffsetRange, Partition,
    PartitionWatermark, Pieces, Snapshot, SnapshotRequest, SpeedView, State, Store, Tail, template, wire,
};

const NDJSON: &str = r#"{"a":true,"b":-3,"c":5.0,"d":9007199254740993,"e":0.5,"f":1e300,"g":"12.3400","h":"é\n\u00e9","i":"AQID","j":"2026-01-31","k":"23:59:59.5","l":"2026-01-31T12:00:00+01:00","m":[1,null,3],"n":{"x":1,"y":["a","b"]}}
{"l":1700000000000,"h":"","m":[],"n":{"x":null,"y":null}}
{"l":"2026-02-01 00:00:00","g":-1.5,"unknown":{"deep":[[[{"x":[]}]]]}}
{"l":"2026-02-01T00:00:00.123456789Z"}
"#;
const CSV: &str = "a,b,c,d,e,f,g,h,i,j,k,l,m,n\n\
    t,1,2,3,0.5,1e10,1.25,\"a \"\"quoted\"\" text\nover two lines\",\\x0102,2026-01-01,01:02,2026-01-01T00:00:00Z,\"[1,2]\",\"{\"\"x\"\":1}\"\n\
    ,,,,,,,,,,,1700000000000,,\n";
const TOML: &str = "[data]\npath = \"data\"\n[speed]\nlisten = \"127.0.0.1:0\"\nretire_grace = \"300ms\"\n\
    [serve]\nlisten = \"127.0.0.1:0\"\n[archive]\nsegment_rows = 400\n[batch]\nschedule = \"02:00\"\n";

/// The inputs by the name of the target.
pub fn corpus() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let decoded = decoder().decode_ndjson(NDJSON.as_bytes()).unwrap();
    assert_eq!((decoded.rows.num_rows(), decoded.rejected.num_rows()), (4, 0), "{:?}", decoded.rejected);
    let rows = decoded.rows;
    let (manifest, segment) = runtime.block_on(archived(&rows));
    let batch_manifest = runtime.block_on(published(&rows));
    let state = State::from_rows(&rows.schema(), 3, std::slice::from_ref(&rows)).unwrap();
    let answers: Vec<Vec<u8>> = answers(&rows, &state).iter().map(|a| a.to_bytes().unwrap()).collect();
    let without = |bytes: &Vec<u8>, digest: usize| bytes[..bytes.len() - digest].to_vec();
    let mut sql: Vec<Vec<u8>> = vec![STREAMS.into(), STREAM.into()];
    let view = |(name, query, _): &(&str, &str, bool)| format!("CREATE MATERIALIZED VIEW {name} AS {query};");
    sql.extend(VIEWS.iter().map(|v| view(v).into_bytes()));
    let mut toml: Vec<Vec<u8>> = vec![TOML.into()];
    toml.extend(
        template("x").into_iter().filter(|(name, _)| name.ends_with("toml")).map(|(_, t)| t.into_bytes()),
    );
    let error = wire::body(&twofold_common::Error::corrupt("a.parquet", "is cut short")).to_string();
    let error = [&500u16.to_be_bytes()[..], error.as_bytes()].concat();
    BTreeMap::from([
        ("ndjson", vec![NDJSON.into()]),
        ("csv", vec![CSV.into()]),
        ("parquet", vec![parquet(&rows)]),
        ("ddl", sql),
        ("config", toml),
        ("stream_manifest_sealed", vec![body(&manifest)]),
        ("stream_manifest", vec![manifest]),
        ("batch_manifest_sealed", vec![body(&batch_manifest)]),
        ("batch_manifest", vec![batch_manifest]),
        ("segment_sealed", vec![segment]),
        ("state_sealed", vec![state.to_bytes().unwrap()[32..].to_vec()]),
        ("state", vec![state.to_bytes().unwrap()]),
        ("answer_sealed", answers.iter().map(|bytes| without(bytes, 36)).collect()),
        ("answer", answers),
        ("request", vec![request()]),
        ("error", vec![error]),
    ])
}

fn parquet(rows: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

/// The rows as events of partition 0, from offset 0 on.
fn events(rows: &RecordBatch) -> RecordBatch {
    let count = rows.num_rows();
    let meta: [ArrayRef; 3] = [
        Arc::new(Int32Array::from(vec![0; count])),
        Arc::new(Int64Array::from_iter_values(0..count as i64)),
        Arc::new(TimestampNanosecondArray::from(vec![7; count])),
    ];
    let columns = rows.columns().iter().cloned().chain(meta).collect();
    RecordBatch::try_new(stream().event_schema(), columns).unwrap()
}

/// The manifest of a stream, and the file of its segment.
async fn archived(rows: &RecordBatch) -> (Vec<u8>, Vec<u8>) {
    let store = Store::memory();
    let archive = Archive::new(store.clone());
    archive.declare(stream()).await.unwrap();
    let new = NewSegment {
        partition: Partition(0),
        range: OffsetRange::new(Offset(0), Offset(9)),
        schema: stream().event_schema(),
        batches: vec![events(rows)],
        watermark: Some(5),
        states: BTreeMap::from([("x/0".to_string(), twofold_common::Digest::of(b"state"))]),
    };
    let segment = archive.write_segment("s", new).await.unwrap();
    let path = segment.path.clone();
    archive.append("s", 1, vec![(Partition(0), segment)]).await.unwrap();
    let manifest = store.get("archive/s/manifest/00000000000000000002.json").await.unwrap();
    (manifest.to_vec(), store.get(&path).await.unwrap().to_vec())
}

/// The manifest of a batch view.
async fn published(rows: &RecordBatch) -> Vec<u8> {
    let store = Store::memory();
    let views = BatchViews::new(store.clone());
    let file = views.write_state(VIEW, FINGERPRINT, 0, 0, rows).await.unwrap();
    let manifest = BatchManifest {
        view: VIEW.into(),
        fingerprint: FINGERPRINT.into(),
        horizon: BTreeMap::from([("s".to_string(), BTreeMap::from([(Partition(0), Offset(9))]))]),
        state_digests: vec![file.digest],
        cuts: vec![vec![file]],
        created: 9,
        started: None,
        mode: "full".into(),
        audit: Default::default(),
    };
    views.publish(None, &manifest).await.unwrap();
    let listed = store.list("views").await.unwrap();
    let path = listed.iter().find(|object| object.path.ends_with("1.json")).unwrap();
    store.get(&path.path).await.unwrap().to_vec()
}

/// The body of a manifest, as its digest sees it.
fn body(manifest: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(manifest).unwrap();
    let start = text.find("\"body\":").unwrap() + "\"body\":".len();
    text[start..text.len() - 1].into()
}

fn answers(rows: &RecordBatch, state: &State) -> Vec<Answer> {
    let range = OffsetRange::new(Offset(3), Offset(9));
    let partitions = BTreeMap::from([(Partition(0), vec![range]), (Partition(1), Vec::new())]);
    let pieces = Pieces::from([("s".to_string(), partitions)]);
    let watermark =
        PartitionWatermark { stream: "s".into(), partition: Partition(0), watermark: Some(-3), idle: true };
    let snapshot = Snapshot {
        views: vec![SpeedView { pieces, states: vec![(1, state.clone()), (0, state.clone())] }],
        streams: vec![Tail { ranges: BTreeMap::from([(Partition(0), range)]), batches: vec![events(rows)] }],
        watermarks: vec![watermark],
        late_events: Some(rows.clone()),
    };
    let building = Answer::Building { view: "v".into(), done: 1, total: 3 };
    vec![Answer::Snapshot(snapshot), building, Answer::Retired { relation: "s".into() }]
}

fn request() -> Vec<u8> {
    let from = BTreeMap::from([("s".to_string(), BTreeMap::from([(Partition(0), Offset(9))]))]);
    let view = twofold_common::ViewRequest {
        view: VIEW.into(),
        fingerprint: twofold_common::Digest::of(b"view"),
        from,
    };
    let request =
        SnapshotRequest { views: vec![view], streams: Vec::new(), late_events: true, max_staleness: None };
    serde_json::to_vec(&request).unwrap()
}
