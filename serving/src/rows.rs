//! Rows: the answer to a query, and what it is made of.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use twofold_common::{Coverage, least_watermark};

/// The answer to a query.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, in the order that the query gives them; without `ORDER BY`, in none that can be relied on.
    pub batches: Vec<RecordBatch>,
    /// What each partition of each stream gave to the answer: ranges without gap or overlap from offset 0 on.
    pub coverage: Vec<Coverage>,
    /// Whether they are of the project before the current one, which is still being built.
    pub previous: bool,
}

impl Rows {
    /// The watermark of the answer: the least of its partitions', in nanoseconds since the epoch, UTC. A window that
    /// ends there or before is final.
    pub fn watermark(&self) -> Option<i64> {
        least_watermark(self.coverage.iter().map(|part| (part.watermark, part.idle)))
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
