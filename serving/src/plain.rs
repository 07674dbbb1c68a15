//! Types as drivers read them: what the engine keeps as views, dictionaries or runs is text, bytes and values again.
//!
//! No value is changed: only how it lies in memory.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;
use twofold_common::{Error, Result};

/// The plain type that has the same values.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(plain_field(item), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = plain_type(field.data_type());
    if plain == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(Field::new(field.name(), plain, field.is_nullable()).with_metadata(field.metadata().clone()))
}

/// The columns in plain types, without what the engine notes beside them.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(plain_field);
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), HashMap::new()))
}

/// The same rows with the columns of `schema`, by position.
///
/// # Errors
/// `Internal` if they are of other types than it says.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let wrong = |reason: String| {
        Error::Internal(format!("an answer does not have the type it was planned with: {reason}"))
    };
    if batch.num_columns() != schema.fields().len() {
        let (expected, found) = (schema.fields().len(), batch.num_columns());
        return Err(wrong(format!("expected {expected} columns, found {found}")));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        cast_with_options(column, field.data_type(), &options)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().map_err(|e| wrong(e.to_string()))?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, BinaryViewArray, DictionaryArray, Int32Array, ListArray, StringArray, StringViewArray,
        StructArray, cast::AsArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Int32Type;

    #[test]
    fn views_and_dictionaries_become_plain_at_any_depth_and_keep_their_values() {
        let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        let views = StringViewArray::from(vec![Some("longer than twelve bytes"), None, Some("")]);
        let bytes = BinaryViewArray::from(vec![Some(b"\x00\xff".as_ref()), None, Some(b"")]);
        let inner = Field::new("w", words.data_type().clone(), true);
        let record = StructArray::from(vec![(Arc::new(inner), Arc::new(words.clone()) as ArrayRef)]);
        let item = Arc::new(Field::new("item", record.data_type().clone(), true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths([2, 0, 1]), Arc::new(record), None);
        let batch = RecordBatch::try_from_iter([
            ("d", Arc::new(words) as ArrayRef),
            ("s", Arc::new(views)),
            ("b", Arc::new(bytes)),
            ("l", Arc::new(list)),
            ("n", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ])
        .unwrap();
        let schema = plain_schema(&batch.schema());
        let plain = conform(&batch, &schema).unwrap();
        let types: Vec<_> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(&types[..3], [DataType::Utf8, DataType::Utf8, DataType::Binary]);
        assert!(!format!("{:?}", types[3]).contains("Dictionary"), "{:?}", types[3]);
        let text = StringArray::from(vec![Some("a"), None, Some("a")]);
        assert_eq!(plain.column(0).as_string::<i32>(), &text);
        assert_eq!(plain.column(1).as_string::<i32>().value(0), "longer than twelve bytes");
        assert_eq!(plain.column(2).as_binary::<i32>().value(0), b"\x00\xff");
        let inner = plain.column(3).as_list::<i32>().values().as_struct().column(0);
        assert_eq!(inner.as_string::<i32>(), &text);
    }

    #[test]
    fn plain_columns_are_left_as_they_are() {
        let batch =
            RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
        let same = conform(&batch, &plain_schema(&batch.schema())).unwrap();
        assert!(Arc::ptr_eq(same.column(0), batch.column(0)));
    }
}
