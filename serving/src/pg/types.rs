//! The types of columns as PostgreSQL knows them.
//!
//! | Twofold | PostgreSQL |
//! | --- | --- |
//! | `BIGINT`, `INT`, `SMALLINT`, `TINYINT` | `int8`, `int4`, `int2`, `int2`; without a sign the next larger |
//! | `DOUBLE`, `REAL` | `float8`, `float4` |
//! | `DECIMAL(p, s)`, `BIGINT UNSIGNED` | `numeric(p, s)` |
//! | `TIMESTAMP` | `timestamp`, in microseconds |
//! | a list of one of these | its array |
//! | structs, maps, lists of lists and of structs | `json`, as over HTTP |
//!
//! Columns of the system catalogs say in their metadata what they are.

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_postgres::arrow_pg::datatypes::{PG_OID_ALIAS_KEY, is_pg_char_field, pg_type_for_alias_kind};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::FieldInfo;

/// The type of a column.
pub(super) fn pg_type(field: &Field) -> Type {
    if is_pg_char_field(field) {
        return Type::CHAR;
    }
    let alias = field.metadata().get(PG_OID_ALIAS_KEY).and_then(|kind| pg_type_for_alias_kind(kind));
    alias.unwrap_or_else(|| of(field.data_type()))
}

/// The type of a value.
pub(super) fn of(data_type: &DataType) -> Type {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            array_of(&of(item.data_type()))
        }
        DataType::Dictionary(_, value) => of(value),
        other => scalar(other),
    }
}

fn scalar(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        DataType::Int64 | DataType::UInt32 => Type::INT8,
        DataType::UInt64
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => Type::NUMERIC,
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Type::BYTEA
        }
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Struct(_) | DataType::Map(_, _) => Type::JSON,
        _ => Type::TEXT,
    }
}

/// The types whose arrays are known here.
const ARRAYS: [(Type, Type); 15] = [
    (Type::BOOL, Type::BOOL_ARRAY),
    (Type::INT2, Type::INT2_ARRAY),
    (Type::INT4, Type::INT4_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::NUMERIC, Type::NUMERIC_ARRAY),
    (Type::FLOAT4, Type::FLOAT4_ARRAY),
    (Type::FLOAT8, Type::FLOAT8_ARRAY),
    (Type::BYTEA, Type::BYTEA_ARRAY),
    (Type::DATE, Type::DATE_ARRAY),
    (Type::TIME, Type::TIME_ARRAY),
    (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
    (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
    (Type::INTERVAL, Type::INTERVAL_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::VARCHAR, Type::VARCHAR_ARRAY),
];

/// The array of a type; `json` for what has none here.
fn array_of(item: &Type) -> Type {
    ARRAYS.into_iter().find(|(one, _)| one == item).map_or(Type::JSON, |(_, array)| array)
}

/// The type of an array's elements.
pub(super) fn element_of(array: &Type) -> Option<Type> {
    ARRAYS.into_iter().find(|(_, known)| known == array).map(|(item, _)| item)
}

/// The number of a type by its name, for the types that are known here.
pub(super) fn oid_of(name: &str) -> Option<i32> {
    let others = [Type::JSON, Type::OID, Type::NAME, Type::CHAR];
    let mut all = ARRAYS.into_iter().flat_map(|(item, array)| [item, array]).chain(others);
    all.find(|known| known.name() == name).and_then(|known| i32::try_from(known.oid()).ok())
}

/// The size in bytes of a value of a type; -1: it has none of its own.
pub(super) fn size(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// What a type says beside its name: precision and scale of a decimal; -1: nothing.
pub(super) fn modifier(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => (i32::from(*p) << 16 | i32::from(*s) & 0x7ff) + 4,
        DataType::UInt64 => (20 << 16) + 4,
        _ => -1,
    }
}

/// The columns of an answer as they are described, each in the format that was asked for.
pub(super) fn fields(schema: &Schema, format: &Format) -> Vec<FieldInfo> {
    let field = |(index, field): (usize, &std::sync::Arc<Field>)| {
        let pg_type = pg_type(field);
        let size = size(&pg_type);
        FieldInfo::new(field.name().clone(), None, None, pg_type, format.format_for(index))
            .with_type_size(size)
            .with_type_modifier(modifier(field.data_type()))
    };
    schema.fields().iter().enumerate().map(field).collect()
}
