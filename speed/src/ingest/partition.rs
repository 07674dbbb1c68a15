//! Which partition an event belongs to: a promise, since equal keys must meet in one partition for ever.
//!
//! ```text
//! partition(value) = floor(h * partitions / 2^64),  h = the first 8 bytes of BLAKE3(tag | canonical bytes), big-endian
//! partition(NULL)  = 0
//! ```
//!
//! The canonical bytes are those of the value, not of its Arrow encoding: all integers are alike whatever their
//! width, all texts whatever their layout, all timestamps whatever their unit. `docs/log-format.md` lists them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::error::ArrowError;
use twofold_common::{Digest, Partition};

/// The partition of each value of `column`.
///
/// # Errors
/// If [`is_key`] does not hold for the column's type.
pub(super) fn partitions_of(column: &ArrayRef, partitions: u32) -> Result<Vec<Partition>, ArrowError> {
    let mut out = Vec::with_capacity(column.len());
    let mut buffer = Vec::with_capacity(64);
    each_canonical(column, &mut |tag, bytes| {
        out.push(bytes.map_or(Partition(0), |bytes| {
            buffer.clear();
            buffer.push(tag);
            buffer.extend_from_slice(bytes);
            partition_of(&buffer, partitions)
        }));
    })?;
    Ok(out)
}

/// What tells the values of `column` apart: the first 16 bytes of BLAKE3(tag | canonical bytes), big-endian.
///
/// # Errors
/// If [`is_key`] does not hold for the column's type.
pub(crate) fn ids_of(column: &ArrayRef) -> Result<Vec<Option<u128>>, ArrowError> {
    let mut out = Vec::with_capacity(column.len());
    let mut buffer = Vec::with_capacity(64);
    each_canonical(column, &mut |tag, bytes| {
        out.push(bytes.map(|bytes| {
            buffer.clear();
            buffer.push(tag);
            buffer.extend_from_slice(bytes);
            let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *Digest::of(&buffer).as_bytes();
            u128::from_be_bytes(head)
        }));
    })?;
    Ok(out)
}

/// Whether values of a type can choose the partition, and tell events apart.
pub(crate) fn is_key(data_type: &DataType) -> bool {
    each_canonical(&arrow::array::new_empty_array(data_type), &mut |_, _| ()).is_ok()
}

fn partition_of(canonical: &[u8], partitions: u32) -> Partition {
    let [a, b, c, d, e, f, g, h, ..] = *Digest::of(canonical).as_bytes();
    let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    Partition(((u128::from(hash) * u128::from(partitions.max(1))) >> 64) as u32)
}

/// Calls `each` with the tag and the canonical bytes of every value, `None` for null.
fn each_canonical(column: &ArrayRef, each: &mut dyn FnMut(u8, Option<&[u8]>)) -> Result<(), ArrowError> {
    match column.data_type() {
        DataType::Boolean => {
            column
                .as_boolean()
                .iter()
                .for_each(|v| each(1, v.map(|v| [u8::from(v)]).as_ref().map(<[u8; 1]>::as_slice)));
        }
        DataType::UInt64 => {
            let values = column.as_primitive::<UInt64Type>();
            fixed(2, values.iter().map(|v| v.map(|v| i128::from(v).to_le_bytes())), each);
        }
        integer if integer.is_integer() => {
            let values = cast(column, &DataType::Int64)?;
            fixed(
                2,
                values.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| i128::from(v).to_le_bytes())),
                each,
            );
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let values = cast(column, &DataType::Float64)?;
            fixed(3, values.as_primitive::<Float64Type>().iter().map(|v| v.map(canonical_double)), each);
        }
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            let scale = s.to_le_bytes()[0];
            let values = cast(column, &DataType::Decimal256((*p).max(1), *s))?;
            let bytes = |v: i256| {
                let mut bytes = [scale; 33];
                bytes[..32].copy_from_slice(&v.to_le_bytes());
                bytes
            };
            fixed(4, values.as_primitive::<Decimal256Type>().iter().map(|v| v.map(bytes)), each);
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let values = cast(column, &DataType::LargeUtf8)?;
            values.as_string::<i64>().iter().for_each(|v| each(5, v.map(str::as_bytes)));
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let values = cast(column, &DataType::LargeBinary)?;
            values.as_binary::<i64>().iter().for_each(|v| each(6, v));
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>();
            fixed(7, values.iter().map(|v| v.map(|v| i64::from(v).to_le_bytes())), each);
        }
        DataType::Timestamp(unit, _) => {
            let values = cast(column, &DataType::Int64)?;
            let nanos = |v: i64| (i128::from(v) * i128::from(nanos_in(*unit))).to_le_bytes();
            fixed(8, values.as_primitive::<Int64Type>().iter().map(|v| v.map(nanos)), each);
        }
        DataType::Time64(unit) => {
            let values = cast(column, &DataType::Int64)?;
            let nanos = |v: i64| (i128::from(v) * i128::from(nanos_in(*unit))).to_le_bytes();
            fixed(9, values.as_primitive::<Int64Type>().iter().map(|v| v.map(nanos)), each);
        }
        other => return Err(ArrowError::NotYetImplemented(format!("partitioning by {other}"))),
    }
    Ok(())
}

fn fixed<const N: usize>(
    tag: u8,
    values: impl Iterator<Item = Option<[u8; N]>>,
    each: &mut dyn FnMut(u8, Option<&[u8]>),
) {
    values.for_each(|value| each(tag, value.as_ref().map(<[u8; N]>::as_slice)));
}

/// Zero has one sign, and NaN one form.
fn canonical_double(value: f64) -> [u8; 8] {
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    value.to_bits().to_le_bytes()
}

fn nanos_in(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use std::sync::Arc;

    fn of(column: impl Array + 'static, partitions: u32) -> Vec<u32> {
        let column: ArrayRef = Arc::new(column);
        partitions_of(&column, partitions).unwrap().into_iter().map(|p| p.0).collect()
    }

    #[test]
    fn the_partition_of_a_value_never_changes() {
        // Stored data depends on these numbers: if this fails, the code is wrong, not the test.
        assert_eq!(
            of(StringArray::from(vec!["", "EWR", "JFK", "LGA", "Zürich"]), 1000),
            [518, 454, 611, 446, 620]
        );
        assert_eq!(of(Int64Array::from(vec![0, 1, -1, i64::MAX]), 1000), [268, 88, 845, 6]);
        assert_eq!(of(TimestampNanosecondArray::from(vec![1_357_034_400_000_000_000]), 1000), [350]);
        assert_eq!(of(BooleanArray::from(vec![true, false]), 1000), [125, 408]);
        assert_eq!(of(Float64Array::from(vec![0.5]), 1000), [321]);
        assert_eq!(of(BinaryArray::from(vec![b"EWR".as_slice()]), 1000), [336]);
        assert_eq!(of(Date32Array::from(vec![15_706]), 1000), [13]);
        assert_eq!(
            of(Decimal128Array::from(vec![1234]).with_precision_and_scale(6, 2).unwrap(), 1000),
            [911]
        );
    }

    #[test]
    fn it_does_not_depend_on_the_encoding() {
        let n = 1000;
        assert_eq!(of(Int8Array::from(vec![-7]), n), of(Int64Array::from(vec![-7]), n));
        assert_eq!(of(UInt64Array::from(vec![7]), n), of(Int16Array::from(vec![7]), n));
        assert_eq!(
            of(StringViewArray::from(vec!["a long text beyond inlining"]), n),
            of(LargeStringArray::from(vec!["a long text beyond inlining"]), n)
        );
        assert_eq!(
            of(TimestampSecondArray::from(vec![5]), n),
            of(TimestampNanosecondArray::from(vec![5_000_000_000]), n)
        );
        assert_eq!(of(Float64Array::from(vec![-0.0]), n), of(Float64Array::from(vec![0.0]), n));
        assert_eq!(
            of(Decimal256Array::from(vec![i256::from_i128(5)]).with_precision_and_scale(9, 2).unwrap(), n),
            of(Decimal128Array::from(vec![5]).with_precision_and_scale(9, 2).unwrap(), n)
        );
    }

    #[test]
    fn null_goes_to_partition_0_and_values_spread() {
        assert_eq!(of(StringArray::from(vec![None::<&str>]), 7), [0]);
        let mut counts = [0; 4];
        for p in of(Int64Array::from_iter_values(0..4000), 4) {
            counts[p as usize] += 1;
        }
        assert!(counts.iter().all(|n| (900..1100).contains(n)), "{counts:?}");
    }

    #[test]
    fn nested_types_are_no_keys() {
        assert!(is_key(&DataType::Utf8View));
        assert!(!is_key(&DataType::new_list(DataType::Int64, true)));
    }
}
