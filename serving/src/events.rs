//! A stream as a relation: the archive's segments, then the tail that only the log holds.
//!
//! Rows come partition by partition in offset order, wherever the archive ends: so a plan that depends on the order
//! of its rows gives the same whatever was archived. Segments are read while the plan runs, two at a time and only the columns that it needs, so that a scan of the whole archive stays
//! within memory. What was written before the stream gained a column has null in it.
//!
//! A segment that a filter by `_partition` and `_offset` leaves nothing of is not read. One that is damaged or gone fails
//! the query: never a hole.

use crate::place::Places;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, project_schema};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use twofold_common::stream::{PARTITION, adapt};
use twofold_common::{Archive, Error, Kind, Partition, Result, Segment};

/// How many segments are read at a time.
const READ_AHEAD: usize = 2;

/// The events of a stream up to one moment.
#[derive(Debug)]
pub(crate) struct Events {
    archive: Archive,
    /// The event schema.
    schema: SchemaRef,
    /// In (partition, offset) order.
    pieces: Vec<Piece>,
}

/// A run of events of one partition.
#[derive(Debug, Clone)]
enum Piece {
    Archived(Partition, Segment),
    Tail(RecordBatch),
}

impl Events {
    /// The events of `segments` and then, in each partition, of `tail`. Each is in offset order within a partition.
    pub(crate) fn new(
        archive: Archive,
        schema: SchemaRef,
        segments: &[(Partition, Segment)],
        tail: &[RecordBatch],
    ) -> Result<Self> {
        let mut pieces: Vec<(Partition, Piece)> = segments
            .iter()
            .filter(|(_, segment)| segment.rows > 0)
            .map(|(partition, segment)| (*partition, Piece::Archived(*partition, segment.clone())))
            .collect();
        for batch in tail.iter().filter(|batch| batch.num_rows() > 0) {
            pieces.push((partition_of(batch)?, Piece::Tail(batch.clone())));
        }
        // Stable: the tail of a partition stays behind its segments.
        pieces.sort_by_key(|(partition, _)| *partition);
        Ok(Self { archive, schema, pieces: pieces.into_iter().map(|(_, piece)| piece).collect() })
    }
}

fn partition_of(batch: &RecordBatch) -> Result<Partition> {
    let column = batch.column_by_name(PARTITION).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let first = column.filter(|c| !c.is_empty()).and_then(|c| u32::try_from(c.value(0)).ok());
    first.map(Partition).ok_or_else(|| Error::corrupt("the tail of a stream", "its events name no partition"))
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Segments are left out, events are not.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match Places::are_told_by(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let wanted = project_schema(&self.schema, projection)?;
        let places = Places::left_by(filters);
        let pieces = self.pieces.iter().filter(|piece| match piece {
            Piece::Archived(partition, segment) => places.may_hold(*partition, segment.range),
            Piece::Tail(_) => true,
        });
        let scan = EventScan {
            archive: self.archive.clone(),
            full: Arc::clone(&self.schema),
            wanted: Arc::clone(&wanted),
            pieces: pieces.cloned().collect(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(wanted, vec![Arc::new(scan)], None, [], false, limit)?))
    }
}

/// Some columns of the events.
#[derive(Debug)]
struct EventScan {
    archive: Archive,
    full: SchemaRef,
    wanted: SchemaRef,
    pieces: Vec<Piece>,
}

impl PartitionStream for EventScan {
    fn schema(&self) -> &SchemaRef {
        &self.wanted
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let pieces = self.pieces.clone().into_iter().map(|piece| {
            let (archive, full, wanted) =
                (self.archive.clone(), Arc::clone(&self.full), Arc::clone(&self.wanted));
            async move {
                let batches = match piece {
                    Piece::Archived(_, segment) => read(&archive, &segment, &full, &wanted).await,
                    Piece::Tail(batch) => adapt(&batch, &wanted).map(|batch| vec![batch]),
                };
                let batches = batches.map_err(DataFusionError::from)?;
                Ok::<_, DataFusionError>(stream::iter(batches).map(Ok))
            }
        });
        let events = stream::iter(pieces.collect::<Vec<_>>()).buffered(READ_AHEAD).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.wanted), events))
    }
}

async fn read(
    archive: &Archive,
    segment: &Segment,
    full: &SchemaRef,
    wanted: &SchemaRef,
) -> Result<Vec<RecordBatch>> {
    let columns: Vec<String> = wanted.fields().iter().map(|field| field.name().clone()).collect();
    let batches = archive.read_segment(segment, full, Some(&columns)).await.map_err(|e| match e.kind() {
        Kind::NotFound => {
            Error::corrupt(&segment.path, "the archive names this file, but it is gone: restore it")
        }
        _ => e,
    })?;
    batches.iter().map(|batch| adapt(batch, wanted)).collect()
}
