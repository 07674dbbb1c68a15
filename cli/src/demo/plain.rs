//! The other side of the comparison: each view's SQL, run by DataFusion alone over the source files.
//!
//! Nothing of Twofold takes part but the text of the statements: a session of its own, the engine's own functions,
//! tables read by the engine, the events as the file has them, in the column types that the stream declares.

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::compute::{cast, concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::datasource::MemTable;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;
use twofold_common::{Project, StreamDef, TableFormat};

/// The events of a Parquet file in the order of `time`, in the types of the stream's columns.
pub(super) fn events(file: &'static [u8], stream: &StreamDef, time: &str) -> Result<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(file))?.build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let schema = batches.first().map(RecordBatch::schema).context("the events are an empty file")?;
    let whole = concat_batches(&schema, &batches)?;
    let columns = stream.schema.fields().iter().map(|field| {
        let column =
            whole.column_by_name(field.name()).with_context(|| format!("no column {}", field.name()))?;
        Ok(cast(column, field.data_type())?)
    });
    let events = RecordBatch::try_new(Arc::clone(&stream.schema), columns.collect::<Result<_>>()?)?;
    let time = events.column_by_name(time).with_context(|| format!("no column {time}"))?;
    let order = sort_to_indices(time, None, None)?;
    Ok(take_record_batch(&events, &order)?)
}

/// A session of the engine with the project's tables and the events.
pub(super) struct Plain(SessionContext);

impl Plain {
    pub(super) async fn new(project: &Project, stream: &str, events: RecordBatch) -> Result<Self> {
        let mut config = SessionConfig::new().with_target_partitions(1);
        // So that the types of text are those that the statements say.
        config.options_mut().execution.parquet.schema_force_view_types = false;
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let session = SessionContext::new_with_config(config);
        for (name, table) in &project.tables {
            let path = table.def.path.display().to_string();
            match table.def.format {
                TableFormat::Parquet => {
                    session.register_parquet(name, path, ParquetReadOptions::default()).await?
                }
                _ => {
                    let options = CsvReadOptions::new().schema(&table.def.schema);
                    session.register_csv(name, path, options).await?;
                }
            }
        }
        let table = MemTable::try_new(events.schema(), vec![vec![events]])?;
        session.register_table(stream, Arc::new(table))?;
        Ok(Self(session))
    }

    /// The rows of one query.
    pub(super) async fn query(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let frame = self.0.sql(sql).await?;
        let schema = Arc::clone(frame.schema().inner());
        Ok((schema, frame.collect().await?))
    }
}
