//! In which keys two states differ.

use crate::error::{Error, Result};
use crate::state::{State, encode};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use std::cmp::Ordering;

/// A key that two states do not hold alike: the number of its row in each, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DifferentKey {
    /// In the one state.
    pub left: Option<usize>,
    /// In the other.
    pub right: Option<usize>,
}

/// The keys that two states of one cut do not hold alike, bit for bit, in the order of the keys.
///
/// # Errors
/// `Invalid` if they are not of the same columns.
pub fn differing(left: &State, right: &State) -> Result<Vec<DifferentKey>> {
    let columns = |state: &State| {
        let fields = state.batch().schema_ref().fields().iter();
        fields.map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
    };
    if (left.keys(), columns(left)) != (right.keys(), columns(right)) {
        let (left, right) = (columns(left), columns(right));
        return Err(Error::Invalid(format!("states of other columns: ({left}) and ({right})")));
    }
    let (keys, all) = (left.keys(), left.batch().num_columns());
    let encoded = |state: &State, columns| -> Result<Vec<Vec<u8>>> {
        if columns == 0 {
            return Ok(vec![Vec::new(); state.rows()]);
        }
        Ok(encode(state.batch(), columns)?.iter().map(|row| row.data().to_vec()).collect())
    };
    let (left_keys, right_keys) = (encoded(left, keys)?, encoded(right, keys)?);
    let (left_rows, right_rows) = (encoded(left, all)?, encoded(right, all)?);
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < left_keys.len() || j < right_keys.len() {
        let order = match (left_keys.get(i), right_keys.get(j)) {
            (Some(left), Some(right)) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Less => found.push(DifferentKey { left: Some(i), right: None }),
            Ordering::Greater => found.push(DifferentKey { left: None, right: Some(j) }),
            Ordering::Equal if left_rows[i] != right_rows[j] => {
                found.push(DifferentKey { left: Some(i), right: Some(j) });
            }
            Ordering::Equal => {}
        }
        i += usize::from(order != Ordering::Greater);
        j += usize::from(order != Ordering::Less);
    }
    Ok(found)
}

/// What is left of two states when the rows that are equal are taken out.
///
/// # Errors
/// Those of [`differing`].
pub fn difference(left: &State, right: &State) -> Result<(State, State)> {
    let found = differing(left, right)?;
    let rows = |state: &State, row: fn(&DifferentKey) -> Option<usize>| -> Result<State> {
        let rows = found.iter().filter_map(row).filter_map(|i| u32::try_from(i).ok());
        let batch: RecordBatch = take_record_batch(state.batch(), &UInt32Array::from_iter_values(rows))?;
        Ok(State::sorted(state.keys(), batch))
    };
    Ok((rows(left, |key| key.left)?, rows(right, |key| key.right)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use std::sync::Arc;

    fn state(rows: &[(&str, f64)]) -> State {
        let columns: [(&str, ArrayRef); 2] = [
            ("k0", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
            ("s0", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        State::from_rows(&batch.schema(), 1, &[batch]).unwrap()
    }

    fn key(left: Option<usize>, right: Option<usize>) -> DifferentKey {
        DifferentKey { left, right }
    }

    #[test]
    fn keys_of_one_side_and_values_that_differ_in_a_bit_are_found() {
        let left = state(&[("a", 1.0), ("b", 0.0), ("c", 3.0), ("d", 4.0)]);
        let right = state(&[("b", -0.0), ("c", 3.0), ("d", 4.5), ("e", 5.0)]);
        let found = differing(&left, &right).unwrap();
        let expected = [key(Some(0), None), key(Some(1), Some(0)), key(Some(3), Some(2)), key(None, Some(3))];
        assert_eq!(found, expected);
        assert_eq!(differing(&left, &left).unwrap(), []);

        let (only_left, only_right) = difference(&left, &right).unwrap();
        assert_eq!((only_left.rows(), only_right.rows()), (3, 3));
        assert_eq!(differing(&only_left, &only_right).unwrap().len(), found.len());
    }

    #[test]
    fn a_state_without_keys_and_an_empty_one_are_compared() {
        let whole = |n: f64| {
            let batch = RecordBatch::try_from_iter([(
                "s0",
                Arc::new(Float64Array::from_iter_values([n])) as ArrayRef,
            )])
            .unwrap();
            State::from_rows(&batch.schema(), 0, &[batch]).unwrap()
        };
        assert_eq!(differing(&whole(1.0), &whole(2.0)).unwrap(), [key(Some(0), Some(0))]);
        let empty = State::empty(whole(1.0).batch().schema_ref(), 0);
        assert_eq!(differing(&empty, &whole(2.0)).unwrap(), [key(None, Some(0))]);
        assert!(differing(&whole(1.0), &state(&[])).is_err());
    }
}
