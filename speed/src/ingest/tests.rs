use super::*;
use crate::log::MemoryLog;
use arrow::datatypes::{DataType, Field, Schema};
use twofold_common::{Kind, Offset, OffsetRange};

fn stream(partition_by: Option<&str>) -> StreamDef {
    let fields = vec![Field::new("origin", DataType::Utf8, true), Field::new("n", DataType::Int64, false)];
    StreamDef {
        name: "flights".into(),
        schema: Arc::new(Schema::new(fields)),
        partitions: 3,
        partition_by: partition_by.map(str::to_string),
        watermark: None,
        deduplicate: None,
    }
}

fn ingest(def: StreamDef) -> (Ingest, Arc<dyn Log>) {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(&with_rejected([&def])));
    let streams = BTreeMap::from([(def.name.clone(), def)]);
    (Ingest::new(Arc::clone(&log), &streams, Arc::new(|| 42)).unwrap(), log)
}

impl Ingest {
    async fn ingest_ndjson(&self, stream: &str, body: impl Into<Bytes>) -> Result<IngestReceipt> {
        self.ingest(IngestRequest::new(stream, "application/x-ndjson", body)).await
    }
}

async fn held(log: &dyn Log, stream: &str, partition: u32) -> RecordBatch {
    let chunk = log.read(stream, Partition(partition), Offset(0), usize::MAX).await.unwrap();
    match chunk.batches.first() {
        Some(first) => arrow::compute::concat_batches(first.schema_ref(), &chunk.batches).unwrap(),
        None => RecordBatch::new_empty(Arc::new(Schema::empty())),
    }
}

#[tokio::test]
async fn good_and_bad_events_of_a_request_are_all_kept() {
    let (ingest, log) = ingest(stream(None));
    let body = "{\"n\":1}\n{\"n\":\"x\"}\nnot json\n{\"n\":2}\n{\"n\":\"x\"}\n";
    let receipt = ingest.ingest_ndjson("flights", body).await.unwrap();
    assert_eq!((receipt.accepted, receipt.rejected), (2, 3));
    let range = OffsetRange::new(Offset(0), Offset(2));
    assert_eq!(receipt.offsets, [PartitionRange { partition: Partition(0), range }]);
    assert_eq!(receipt.reasons.len(), 2, "{:?}", receipt.reasons);
    assert_eq!(receipt.reasons[0], "column n: expected BIGINT, found string \"x\"");
    let rejected = held(&*log, "flights_rejected", 0).await;
    let raw: Vec<_> = rejected.column(1).as_binary::<i32>().iter().flatten().collect();
    assert_eq!(raw, [b"{\"n\":\"x\"}".as_slice(), b"not json", b"{\"n\":\"x\"}"]);
}

#[tokio::test]
async fn equal_keys_meet_in_one_partition_in_order() {
    let (ingest, log) = ingest(stream(Some("origin")));
    let keys = ["\"EWR\"", "\"JFK\"", "\"LGA\"", "\"BOS\"", "null"];
    let body: String = (0..50).map(|n| format!("{{\"origin\":{},\"n\":{n}}}\n", keys[n % 5])).collect();
    let receipt = ingest.ingest_ndjson("flights", body).await.unwrap();
    assert_eq!(receipt.accepted, 50);
    let mut homes: BTreeMap<Option<String>, u32> = BTreeMap::new();
    let mut total = 0;
    for PartitionRange { partition, .. } in &receipt.offsets {
        let rows = held(&*log, "flights", partition.0).await;
        total += rows.num_rows();
        let numbers = rows.column(1).as_primitive::<arrow::datatypes::Int64Type>();
        assert!(numbers.values().is_sorted(), "order is kept");
        for origin in rows.column(0).as_string::<i32>() {
            let home = homes.insert(origin.map(str::to_string), partition.0);
            assert!(home.is_none_or(|home| home == partition.0));
        }
    }
    assert_eq!(total, 50);
    assert_eq!(homes[&None], 0);
    assert!(receipt.offsets.len() > 1, "keys spread");
}

#[tokio::test]
async fn without_a_key_requests_go_round() {
    let (ingest, _) = ingest(stream(None));
    let mut partitions = Vec::new();
    for _ in 0..4 {
        let receipt = ingest.ingest_ndjson("flights", "{\"n\":1}\n{\"n\":2}").await.unwrap();
        partitions.extend(receipt.offsets.iter().map(|o| o.partition.0));
    }
    assert_eq!(partitions, [0, 1, 2, 0]);
}

#[tokio::test]
async fn an_unknown_stream_is_told_with_those_that_are() {
    let (ingest, _) = ingest(stream(None));
    let error = ingest.ingest_ndjson("flight", "{}").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("flights"), "{error}");
}

#[tokio::test]
async fn nothing_is_appended_for_no_events() {
    let (ingest, log) = ingest(stream(None));
    assert_eq!(ingest.ingest_ndjson("flights", "\n \n").await.unwrap(), IngestReceipt::default());
    assert_eq!(log.bounds("flights", Partition(0)).await.unwrap().end, Offset(0));
}

#[test]
fn a_partition_column_must_exist_and_be_scalar() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(&[]));
    let bad = BTreeMap::from([("flights".to_string(), stream(Some("dest")))]);
    let error = Ingest::new(log, &bad, Arc::new(|| 0)).unwrap_err();
    assert!(error.to_string().contains("dest"), "{error}");
}

#[test]
fn a_receipt_is_json_as_documented_and_back() {
    let receipt = IngestReceipt {
        accepted: 10,
        offsets: vec![PartitionRange {
            partition: Partition(0),
            range: OffsetRange::new(Offset(0), Offset(10)),
        }],
        ..IngestReceipt::default()
    };
    let json = serde_json::to_string(&receipt).unwrap();
    let expected = r#"{"accepted":10,"rejected":0,"duplicates":0,"offsets":[{"partition":0,"start":0,"end":10}],"reasons":[]}"#;
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_str::<IngestReceipt>(&json).unwrap(), receipt);
}

#[test]
fn receipts_add_up() {
    let receipt = |reasons: std::ops::Range<u64>| IngestReceipt {
        accepted: 1,
        rejected: 2,
        duplicates: 3,
        offsets: vec![],
        reasons: reasons.map(|n| n.to_string()).collect(),
    };
    let sum = receipt(0..8).and(receipt(5..20));
    assert_eq!((sum.accepted, sum.rejected, sum.duplicates, sum.reasons.len()), (2, 4, 6, 10));
}
