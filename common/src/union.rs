//! The union of states whose rows are nothing but keys, or share no key: a merge that adds nothing up.
//!
//! ```text
//! union(a, b) = the rows of a and of b, in key order, each key once
//! ```
//!
//! States are sorted, so their union is one pass over all of them: no hash table of what may be many millions of
//! distinct values, and no sorting. Where a key occurs in several states its row is that of the first of them; it is
//! for the caller to know that they are equal.

use crate::error::Result;
use crate::state::{State, encode};
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::row::{Row, Rows};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The union of at least one state, all of one cut.
pub(crate) fn union(states: &[&State]) -> Result<State> {
    let keys = states.first().map_or(0, |state| state.keys());
    let batches: Vec<&RecordBatch> = states.iter().map(|state| state.batch()).collect();
    let encoded = batches.iter().map(|batch| encode(batch, keys)).collect::<Result<Vec<_>>>()?;
    let rows = interleave_record_batch(&batches, &in_order(&encoded))?;
    Ok(State::sorted(keys, rows))
}

/// The state and the row of each key, in key order, each key once.
fn in_order(encoded: &[Rows]) -> Vec<(usize, usize)> {
    let mut order = Vec::with_capacity(encoded.iter().map(Rows::num_rows).max().unwrap_or(0));
    let mut heads: BinaryHeap<Reverse<(Row<'_>, usize, usize)>> =
        encoded.iter().enumerate().filter_map(|(state, rows)| head(rows, state, 0)).collect();
    let mut last: Option<Row<'_>> = None;
    while let Some(Reverse((key, state, row))) = heads.pop() {
        if last != Some(key) {
            order.push((state, row));
            last = Some(key);
        }
        heads.extend(head(&encoded[state], state, row + 1));
    }
    order
}

fn head(rows: &Rows, state: usize, row: usize) -> Option<Reverse<(Row<'_>, usize, usize)>> {
    (row < rows.num_rows()).then(|| Reverse((rows.row(row), state, row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn schema() -> SchemaRef {
        let field = |name, t| Field::new(name, t, true);
        let fields =
            vec![field("k0", DataType::Utf8), field("k1", DataType::Float64), field("k2", DataType::Int64)];
        Arc::new(Schema::new(fields))
    }

    type Key = (Option<String>, Option<f64>, Option<i64>);

    fn state(keys: &[Key]) -> State {
        let texts: StringArray = keys.iter().map(|k| k.0.clone()).collect();
        let floats: Float64Array = keys.iter().map(|k| k.1).collect();
        let numbers: Int64Array = keys.iter().map(|k| k.2).collect();
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(texts), Arc::new(floats), Arc::new(numbers)];
        State::from_rows(&schema(), 3, &[RecordBatch::try_new(schema(), columns).unwrap()]).unwrap()
    }

    fn key() -> impl Strategy<Value = Key> {
        let text = proptest::option::of("[ab]{0,2}");
        let float =
            proptest::sample::select(vec![None, Some(0.0), Some(f64::NAN), Some(-f64::NAN), Some(-1.5)]);
        (text, float, proptest::option::of(-1i64..3))
    }

    fn encoded(key: &Key) -> Vec<u8> {
        encode(state(std::slice::from_ref(key)).batch(), 3).unwrap().row(0).data().to_vec()
    }

    proptest! {
        #[test]
        fn law_any_bracketing_of_unions(mut all in proptest::collection::vec(key(), 0..40), parts in 1usize..5) {
            all.sort_by_key(encoded);
            all.dedup_by_key(|key| encoded(key));
            let whole = state(&all);
            // Every key in one part, every third one in all parts.
            let part = |part| -> Vec<Key> {
                let mine = all.iter().enumerate().filter(|(i, _)| i % parts == part || i % 3 == 0);
                mine.map(|(_, key)| key.clone()).collect()
            };
            let states: Vec<State> = (0..parts).map(|p| state(&part(p))).collect();
            let mut states: Vec<&State> = states.iter().collect();
            prop_assert_eq!(union(&states).unwrap().digest().unwrap(), whole.digest().unwrap());
            states.reverse();
            prop_assert_eq!(union(&states).unwrap().digest().unwrap(), whole.digest().unwrap());
        }
    }
}
