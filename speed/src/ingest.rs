//! Ingest: decoded events go to their partitions, and everything of one request into the log at once.
//!
//! ```text
//! accepted + rejected = the events of the request
//! ```
//!
//! A receipt is given after all of them are durable: the good ones in the partitions that they belong to, the bad
//! ones in the stream of rejected events. If the log fails, none of them is.
//!
//! It does not detect a request that is sent twice.

mod partition;

use crate::decode::{Decoded, Decoder, Format};
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use twofold_common::{Append, Error, IngestReceipt, Log, Partition, PartitionRange, Result, StreamDef};

/// A larger request is decoded on a thread for blocking work.
const INLINE_BYTES: usize = 64 << 10;
/// How many events of a body become one batch.
const BODY_ROWS: usize = 65_536;

/// Tells the time, in nanoseconds since the epoch, UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Takes events into the log.
pub struct Ingest {
    log: Arc<dyn Log>,
    streams: BTreeMap<String, Route>,
    clock: Clock,
}

/// Where the events of a stream go.
struct Route {
    decoder: Arc<Decoder>,
    rejected: StreamDef,
    partitions: u32,
    /// The place of the column that chooses the partition.
    partition_by: Option<usize>,
    /// Where the next request goes if there is no such column.
    next: AtomicU32,
}

impl Ingest {
    /// Takes events of `streams` into `log`, which must hold them and those of their rejected events: see
    /// [`with_rejected`].
    ///
    /// # Errors
    /// `Invalid` if a column has a type that events cannot carry, or a stream is partitioned by a column that it
    /// does not have, or whose type has no stable hash.
    pub fn new(log: Arc<dyn Log>, streams: &BTreeMap<String, StreamDef>, clock: Clock) -> Result<Ingest> {
        let routes = streams.iter().map(|(name, def)| Ok((name.clone(), Route::new(def)?)));
        Ok(Ingest { log, streams: routes.collect::<Result<_>>()?, clock })
    }

    /// Takes decoded events into the log, all or none.
    ///
    /// # Errors
    /// `NotFound` for an unknown stream; what the log fails with.
    pub async fn ingest(&self, stream: &str, decoded: Decoded) -> Result<IngestReceipt> {
        self.ingest_all(stream, vec![decoded]).await
    }

    /// Takes the parts of one request into the log, all or none.
    async fn ingest_all(&self, stream: &str, parts: Vec<Decoded>) -> Result<IngestReceipt> {
        let route = self.route(stream)?;
        let mut receipt = IngestReceipt::default();
        let (mut appends, mut places) = (Vec::new(), Vec::new());
        for Decoded { rows, rejected } in parts {
            receipt = receipt.and(IngestReceipt {
                accepted: rows.num_rows() as u64,
                rejected: rejected.num_rows() as u64,
                offsets: Vec::new(),
                reasons: distinct_reasons(&rejected),
            });
            for append in route.split(stream, rows)? {
                places.push(Some(append.partition));
                appends.push(append);
            }
            if rejected.num_rows() > 0 {
                let stream = route.rejected.name.clone();
                places.push(None);
                appends.push(Append { stream, partition: Partition(0), rows: rejected });
            }
        }
        if !appends.is_empty() {
            let ranges = self.log.append(appends, (self.clock)()).await?;
            let offsets = places.into_iter().zip(ranges);
            let offsets = offsets.filter_map(|(p, range)| Some(PartitionRange { partition: p?, range }));
            receipt.offsets = offsets.collect();
        }
        Ok(receipt)
    }

    /// Takes a body of events into the log, all or none.
    ///
    /// # Errors
    /// As [`ingest`](Self::ingest); `Invalid` if the body as a whole cannot be read as `format`.
    pub async fn ingest_body(&self, stream: &str, format: Format, body: Bytes) -> Result<IngestReceipt> {
        if format == Format::Ndjson {
            return self.ingest_ndjson(stream, body).await;
        }
        let decoder = Arc::clone(self.decoder(stream)?);
        let decoded = tokio::task::spawn_blocking(move || {
            let mut parts = Vec::new();
            let keep = |part| {
                parts.push(part);
                Ok(())
            };
            match format {
                Format::Csv => decoder.decode_csv(body.as_ref(), BODY_ROWS, keep)?,
                Format::Parquet => decoder.decode_parquet(body, BODY_ROWS, keep)?,
                Format::Ndjson => {}
            }
            Ok::<_, Error>(parts)
        });
        let parts =
            decoded.await.map_err(|e| Error::Internal(format!("decoding events of {stream}: {e}")))??;
        self.ingest_all(stream, parts).await
    }

    /// Takes a body of NDJSON into the log, all events or none.
    ///
    /// # Errors
    /// As [`ingest`](Self::ingest); `Invalid` if the body is too large for one batch.
    pub async fn ingest_ndjson(&self, stream: &str, body: Bytes) -> Result<IngestReceipt> {
        let decoder = Arc::clone(self.decoder(stream)?);
        let decoded = if body.len() <= INLINE_BYTES {
            decoder.decode_ndjson(&body)?
        } else {
            let decoded = tokio::task::spawn_blocking(move || decoder.decode_ndjson(&body)).await;
            decoded.map_err(|e| Error::Internal(format!("decoding events of stream {stream}: {e}")))??
        };
        self.ingest(stream, decoded).await
    }

    /// The decoder of a stream's events.
    ///
    /// # Errors
    /// `NotFound` for an unknown stream.
    pub fn decoder(&self, stream: &str) -> Result<&Arc<Decoder>> {
        Ok(&self.route(stream)?.decoder)
    }

    fn route(&self, stream: &str) -> Result<&Route> {
        self.streams.get(stream).ok_or_else(|| {
            let known: Vec<&str> = self.streams.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            Error::NotFound(format!("there is no stream {stream}: the project's streams are {known}"))
        })
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.streams.keys().collect();
        f.debug_struct("Ingest").field("log", &self.log).field("streams", &streams).finish_non_exhaustive()
    }
}

/// The streams that a log must hold for `streams`: these, and those of their rejected events.
pub fn with_rejected<'a>(streams: impl IntoIterator<Item = &'a StreamDef>) -> Vec<StreamDef> {
    streams.into_iter().flat_map(|stream| [stream.clone(), stream.rejected()]).collect()
}

impl Route {
    fn new(def: &StreamDef) -> Result<Route> {
        let partition_by = def.partition_by.as_deref().map(|name| {
            let stream = &def.name;
            let Ok(index) = def.schema.index_of(name) else {
                let message =
                    format!("stream {stream} is partitioned by {name}, which is not one of its columns");
                return Err(Error::Invalid(message));
            };
            if !partition::is_key(def.schema.field(index).data_type()) {
                let message = format!("stream {stream} cannot be partitioned by {name}: use a scalar column");
                return Err(Error::Invalid(message));
            }
            Ok(index)
        });
        Ok(Route {
            decoder: Arc::new(Decoder::new(def)?),
            rejected: def.rejected(),
            partitions: def.partitions.max(1),
            partition_by: partition_by.transpose()?,
            next: AtomicU32::new(0),
        })
    }

    /// `rows` by partition, each part in the order in which its events came.
    fn split(&self, stream: &str, rows: RecordBatch) -> Result<Vec<Append>> {
        let part = |partition, rows| Append { stream: stream.to_string(), partition, rows };
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.partitions == 1 {
            return Ok(vec![part(Partition(0), rows)]);
        }
        let Some(column) = self.partition_by else {
            let next = self.next.fetch_add(1, Ordering::Relaxed) % self.partitions;
            return Ok(vec![part(Partition(next), rows)]);
        };
        let mut indices: BTreeMap<Partition, Vec<u32>> = BTreeMap::new();
        for (row, partition) in
            partition::partitions_of(rows.column(column), self.partitions)?.iter().enumerate()
        {
            indices.entry(*partition).or_default().push(row as u32);
        }
        if let Some((&only, _)) = indices.first_key_value()
            && indices.len() == 1
        {
            return Ok(vec![part(only, rows)]);
        }
        let take = |(partition, of): (Partition, Vec<u32>)| {
            Ok(part(partition, take_record_batch(&rows, &UInt32Array::from(of))?))
        };
        indices.into_iter().map(take).collect()
    }
}

fn distinct_reasons(rejected: &RecordBatch) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    let column = rejected.column_by_name("reason").and_then(|c| c.as_string_opt::<i32>());
    for reason in column.iter().flat_map(|column| column.iter()).flatten() {
        if !reasons.iter().any(|known| known == reason) {
            reasons.push(reason.to_string());
        }
        if reasons.len() == IngestReceipt::REASONS {
            break;
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::MemoryLog;
    use arrow::datatypes::{DataType, Field, Schema};
    use twofold_common::{Kind, Offset, OffsetRange};

    fn stream(partition_by: Option<&str>) -> StreamDef {
        let fields =
            vec![Field::new("origin", DataType::Utf8, true), Field::new("n", DataType::Int64, false)];
        StreamDef {
            name: "flights".into(),
            schema: Arc::new(Schema::new(fields)),
            partitions: 3,
            partition_by: partition_by.map(str::to_string),
            watermark: None,
        }
    }

    fn ingest(def: StreamDef) -> (Ingest, Arc<dyn Log>) {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(&with_rejected([&def])));
        let streams = BTreeMap::from([(def.name.clone(), def)]);
        (Ingest::new(Arc::clone(&log), &streams, Arc::new(|| 42)).unwrap(), log)
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
        let receipt = ingest.ingest_ndjson("flights", body.into()).await.unwrap();
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
        let receipt = ingest.ingest_ndjson("flights", body.into()).await.unwrap();
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
            let receipt = ingest.ingest_ndjson("flights", "{\"n\":1}\n{\"n\":2}".into()).await.unwrap();
            partitions.extend(receipt.offsets.iter().map(|o| o.partition.0));
        }
        assert_eq!(partitions, [0, 1, 2, 0]);
    }

    #[tokio::test]
    async fn an_unknown_stream_is_told_with_those_that_are() {
        let (ingest, _) = ingest(stream(None));
        let error = ingest.ingest_ndjson("flight", "{}".into()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("flights"), "{error}");
    }

    #[tokio::test]
    async fn nothing_is_appended_for_no_events() {
        let (ingest, log) = ingest(stream(None));
        assert_eq!(ingest.ingest_ndjson("flights", "\n \n".into()).await.unwrap(), IngestReceipt::default());
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
        let expected =
            r#"{"accepted":10,"rejected":0,"offsets":[{"partition":0,"start":0,"end":10}],"reasons":[]}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<IngestReceipt>(&json).unwrap(), receipt);
    }

    #[test]
    fn receipts_add_up() {
        let receipt = |reasons: std::ops::Range<u64>| IngestReceipt {
            accepted: 1,
            rejected: 2,
            offsets: vec![],
            reasons: reasons.map(|n| n.to_string()).collect(),
        };
        let sum = receipt(0..8).and(receipt(5..20));
        assert_eq!((sum.accepted, sum.rejected, sum.reasons.len()), (2, 4, 10));
    }
}
