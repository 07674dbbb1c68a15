//! A stream as a relation: the archive's segments, then the tail that only the log holds.
//!
//! Rows come partition by partition in offset order, the tail after all segments. Segments are read while the
//! plan runs, two at a time and only the columns that it needs, so that a scan of the whole archive stays
//! within memory. What was written before the stream gained a column has null in it.
//!
//! A segment that is damaged or gone fails the query: never a hole.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, project_schema};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use twofold_common::{Archive, Error, Kind, Result, Segment, stream::adapt};

/// How many segments are read at a time.
const READ_AHEAD: usize = 2;

/// The events of a stream up to one moment.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) archive: Archive,
    /// The event schema.
    pub(crate) schema: SchemaRef,
    pub(crate) segments: Vec<Segment>,
    pub(crate) tail: Vec<RecordBatch>,
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let wanted = project_schema(&self.schema, projection)?;
        let tail = self.tail.iter().map(|batch| adapt(batch, &wanted)).collect::<Result<_>>()?;
        let scan = EventScan {
            archive: self.archive.clone(),
            full: Arc::clone(&self.schema),
            wanted: Arc::clone(&wanted),
            segments: self.segments.iter().filter(|segment| segment.rows > 0).cloned().collect(),
            tail,
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
    segments: Vec<Segment>,
    tail: Vec<RecordBatch>,
}

impl PartitionStream for EventScan {
    fn schema(&self) -> &SchemaRef {
        &self.wanted
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let archived = self.segments.clone().into_iter().map(|segment| {
            let (archive, full, wanted) =
                (self.archive.clone(), Arc::clone(&self.full), Arc::clone(&self.wanted));
            async move {
                let batches =
                    read(&archive, &segment, &full, &wanted).await.map_err(DataFusionError::from)?;
                Ok::<_, DataFusionError>(stream::iter(batches).map(Ok))
            }
        });
        let archived = stream::iter(archived.collect::<Vec<_>>()).buffered(READ_AHEAD).try_flatten();
        let events = archived.chain(stream::iter(self.tail.clone()).map(Ok));
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
