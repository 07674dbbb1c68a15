//! The targets: each takes any bytes, and must neither panic nor take memory without bound.
//!
//! This file stands by itself: `tests/fuzz` includes it. Where bytes are kept under a digest there are two targets: one for
//! bytes as they are, and one (`sealed`) that seals them with the right digest first, so that what lies behind is reached.

use bytes::Bytes;
use std::sync::OnceLock;
use twofold_common::ddl::{self, Statement};
use twofold_common::{
    Answer, Archive, BatchViews, Config, Digest, Footer, Offset, OffsetRange, Segment, SnapshotRequest,
    State, Store, StreamDef, wire,
};
use twofold_speed::Decoder;

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("ndjson", ndjson),
    ("csv", csv),
    ("parquet", parquet),
    ("ddl", ddl),
    ("config", config),
    ("stream_manifest", stream_manifest),
    ("stream_manifest_sealed", stream_manifest_sealed),
    ("batch_manifest", batch_manifest),
    ("batch_manifest_sealed", batch_manifest_sealed),
    ("segment_sealed", segment_sealed),
    ("state", state),
    ("state_sealed", state_sealed),
    ("answer", answer),
    ("answer_sealed", answer_sealed),
    ("request", request),
    ("error", error),
];

/// A stream with a column of each kind.
pub const STREAM: &str = "CREATE STREAM s (a BOOLEAN, b SMALLINT, c INT, d BIGINT, e REAL, f DOUBLE, g DECIMAL(20, 4), \
    h TEXT, i BYTEA, j DATE, k TIME, l TIMESTAMP NOT NULL, m BIGINT[], n STRUCT<x BIGINT, y TEXT[]>)";
/// The name of the view whose manifest is read.
pub const VIEW: &str = "v";
/// Its fingerprint.
pub const FINGERPRINT: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const BATCH_ROWS: usize = 1024;

/// The stream that all targets decode events of.
pub fn stream() -> &'static StreamDef {
    static STREAM_DEF: OnceLock<StreamDef> = OnceLock::new();
    STREAM_DEF.get_or_init(|| match ddl::parse("s.sql", STREAM).expect("it parses").remove(0) {
        Statement::Stream(def, _) => def,
        other => panic!("{other:?}"),
    })
}

/// The decoder of its events.
pub fn decoder() -> &'static Decoder {
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    DECODER.get_or_init(|| Decoder::new(stream()).expect("it decodes"))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("it builds");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn ndjson(data: &[u8]) {
    let _ = decoder().decode_ndjson(data);
}

fn csv(data: &[u8]) {
    let _ = decoder().decode_csv(data, BATCH_ROWS, |_| Ok(()));
}

fn parquet(data: &[u8]) {
    let _ = decoder().decode_parquet(Bytes::copy_from_slice(data), BATCH_ROWS, |_| Ok(()));
}

fn ddl(data: &[u8]) {
    let _ = ddl::parse("f.sql", &String::from_utf8_lossy(data));
}

fn config(data: &[u8]) {
    let _ = Config::parse(&String::from_utf8_lossy(data), "twofold.toml");
}

/// What `to_read` gives where an object has these bytes.
fn stored(path: &str, data: &[u8], to_read: impl AsyncFnOnce(Store)) {
    run(async {
        let store = Store::memory();
        store.put(path, Bytes::copy_from_slice(data)).await.expect("memory takes it");
        to_read(store).await;
    });
}

fn stream_manifest(data: &[u8]) {
    stored("archive/s/manifest/00000000000000000001.json", data, async |store| {
        let _ = Archive::new(store).manifest("s").await;
    });
}

fn batch_manifest(data: &[u8]) {
    let path = format!("views/{VIEW}/{FINGERPRINT}/manifest/00000000000000000001.json");
    stored(&path, data, async |store| {
        let _ = BatchViews::new(store).latest(VIEW, FINGERPRINT).await;
    });
}

fn stream_manifest_sealed(body: &[u8]) {
    stream_manifest(&envelope("stream-manifest", body));
}

fn batch_manifest_sealed(body: &[u8]) {
    batch_manifest(&envelope("batch-manifest", body));
}

fn envelope(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{{\"format\":1,\"kind\":\"{kind}\",\"digest\":\"{}\",\"body\":", Digest::of(body));
    [head.as_bytes(), body, b"}"].concat()
}

fn segment_sealed(data: &[u8]) {
    let path = "archive/s/0/x.parquet".to_string();
    let range = OffsetRange::new(Offset(0), Offset(1000));
    let (bytes, digest) = (data.len() as u64, Digest::of(data));
    let segment = Segment {
        range,
        rows: 4,
        bytes,
        digest,
        footer: Footer::of(data),
        path: path.clone(),
        watermark: None,
        states: Default::default(),
    };
    stored(&path, data, async |store| {
        let (archive, schema) = (Archive::new(store), stream().event_schema());
        let _ = archive.read_segment(&segment, &schema, None).await;
        let some = [schema.field(0).name().clone()];
        let _ = archive.read_segment(&segment, &schema, Some(&some)).await;
    });
}

fn state(data: &[u8]) {
    let _ = State::from_bytes(data, "fuzz");
}

fn state_sealed(body: &[u8]) {
    state(&[&Digest::of(body).as_bytes()[..], body].concat());
}

fn answer(data: &[u8]) {
    let _ = Answer::from_bytes(data, "fuzz");
}

fn answer_sealed(frames: &[u8]) {
    answer(&[frames, &32u32.to_le_bytes(), &Digest::of(frames).as_bytes()[..]].concat());
}

fn request(data: &[u8]) {
    let _ = serde_json::from_slice::<SnapshotRequest>(data);
}

fn error(data: &[u8]) {
    let (status, body) = data.split_at_checked(2).unwrap_or((&[1, 244], data));
    let error = wire::error_from(u16::from_be_bytes([status[0], status[1]]), body);
    let _ = (error.kind(), error.to_string());
}
