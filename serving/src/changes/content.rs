//! What a watched view holds at one moment, and how two moments differ.
//!
//! Rows are told apart by the view's key. A view without one, or with one that JSON cannot tell apart (NaN and null are
//! both `null` there), is a bag: its key is all columns, and equal rows are counted.
//!
//! ```text
//! old - removed + changed = new        as bags; by key, where there is one: a changed row replaces that of its key
//! ```

use crate::rows::Rows;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::row::{RowConverter, Rows as Encoded, SortField};
use std::cmp::Ordering;
use std::sync::Arc;
use twofold_common::{Error, Result, sql_type};

/// Of how many rows changes are told at most: all are held in memory while somebody watches.
pub(crate) const MAX_ROWS: usize = 100_000;

/// The rows of a view at one moment.
pub(crate) struct Content {
    pub(crate) rows: Rows,
    /// The positions of the key's columns.
    key: Vec<usize>,
    keys: Option<Encoded>,
    values: Encoded,
    /// The rows in the order of their keys, and then of their values.
    order: Vec<u32>,
}

/// A row that came or changed, or the key of one that went, as JSON.
pub(crate) type Line = Arc<str>;

/// What leads from one moment to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The key of each row that came or changed, and the row.
    pub(crate) changed: Vec<(Line, Line)>,
    /// The keys of rows that went.
    pub(crate) removed: Vec<Line>,
}

impl Content {
    /// The rows of `view`, whose key has these positions.
    ///
    /// # Errors
    /// `Invalid` if they are too many, or of a type that has no order; `Internal` if two have one key.
    pub(crate) fn of(view: &str, rows: Rows, key: Option<Vec<usize>>) -> Result<Self> {
        let count = rows.num_rows();
        if count > MAX_ROWS {
            return Err(Error::Invalid(format!(
                "view {view} has {count} rows, and changes are told of {MAX_ROWS} at most: ask for fewer with \
                 ?column=value"
            )));
        }
        let all = concat_batches(&rows.schema, &rows.batches)?;
        let fields = rows.schema.fields();
        let whole: Vec<usize> = (0..fields.len()).collect();
        let exact = |key: &Vec<usize>| key.iter().all(|&i| is_exact(fields[i].data_type()));
        let key = key.filter(exact).unwrap_or_else(|| whole.clone());
        let keys = (key != whole).then(|| encode(&all, &key)).transpose()?;
        let values = encode(&all, &whole)?;
        let mut order: Vec<u32> = (0..count as u32).collect();
        let rows = Rows { batches: vec![all], ..rows };
        let mut content = Self { rows, key, keys, values, order: Vec::new() };
        order.sort_unstable_by(|&a, &b| {
            content
                .key_of(a)
                .cmp(content.key_of(b))
                .then_with(|| content.value_of(a).cmp(content.value_of(b)))
        });
        content.order = order;
        let same = |pair: &[u32]| content.key_of(pair[0]) == content.key_of(pair[1]);
        if content.has_key() && content.order.windows(2).any(same) {
            let names = content.key_names().join(", ");
            return Err(Error::Internal(format!("two rows of view {view} have one key ({names})")));
        }
        Ok(content)
    }

    /// Whether a key stands for one row, and not for as many as are equal.
    pub(crate) fn has_key(&self) -> bool {
        self.keys.is_some()
    }

    /// The names of the key's columns.
    pub(crate) fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|&i| self.rows.schema.field(i).name().as_str()).collect()
    }

    /// Whether rows of both can be told apart by the same key.
    pub(crate) fn is_like(&self, other: &Content) -> bool {
        let same_columns = self.rows.schema.fields() == other.rows.schema.fields();
        same_columns && self.key == other.key && self.rows.previous == other.rows.previous
    }

    /// What leads from here to `new`, which is [like](Self::is_like) this.
    pub(crate) fn difference(&self, new: &Content) -> Result<Difference> {
        let (mut removed, mut changed) = (Vec::new(), Vec::new());
        let (mut of_old, mut of_new) = (self.order.iter().peekable(), new.order.iter().peekable());
        loop {
            let order = match (of_old.peek(), of_new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(&&a), Some(&&b)) => self.key_of(a).cmp(new.key_of(b)),
            };
            let (a, b) = (of_old.next_if(|_| order.is_le()), of_new.next_if(|_| order.is_ge()));
            match (a, b) {
                (Some(&a), None) => removed.push(a),
                (Some(&a), Some(&b)) if self.value_of(a) == new.value_of(b) => {}
                (_, Some(&b)) => changed.push(b),
                (None, None) => {}
            }
        }
        let whole: Vec<usize> = (0..self.rows.schema.fields().len()).collect();
        let removed = self.lines(&removed, &self.key)?;
        let changed = new.lines(&changed, &self.key)?.into_iter().zip(new.lines(&changed, &whole)?);
        Ok(Difference { changed: changed.collect(), removed })
    }

    fn key_of(&self, row: u32) -> &[u8] {
        match &self.keys {
            // Rows without columns are not counted by their encoding.
            Some(_) if self.key.is_empty() => &[],
            Some(keys) => bytes_of(keys, row),
            None => self.value_of(row),
        }
    }

    fn value_of(&self, row: u32) -> &[u8] {
        bytes_of(&self.values, row)
    }

    /// These columns of these rows, each as a JSON object.
    fn lines(&self, rows: &[u32], columns: &[usize]) -> Result<Vec<Line>> {
        if columns.is_empty() {
            return Ok(rows.iter().map(|_| Line::from("{}")).collect());
        }
        let [all] = self.rows.batches.as_slice() else { return Ok(Vec::new()) };
        let batch = take_record_batch(&all.project(columns)?, &UInt32Array::from(rows.to_vec()))?;
        let mut bytes = Vec::new();
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
        writer.write(&batch)?;
        writer.finish()?;
        drop(writer);
        let text = String::from_utf8(bytes).map_err(|e| Error::Internal(format!("JSON of rows: {e}")))?;
        Ok(text.lines().map(Line::from).collect())
    }
}

fn bytes_of(rows: &Encoded, row: u32) -> &[u8] {
    rows.row(row as usize).data()
}

/// Whether different values of a type are different in JSON.
fn is_exact(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => false,
        DataType::Struct(fields) => fields.iter().all(|field| is_exact(field.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => is_exact(item.data_type()),
        _ => true,
    }
}

fn encode(batch: &RecordBatch, columns: &[usize]) -> Result<Encoded> {
    let schema = batch.schema_ref();
    let field = |&i: &usize| {
        let field = SortField::new(schema.field(i).data_type().clone());
        if RowConverter::supports_fields(std::slice::from_ref(&field)) {
            return Ok(field);
        }
        let (name, data_type) = (schema.field(i).name(), sql_type(schema.field(i).data_type()));
        Err(Error::Invalid(format!(
            "column {name} is {data_type}, whose changes cannot be told: leave it out"
        )))
    };
    let fields = columns.iter().map(field).collect::<Result<Vec<_>>>()?;
    let arrays: Vec<_> = columns.iter().map(|&i| Arc::clone(batch.column(i))).collect();
    Ok(RowConverter::new(fields)?.convert_columns(&arrays)?)
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
