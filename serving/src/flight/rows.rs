//! Rows on their way to a client.
//!
//! The query runs in a task of its own, at most [`AHEAD`] batches ahead of the client. It ends, and lets go of all that it
//! holds, when it is through, when it is stopped, when the client goes away, and when the client takes nothing for
//! [`STALLED`], or not all of it in the time of a query. Only a query that is through ends its stream well: whoever reads `OK` has read all rows.

use super::running::{Run, stopped};
use super::status::status;
use crate::encode::{COVERAGE_KEY, PREVIOUS, VERSION_KEY};
use crate::limits::Deadline;
use crate::plain::conform;
use crate::query::Streamed;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;
use twofold_common::{Coverage, Error, Result, least_watermark, rfc3339};

/// How many batches are made before the client takes one.
const AHEAD: usize = 2;
/// How long a client may take nothing.
const STALLED: Duration = Duration::from_secs(600);
/// Where a schema has the watermark of the answer.
const WATERMARK_KEY: &str = "twofold.watermark";
/// A longer coverage is left out: clients bound what one message may have.
const COVERAGE_LIMIT: usize = 1 << 20;

/// The messages of an answer or of a part of one.
pub(super) type Messages = BoxStream<'static, Result<FlightData, Status>>;

enum Item {
    Batch(RecordBatch),
    /// There are no more.
    End,
}

/// What the task has to say when it ends before the last row.
type Reason = Arc<Mutex<Option<Status>>>;

/// A table that is there already.
pub(super) fn table(batch: RecordBatch) -> Messages {
    encoded(batch.schema(), stream::once(async { Ok(batch) }).boxed())
}

/// An answer, while `run` is not stopped.
pub(super) fn answer(answer: Streamed, schema: &Schema, run: Run) -> Messages {
    let Streamed { batches, coverage, previous, deadline, .. } = answer;
    let schema = described(schema, &coverage, previous);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reason = Reason::default();
    let batches = batches.map_err(Error::from).boxed();
    // Held until it is told why, so that the client does not see the end before.
    let (held, told) = (sender.clone(), Arc::clone(&reason));
    let query = Query { schema: Arc::clone(&schema), batches, sender, run, deadline };
    tokio::spawn(async move {
        match query.run(STALLED).await {
            Ok(_) => {}
            Err(Ended::Failed(e)) => tell(&told, status(e)),
            Err(Ended::Stopped(why)) => tell(&told, why),
        }
        drop(held);
    });
    let received = stream::unfold(Some((receiver, reason)), async |state| {
        let (mut receiver, reason) = state?;
        match receiver.recv().await {
            Some(Item::Batch(batch)) => Some((Ok(batch), Some((receiver, reason)))),
            Some(Item::End) => None,
            None => {
                let why = reason.lock().unwrap_or_else(PoisonError::into_inner).take();
                let lost = || status(Error::Internal("the query ended before its last row".into()));
                Some((Err(why.unwrap_or_else(lost)), None))
            }
        }
    });
    encoded(schema, received.boxed())
}

fn tell(reason: &Reason, why: Status) {
    *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
}

fn encoded(schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch, Status>>) -> Messages {
    let batches = batches.map_err(FlightError::from);
    FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from).boxed()
}

/// The schema with what the answer is made of.
fn described(schema: &Schema, coverage: &[Coverage], previous: bool) -> SchemaRef {
    let mut metadata = HashMap::new();
    if let Ok(text) = serde_json::to_string(coverage)
        && text.len() <= COVERAGE_LIMIT
    {
        metadata.insert(COVERAGE_KEY.to_string(), text);
    }
    if let Some(watermark) = least_watermark(coverage.iter().map(|part| (part.watermark, part.idle))) {
        metadata.insert(WATERMARK_KEY.to_string(), rfc3339(watermark));
    }
    if previous {
        metadata.insert(VERSION_KEY.to_string(), PREVIOUS.to_string());
    }
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

/// A query while it runs.
struct Query {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    sender: mpsc::Sender<Item>,
    run: Run,
    deadline: Deadline,
}

/// Why a query has ended before its last row.
enum Ended {
    Failed(Error),
    Stopped(Status),
}

impl Query {
    /// How many rows were sent; `None` if the client has gone.
    async fn run(mut self, patience: Duration) -> Result<Option<usize>, Ended> {
        let mut rows = 0;
        loop {
            let next = tokio::select! {
                biased;
                () = self.run.until_stopped() => return Err(Ended::Stopped(stopped())),
                () = self.sender.closed() => return Ok(None),
                next = self.batches.next() => next,
            };
            let item = match next {
                Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                Some(Ok(batch)) => Item::Batch(conform(&batch, &self.schema).map_err(Ended::Failed)?),
                Some(Err(e)) => return Err(Ended::Failed(e)),
                None => Item::End,
            };
            let (sent, last) = match &item {
                Item::Batch(batch) => (batch.num_rows(), false),
                Item::End => (0, true),
            };
            tokio::select! {
                biased;
                () = self.run.until_stopped() => return Err(Ended::Stopped(stopped())),
                e = self.deadline.passed() => return Err(Ended::Failed(e)),
                taken = timeout(patience, self.sender.send(item)) => match taken {
                    Ok(Ok(())) => rows += sent,
                    Ok(Err(_)) => return Ok(None),
                    Err(_) => return Err(Ended::Stopped(stalled())),
                },
            }
            if last {
                return Ok(Some(rows));
            }
        }
    }
}

fn stalled() -> Status {
    let minutes = STALLED.as_secs() / 60;
    Status::deadline_exceeded(format!("no rows were taken for {minutes} minutes: ask again, and read on"))
}
