//! Parameters: what a statement expects, and what a client sent, in text or binary.
//!
//! A value is brought into the type that the plan expects of it where that loses nothing: texts are read as SQL's `CAST`
//! reads them, and a number that is too large is an error. A fraction for a whole number stays a fraction, and is compared
//! as such.

use super::failure::{Failure, state};
use super::types;
use super::value::{EPOCH_DAYS, EPOCH_MICROSECONDS, read_array, read_numeric};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Portal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a statement expects of each parameter, `$1` first: nothing if the plan does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected(Vec<Option<DataType>>);

impl Expected {
    /// What this plan expects, where the client said that it sends these types.
    pub(super) fn of(plan: &LogicalPlan, sent: &[Option<Type>]) -> Result<Self, Failure> {
        let mut expected = BTreeMap::new();
        for (id, data_type) in plan.get_parameter_types()? {
            let number = id.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
            let number = number.filter(|number| (1..=MOST).contains(number)).ok_or_else(|| {
                Failure::new(state::SYNTAX, format!("parameter {id}: expected $1 to ${MOST}"))
            })?;
            expected.insert(number, data_type);
        }
        let casts = told_elsewhere(plan)?;
        let count = expected.keys().last().copied().unwrap_or(0);
        let one = |number: usize| {
            let known = expected.get(&number).cloned().flatten();
            let known = known.or_else(|| casts.get(&format!("${number}")).cloned());
            known.or_else(|| data_type(sent.get(number - 1)?.as_ref()?))
        };
        Ok(Self((1..=count).map(one).collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The types, as they are described to the client.
    pub(super) fn types(&self) -> Vec<Type> {
        self.0.iter().map(|expected| expected.as_ref().map_or(Type::TEXT, types::of)).collect()
    }

    /// A null of each expected type, so that the answer's columns are known before values are.
    pub(super) fn nulls(&self) -> Result<ParamValues, Failure> {
        let null = |expected: &Option<DataType>| match expected {
            Some(data_type) => Ok(ScalarValue::try_from(data_type)?),
            None => Ok(ScalarValue::Utf8(None)),
        };
        let nulls = self.0.iter().map(null).collect::<Result<Vec<_>, Failure>>()?;
        Ok(ParamValues::from(nulls))
    }

    /// The values that a client sent.
    pub(super) fn values<S: Clone>(&self, portal: &Portal<S>) -> Result<ParamValues, Failure> {
        let types = self.types();
        let mut values = Vec::with_capacity(self.0.len());
        for (i, expected) in self.0.iter().enumerate() {
            let told = portal.statement.parameter_types.get(i).cloned().flatten();
            let told = told.filter(|told| *told != Type::UNKNOWN);
            let sent = portal.parameters.get(i).cloned().flatten();
            let binary = portal.parameter_format.is_binary(i);
            let value = value(sent.as_deref(), told.as_ref().unwrap_or(&types[i]), binary, expected.as_ref());
            values.push(value.map_err(|failure| failure.about(&format!("parameter ${}", i + 1)))?);
        }
        Ok(ParamValues::from(values))
    }
}

/// How many parameters a message can have.
const MOST: usize = 65_535;

/// The types of placeholders that stand in a cast, or that count rows.
fn told_elsewhere(plan: &LogicalPlan) -> Result<BTreeMap<String, DataType>, Failure> {
    let mut told = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        let counts_rows = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Cast(cast) => {
                        if let Expr::Placeholder(placeholder) = cast.expr.as_ref() {
                            told.insert(placeholder.id.clone(), cast.field.data_type().clone());
                        }
                    }
                    // `x = ANY($1)`, as it is rewritten.
                    Expr::ScalarFunction(call) if call.func.name() == "array_has" => {
                        if let [Expr::Placeholder(placeholder), element] = call.args.as_slice() {
                            let of_input =
                                node.inputs().first().map(|input| element.get_type(input.schema().as_ref()));
                            let item = of_input.and_then(Result::ok).unwrap_or(DataType::Utf8);
                            let list = DataType::List(Arc::new(Field::new("item", item, true)));
                            told.insert(placeholder.id.clone(), list);
                        }
                    }
                    Expr::Placeholder(placeholder) if counts_rows => {
                        told.insert(placeholder.id.clone(), DataType::Int64);
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(told)
}

/// The type of the values that a client sends as this type; none for what is only text to us.
fn data_type(sent: &Type) -> Option<DataType> {
    Some(match *sent {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 | Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGNAMESPACE | Type::REGPROC => {
            DataType::Int32
        }
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UUID | Type::JSON | Type::JSONB => {
            DataType::Utf8
        }
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        _ => {
            let item = data_type(&types::element_of(sent)?)?;
            DataType::List(Arc::new(Field::new("item", item, true)))
        }
    })
}

fn value(
    sent: Option<&[u8]>,
    sent_as: &Type,
    binary: bool,
    expected: Option<&DataType>,
) -> Result<ScalarValue, Failure> {
    let Some(bytes) = sent else {
        let null = expected.cloned().or_else(|| data_type(sent_as)).unwrap_or(DataType::Utf8);
        return Ok(ScalarValue::try_from(&null)?);
    };
    let value = if binary { of_binary(bytes, sent_as)? } else { of_text(bytes, sent_as)? };
    let known = data_type(sent_as).filter(|_| expected.is_none() && !binary);
    match expected.cloned().or(known) {
        Some(data_type) if is_lossless(&value.data_type(), &data_type) => cast(&value, &data_type),
        _ => Ok(value),
    }
}

/// Whether a value of one type can be brought into the other without losing anything, or else fails.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (
            DataType::List(from),
            DataType::List(to) | DataType::LargeList(to) | DataType::FixedSizeList(to, _),
        ) => is_lossless(from.data_type(), to.data_type()),
        (DataType::Timestamp(_, _), DataType::Date32) => false,
        _ if from.is_floating() => !to.is_integer() && !to.is_decimal(),
        _ if from.is_decimal() => !to.is_integer(),
        _ => true,
    }
}

fn cast(value: &ScalarValue, to: &DataType) -> Result<ScalarValue, Failure> {
    value.cast_to(to).map_err(|e| {
        let error = twofold_common::Error::from(e);
        Failure::new(state::BAD_TEXT, error.to_string())
    })
}

fn of_text(bytes: &[u8], sent_as: &Type) -> Result<ScalarValue, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| bad("is not UTF-8 text"))?;
    if let Some(item) = types::element_of(sent_as) {
        let elements = read_array(text).ok_or_else(|| bad(&format!("{text} is not an array as {{a,b}}")))?;
        let item = data_type(&item).unwrap_or(DataType::Utf8);
        let elements = elements.into_iter().map(|e| cast(&ScalarValue::Utf8(e), &item));
        return Ok(list(&elements.collect::<Result<Vec<_>, _>>()?, &item));
    }
    if *sent_as == Type::BYTEA {
        return Ok(ScalarValue::Binary(Some(
            hexadecimal(text).ok_or_else(|| bad("expected \\x and digits"))?,
        )));
    }
    Ok(ScalarValue::Utf8(Some(text.to_string())))
}

fn of_binary(bytes: &[u8], sent_as: &Type) -> Result<ScalarValue, Failure> {
    let size = || bad(&format!("{} bytes are no {}", bytes.len(), sent_as.name()));
    let i64_of = || bytes.try_into().map(i64::from_be_bytes).map_err(|_| size());
    let i32_of = || bytes.try_into().map(i32::from_be_bytes).map_err(|_| size());
    let moment = || -> Result<i64, Failure> {
        i64_of()?.checked_add(EPOCH_MICROSECONDS).ok_or_else(|| bad("the time is out of range"))
    };
    Ok(match *sent_as {
        Type::BOOL => match bytes {
            [byte] => ScalarValue::Boolean(Some(*byte != 0)),
            _ => return Err(size()),
        },
        Type::INT2 => ScalarValue::Int16(Some(bytes.try_into().map(i16::from_be_bytes).map_err(|_| size())?)),
        Type::INT4 | Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGNAMESPACE | Type::REGPROC => {
            ScalarValue::Int32(Some(i32_of()?))
        }
        Type::INT8 => ScalarValue::Int64(Some(i64_of()?)),
        Type::FLOAT4 => {
            ScalarValue::Float32(Some(bytes.try_into().map(f32::from_be_bytes).map_err(|_| size())?))
        }
        Type::FLOAT8 => {
            ScalarValue::Float64(Some(bytes.try_into().map(f64::from_be_bytes).map_err(|_| size())?))
        }
        Type::NUMERIC => decimal(&read_numeric(bytes).ok_or_else(|| bad("is not a finite number"))?)?,
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::DATE => {
            let days = i32_of()?.checked_add(EPOCH_DAYS);
            ScalarValue::Date32(Some(days.ok_or_else(|| bad("the date is out of range"))?))
        }
        Type::TIME => ScalarValue::Time64Microsecond(Some(i64_of()?)),
        Type::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(moment()?), None),
        Type::TIMESTAMPTZ => ScalarValue::TimestampMicrosecond(Some(moment()?), Some("+00:00".into())),
        Type::UUID => ScalarValue::Utf8(Some(uuid(bytes).ok_or_else(size)?)),
        Type::JSONB => of_text(bytes.get(1..).ok_or_else(size)?, &Type::TEXT)?,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN | Type::CHAR => {
            of_text(bytes, &Type::TEXT)?
        }
        _ => match types::element_of(sent_as) {
            Some(item) => array(bytes, &item)?,
            None => {
                let name = sent_as.name();
                return Err(Failure::new(
                    state::NOT_SUPPORTED,
                    format!("values of type {name} are not read"),
                ));
            }
        },
    })
}

/// An array of one dimension, in binary.
fn array(bytes: &[u8], item: &Type) -> Result<ScalarValue, Failure> {
    let short = || bad("the array is cut short");
    let mut left = bytes;
    let mut take = |n: usize| -> Result<&[u8], Failure> {
        let (head, tail) = left.split_at_checked(n).ok_or_else(short)?;
        left = tail;
        Ok(head)
    };
    let number = |bytes: &[u8]| bytes.try_into().map(i32::from_be_bytes).map_err(|_| short());
    let dimensions = number(take(4)?)?;
    take(8)?;
    if dimensions > 1 {
        return Err(Failure::new(
            state::NOT_SUPPORTED,
            "arrays of more than one dimension are not read".into(),
        ));
    }
    let count = if dimensions == 1 { number(take(4)?)? } else { 0 };
    if dimensions == 1 {
        take(4)?;
    }
    let of_item = data_type(item).unwrap_or(DataType::Utf8);
    let mut elements = Vec::new();
    for _ in 0..count.max(0) {
        let length = number(take(4)?)?;
        elements.push(match usize::try_from(length) {
            Ok(length) => of_binary(take(length)?, item)?,
            Err(_) => ScalarValue::try_from(&of_item)?,
        });
    }
    Ok(list(&elements, &of_item))
}

fn list(elements: &[ScalarValue], item: &DataType) -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list_nullable(elements, item))
}

/// A decimal of just the precision that its digits need.
fn decimal(digits: &str) -> Result<ScalarValue, Failure> {
    let scale = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let scale = i8::try_from(scale).ok().filter(|scale| *scale <= 38);
    let scale = scale.ok_or_else(|| bad("has more than 38 digits behind the point"))?;
    cast(&ScalarValue::Utf8(Some(digits.to_string())), &DataType::Decimal128(38, scale))
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok()).collect()
}

fn uuid(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 16 {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        text.push_str(if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" });
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

fn bad(what: &str) -> Failure {
    Failure::new(state::BAD_TEXT, what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    fn text(text: &str, sent_as: &Type, expected: Option<DataType>) -> Result<ScalarValue, &'static str> {
        value(Some(text.as_bytes()), sent_as, false, expected.as_ref()).map_err(|e| e.code())
    }

    fn binary(bytes: &[u8], sent_as: &Type, expected: Option<DataType>) -> Result<ScalarValue, &'static str> {
        value(Some(bytes), sent_as, true, expected.as_ref()).map_err(|e| e.code())
    }

    #[test]
    fn texts_are_read_as_what_is_expected() {
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let time = ScalarValue::TimestampNanosecond(Some(1_357_034_400_000_000_000), None);
        assert_eq!(text("2013-01-01 10:00:00", &Type::TEXT, Some(nanoseconds.clone())), Ok(time.clone()));
        assert_eq!(text("7", &Type::INT4, Some(DataType::Int64)), Ok(ScalarValue::Int64(Some(7))));
        assert_eq!(text("7", &Type::INT4, None), Ok(ScalarValue::Int32(Some(7))));
        assert_eq!(text("7x", &Type::INT4, Some(DataType::Int64)), Err(state::BAD_TEXT));
        assert_eq!(text("\\x00ff", &Type::BYTEA, None), Ok(ScalarValue::Binary(Some(vec![0, 255]))));
        let sent = 1_357_034_400_000_000i64 - EPOCH_MICROSECONDS;
        assert_eq!(binary(&sent.to_be_bytes(), &Type::TIMESTAMP, Some(nanoseconds)), Ok(time));
    }

    #[test]
    fn a_fraction_for_a_whole_number_stays_one() {
        let half = ScalarValue::Float64(Some(1.5));
        assert_eq!(binary(&1.5f64.to_be_bytes(), &Type::FLOAT8, Some(DataType::Int64)), Ok(half));
        assert_eq!(binary(&300i32.to_be_bytes(), &Type::INT4, Some(DataType::Int8)), Err(state::BAD_TEXT));
    }

    #[test]
    fn bytes_that_are_no_value_are_refused() {
        for sent_as in [
            Type::BOOL,
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::FLOAT8,
            Type::TIMESTAMP,
            Type::INT8_ARRAY,
            Type::NUMERIC,
        ] {
            assert_eq!(binary(&[1, 2, 3], &sent_as, None), Err(state::BAD_TEXT), "{sent_as}");
        }
        assert_eq!(text("\u{1}", &Type::UNKNOWN, None), Ok(ScalarValue::Utf8(Some("\u{1}".into()))));
        assert_eq!(binary(&[0xff], &Type::TEXT, None), Err(state::BAD_TEXT));
        // An array that says that it has two milliards of elements.
        let mut huge = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20];
        huge.extend([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
        assert_eq!(binary(&huge, &Type::INT8_ARRAY, None), Err(state::BAD_TEXT));
    }

    #[tokio::test]
    async fn a_plan_tells_what_it_expects() {
        let session = SessionContext::new();
        session.sql("CREATE TABLE t (n BIGINT, s TEXT)").await.unwrap().collect().await.unwrap();
        let sql = "SELECT s, $3::DOUBLE FROM t WHERE n > $1 AND s = $2 LIMIT $4";
        let plan = session.state().create_logical_plan(sql).await.unwrap();
        let expected = Expected::of(&plan, &[]).unwrap();
        assert_eq!(expected.types(), [Type::INT8, Type::TEXT, Type::FLOAT8, Type::INT8]);
        let plan = session.state().create_logical_plan("SELECT $2").await.unwrap();
        assert_eq!(Expected::of(&plan, &[]).unwrap().types(), [Type::TEXT, Type::TEXT]);
        assert_eq!(Expected::of(&plan, &[None, Some(Type::INT4)]).unwrap().types(), [Type::TEXT, Type::INT4]);
    }
}
