//! Pages: the first rows of a view in an order, and the cursor behind the last of them.
//!
//! ```text
//! page(rows, order, cursor, n) = the first n of the rows that come after the cursor in that order
//! ```
//!
//! Rows that are equal in the columns of the order come in that of the view's key, or of all other columns, so that the
//! order is total, and a cursor is a place in it, whether or not a row is there. So of rows that do not change
//! meanwhile, pages show each once. A row whose place moves across the cursor between two pages is shown twice or not
//! at all; each page is of its own moment, which its coverage tells.
//!
//! A cursor is opaque: a check of what it was given for, and the place as bytes that are compared and never read.

use crate::order::order;
use crate::rows::Rows;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::row::{RowConverter, Rows as Encoded, SortField};
use std::time::Duration;
use twofold_common::{Digest, Error, Result};

/// Which of a view's rows are asked for, and in which order.
#[derive(Debug, Clone, Default)]
pub struct ViewQuery {
    /// `column` or `column[comparison]`, and a value, as the HTTP interface has them.
    pub filters: Vec<(String, String)>,
    /// Columns by which rows are ordered: `a.desc,b`.
    pub order: Option<String>,
    /// How many rows at most.
    pub limit: Option<usize>,
    /// Behind which place in the order: the cursor of an earlier page of the same query.
    pub cursor: Option<String>,
    /// How stale the answer may be: how long before the question the oldest event was taken in that is not in it.
    pub max_staleness: Option<Duration>,
}

/// Rows of a view, and where to go on.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows.
    pub rows: Rows,
    /// The place behind the last of them, if they are ordered and there were more.
    pub cursor: Option<String>,
}

/// How many bytes of a cursor are the check.
const CHECK: usize = 8;

impl ViewQuery {
    /// What must be the same for a cursor to be taken.
    fn check(&self, view: &str, rows: &Rows) -> [u8; CHECK] {
        let mut filters = self.filters.clone();
        filters.sort();
        // The order of the bytes is that of this version.
        let text = format!(
            "{} {view} {:?} {filters:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            self.order,
            rows.schema.fields()
        );
        let mut check = [0; CHECK];
        check.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..CHECK]);
        check
    }
}

/// A place in an order: a row as bytes, and how many equal ones lie before it.
struct Place {
    before: u32,
    row: Vec<u8>,
}

/// The page of the rows of `view` that `query` asks for. `key` has the positions of its key.
///
/// # Errors
/// `Invalid` if the order or the cursor is none of this query.
pub(crate) fn page(rows: Rows, view: &str, key: Option<&[usize]>, query: &ViewQuery) -> Result<Page> {
    let Some(text) = &query.order else {
        return match query.cursor {
            Some(_) => Err(Error::Invalid(
                "a cursor is a place in an order: give `order` as for the page before".into(),
            )),
            None => Ok(Page { rows, cursor: None }),
        };
    };
    let check = query.check(view, &rows);
    let after = query.cursor.as_deref().map(|cursor| Place::parse(cursor, check)).transpose()?;
    let all = concat_batches(&rows.schema, &rows.batches)?;
    let encoded = encoded(&all, view, key, text)?;
    let row = |i: u32| encoded.row(i as usize).data().to_vec();
    let at = |i: &u32| encoded.row(*i as usize);

    let count = u32::try_from(all.num_rows())
        .map_err(|_| Error::Invalid("there are more than 4 billion rows: filter them".into()))?;
    let is_after = |i: &u32| after.as_ref().is_none_or(|place| at(i).data() >= place.row.as_slice());
    let mut order: Vec<u32> = (0..count).filter(is_after).collect();
    // Those that are equal to the place come first, and as many of them as were shown are left out.
    let shown = after.as_ref().map_or(0, |place| {
        let equal = order.iter().filter(|i| at(i).data() == place.row.as_slice()).count();
        equal.min(place.before as usize)
    });
    let end = query.limit.map_or(order.len(), |limit| limit.saturating_add(shown).min(order.len()));
    let more = end < order.len();
    if more && end > 0 {
        order.select_nth_unstable_by(end - 1, |a, b| at(a).cmp(&at(b)));
    }
    order.truncate(end);
    order.sort_unstable_by(|a, b| at(a).cmp(&at(b)));
    let cursor = match order.last() {
        Some(&last) if more && end > shown => {
            let equal = order.iter().rev().take_while(|i| at(i) == at(&last)).count();
            Some(Place { before: u32::try_from(equal).unwrap_or(u32::MAX), row: row(last) }.text(check))
        }
        _ => None,
    };
    let batch = take_record_batch(&all, &UInt32Array::from(order.split_off(shown.min(order.len()))))?;
    Ok(Page { rows: Rows { batches: vec![batch], ..rows }, cursor })
}

/// The columns of the order and those that settle ties, as bytes that compare as rows do.
fn encoded(batch: &RecordBatch, view: &str, key: Option<&[usize]>, text: &str) -> Result<Encoded> {
    let mut columns = order(view, batch.schema_ref(), text)?;
    let all: Vec<usize> = (0..batch.num_columns()).collect();
    for &column in key.unwrap_or(&all) {
        if !columns.iter().any(|(known, _)| *known == column) {
            columns.push((column, Default::default()));
        }
    }
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (column, options) in columns {
        let array = batch.column(column);
        fields.push(SortField::new_with_options(array.data_type().clone(), options));
        arrays.push(array.clone());
    }
    Ok(RowConverter::new(fields)?.convert_columns(&arrays)?)
}

impl Place {
    fn text(&self, check: [u8; CHECK]) -> String {
        let bytes = [check.as_slice(), &self.before.to_be_bytes(), &self.row].concat();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn parse(text: &str, check: [u8; CHECK]) -> Result<Self> {
        let invalid = |why: &str| Error::Invalid(format!("cursor: {why}: begin with the first page"));
        let bytes = crate::filter::hex(text).ok_or_else(|| invalid("that is none"))?;
        let (found, rest) = bytes.split_first_chunk::<CHECK>().ok_or_else(|| invalid("that is none"))?;
        let (before, row) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("that is none"))?;
        if *found != check {
            return Err(invalid(
                "it was given for another order, other filters or another version of the view",
            ));
        }
        Ok(Self { before: u32::from_be_bytes(*before), row: row.to_vec() })
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
