//! Ingest: decoded events go to their partitions, and everything of one request into the log at once.
//!
//! ```text
//! accepted + rejected + duplicates = the events of the request
//! ```
//!
//! A receipt is given after all of them are durable: the good ones in the partitions that they belong to, the bad
//! ones in the stream of rejected events. If the log fails, none of them is.
//!
//! A request that is sent twice goes in once if it has a key; else twice, but for events whose ids the stream declares.

mod partition;

pub(crate) use partition::ids_of;

use crate::decode::{Decoded, Decoder, Format};
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use twofold_common::{
    Append, AppendRequest, Appended, Deduplicate, Digest, Error, IngestReceipt, IngestRequest, Log, Once,
    Partition, PartitionRange, Result, StreamDef,
};

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

    /// Takes a request into the log, all or none.
    ///
    /// # Errors
    /// `NotFound` for an unknown stream; `Invalid` if the body as a whole cannot be read as its format; `Conflict` if
    /// the key was used for another request; what the log fails with.
    pub async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        let IngestRequest { stream, format: mime, key, body } = request;
        let format = Format::from_mime(&mime).ok_or_else(|| {
            Error::Invalid(format!(
                "events of type {mime} are not understood: send application/x-ndjson, text/csv or \
                 application/vnd.apache.parquet"
            ))
        })?;
        let decoder = Arc::clone(self.decoder(&stream)?);
        let inline = format == Format::Ndjson && body.len() <= INLINE_BYTES;
        let name = stream.clone();
        let work = move || {
            // The same events written in another way are another request.
            let once = key.map(|key| Once {
                digest: Digest::of_parts([format!("{format:?}").as_bytes(), &body]),
                stream: name,
                key,
            });
            Ok::<_, Error>((once, decode(&decoder, format, body)?))
        };
        let (once, parts) = if inline {
            work()?
        } else {
            let decoded = tokio::task::spawn_blocking(work).await;
            decoded.map_err(|e| Error::Internal(format!("decoding events of stream {stream}: {e}")))??
        };
        self.append(&stream, parts, once).await
    }

    /// Takes the parts of one request into the log, all or none.
    async fn append(&self, stream: &str, parts: Vec<Decoded>, once: Option<Once>) -> Result<IngestReceipt> {
        let route = self.route(stream)?;
        let mut note = Note::default();
        let mut appends = Vec::new();
        for Decoded { rows, rejected } in parts {
            note.receipt = note.receipt.and(IngestReceipt {
                accepted: rows.num_rows() as u64,
                rejected: rejected.num_rows() as u64,
                reasons: distinct_reasons(&rejected),
                ..IngestReceipt::default()
            });
            for append in route.split(stream, rows)? {
                note.places.push(Some(append.partition));
                appends.push(append);
            }
            if rejected.num_rows() > 0 {
                let stream = route.rejected.name.clone();
                note.places.push(None);
                appends.push(Append { stream, partition: Partition(0), rows: rejected });
            }
        }
        if appends.is_empty() && once.is_none() {
            return Ok(note.receipt);
        }
        let note = serde_json::to_string(&note).map_err(|e| Error::Internal(e.to_string()))?;
        let request = AppendRequest { appends, ingest_time: (self.clock)(), note, once };
        receipt(self.log.append_request(request).await?)
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

/// What a receipt needs to know of a request besides what the log says. It is kept with the request's key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// As if there were no duplicates, and without offsets.
    receipt: IngestReceipt,
    /// The partition of each part, `None` for rejected events.
    places: Vec<Option<Partition>>,
}

/// The receipt for what was added, now or when the request came for the first time.
fn receipt(appended: Appended) -> Result<IngestReceipt> {
    let Appended { ranges, duplicates, note } = appended;
    let Note { mut receipt, places } = serde_json::from_str(&note)
        .map_err(|e| Error::Internal(format!("what was remembered of a request cannot be read: {e}")))?;
    receipt.duplicates = duplicates.iter().sum();
    receipt.accepted = receipt.accepted.saturating_sub(receipt.duplicates);
    let offsets = places.into_iter().zip(ranges);
    let offsets = offsets.filter_map(|(p, range)| Some(PartitionRange { partition: p?, range }));
    receipt.offsets = offsets.filter(|offsets| !offsets.range.is_empty()).collect();
    Ok(receipt)
}

fn decode(decoder: &Decoder, format: Format, body: Bytes) -> Result<Vec<Decoded>> {
    let mut parts = Vec::new();
    let keep = |part| {
        parts.push(part);
        Ok(())
    };
    match format {
        Format::Ndjson => return Ok(vec![decoder.decode_ndjson(&body)?]),
        Format::Csv => decoder.decode_csv(body.as_ref(), BODY_ROWS, keep)?,
        Format::Parquet => decoder.decode_parquet(body, BODY_ROWS, keep)?,
    }
    Ok(parts)
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
        if let Some(Deduplicate { column, .. }) = &def.deduplicate
            && !def.schema.field_with_name(column).is_ok_and(|field| partition::is_key(field.data_type()))
        {
            let stream = &def.name;
            let message =
                format!("stream {stream}: {column} is no column that can hold ids: use a scalar column");
            return Err(Error::Invalid(message));
        }
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
mod tests;
