//! From an exact total to the type of a column, or an error that says what to do.
//!
//! The accumulator of a sum does not know which group it sums. So a view merges to the exact total, and narrows it
//! above, where the key stands beside it: [`narrowing`] is the function that does so.

use super::number::Exact;
use super::rows::{bytes, numbers};
use crate::sql_type::sql_type;
use arrow::array::{
    Array, ArrayRef, Decimal32Array, Decimal64Array, Decimal128Array, Decimal256Array, Int64Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Decimal128Type, i256};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{exec_err, internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use num_bigint::{BigInt, Sign};
use std::sync::Arc;

/// What a message about a total that does not fit says.
#[derive(Debug)]
pub(super) struct Wider<'a> {
    /// The call, as in SQL.
    what: &'a str,
    /// The type that does not hold it.
    target: &'a DataType,
    /// Which view and key, if known: `view revenue: `, ` for k = 'a'`.
    view: String,
    key: String,
}

impl<'a> Wider<'a> {
    pub(super) fn new(what: &'a str, target: &'a DataType) -> Self {
        Self { what, target, view: String::new(), key: String::new() }
    }
}

/// The error for a total that its type does not hold.
pub(super) fn too_wide<T>(wider: Wider<'_>, total: BigInt) -> Result<T> {
    let Wider { what, target, view, key } = wider;
    let side = if total.sign() == Sign::Minus { "less" } else { "more" };
    // A call under an alias is a sum: the optimizer names parts of those.
    let unnamed = (if what == "avg" { what } else { "sum" }, "x");
    let call = what.strip_suffix(')').and_then(|call| call.split_once('('));
    let (function, argument) = call.unwrap_or(unnamed);
    let scale = scale(target).unwrap_or(0);
    let advice = match target {
        DataType::Decimal256(..) => format!("{function}(CAST({argument} AS DOUBLE))"),
        DataType::Decimal128(..) => format!("{function}(CAST({argument} AS DECIMAL(76, {scale})))"),
        _ => format!("{function}(CAST({argument} AS DECIMAL(38, {scale})))"),
    };
    let total = with_point(&total, scale);
    exec_err!("{view}{what}{key} is {total}, {side} than {} holds: use {advice}", sql_type(target))
}

/// The digits after the point.
pub(super) fn scale(data_type: &DataType) -> Result<i8> {
    match data_type {
        DataType::Decimal32(_, s)
        | DataType::Decimal64(_, s)
        | DataType::Decimal128(_, s)
        | DataType::Decimal256(_, s) => Ok(*s),
        other => internal_err!("{other} is no decimal"),
    }
}

/// An unscaled integer with the point where it belongs.
fn with_point(total: &BigInt, scale: i8) -> String {
    let Ok(scale) = usize::try_from(scale) else { return format!("{total}e{}", scale.unsigned_abs()) };
    if scale == 0 {
        return total.to_string();
    }
    let sign = if total.sign() == Sign::Minus { "-" } else { "" };
    let digits = format!("{:0>width$}", total.magnitude().to_string(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// Unscaled integers as a column of the decimal type `target`. `wider` makes the message for a row.
///
/// # Errors
///
/// If one has more digits than `target`.
pub(super) fn decimals<'a>(
    totals: impl Iterator<Item = Option<BigInt>>,
    target: &DataType,
    wider: impl Fn(usize) -> Wider<'a>,
) -> Result<ArrayRef> {
    let (DataType::Decimal32(precision, _)
    | DataType::Decimal64(precision, _)
    | DataType::Decimal128(precision, _)
    | DataType::Decimal256(precision, _)) = target
    else {
        return internal_err!("a sum of decimals cannot be {target}");
    };
    let bound = BigInt::from(10).pow(u32::from(*precision));
    let totals = totals.enumerate().map(|(row, total)| match total {
        Some(total) if *total.magnitude() >= *bound.magnitude() => too_wide(wider(row), total),
        total => Ok(total),
    });
    // Whatever has no more digits than the type says fits the integers that the type is made of.
    Ok(match target {
        DataType::Decimal32(..) => {
            let values = totals.map(|t| Ok(t?.and_then(|t| i32::try_from(t).ok())));
            Arc::new(values.collect::<Result<Decimal32Array>>()?.with_data_type(target.clone()))
        }
        DataType::Decimal64(..) => {
            let values = totals.map(|t| Ok(t?.and_then(|t| i64::try_from(t).ok())));
            Arc::new(values.collect::<Result<Decimal64Array>>()?.with_data_type(target.clone()))
        }
        DataType::Decimal128(..) => {
            let values = totals.map(|t| Ok(t?.and_then(|t| i128::try_from(t).ok())));
            Arc::new(values.collect::<Result<Decimal128Array>>()?.with_data_type(target.clone()))
        }
        _ => {
            let values = totals.map(|t| Ok(t?.map(|t| to_i256(&t))));
            Arc::new(values.collect::<Result<Decimal256Array>>()?.with_data_type(target.clone()))
        }
    })
}

/// An integer of at most 76 digits, which fits.
fn to_i256(value: &BigInt) -> i256 {
    let digits = value.to_signed_bytes_le();
    let mut bytes = [if value.sign() == Sign::Minus { 255 } else { 0 }; 32];
    for (byte, digit) in bytes.iter_mut().zip(digits) {
        *byte = digit;
    }
    i256::from_le_bytes(bytes)
}

/// The function `(total, key…) -> target`, which converts an exact total or fails with a message that names the
/// view, the key and what to do. The total is that of [`wide_sum`](super::wide_sum), `key_names` are what a message
/// calls the key, and `what` is the call as the view has it: `sum(n)`.
///
/// A null total gives null.
pub(crate) fn narrowing(view: &str, key_names: &[String], target: DataType, what: &str) -> Arc<ScalarUDF> {
    let arguments = 1 + key_names.len();
    Arc::new(ScalarUDF::from(Narrowing {
        view: view.to_string(),
        key_names: key_names.to_vec(),
        target,
        what: what.to_string(),
        signature: Signature::new(TypeSignature::Any(arguments), Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Narrowing {
    view: String,
    key_names: Vec<String>,
    target: DataType,
    what: String,
    signature: Signature,
}

impl Narrowing {
    fn wider(&self, keys: &[ArrayRef], row: usize) -> Wider<'_> {
        let named =
            self.key_names.iter().zip(keys).map(|(name, key)| format!("{name} = {}", shown(key, row)));
        let named: Vec<String> = named.collect();
        let key = if named.is_empty() { String::new() } else { format!(" for {}", named.join(", ")) };
        Wider { view: format!("view {}: ", self.view), key, ..Wider::new(&self.what, &self.target) }
    }

    fn integers<T>(&self, totals: &ArrayRef, keys: &[ArrayRef]) -> Result<Vec<Option<T>>>
    where
        T: TryFrom<i128>,
    {
        let totals = numbers::<Decimal128Type>(std::slice::from_ref(totals), 0)?;
        let narrow = |(row, total): (usize, Option<i128>)| {
            let narrow =
                |total| T::try_from(total).or_else(|_| too_wide(self.wider(keys, row), total.into()));
            total.map(narrow).transpose()
        };
        totals.iter().enumerate().map(narrow).collect()
    }

    fn decimals(&self, totals: &ArrayRef, keys: &[ArrayRef]) -> Result<ArrayRef> {
        let totals = bytes(std::slice::from_ref(totals), 0)?;
        let exact = |stored: Option<&[u8]>| -> Result<Option<BigInt>> {
            let Some(stored) = stored else { return Ok(None) };
            let mut total = Exact::default();
            total.merge(stored)?;
            match total.finite().to_integer() {
                Some(total) => Ok(Some(total)),
                None => exec_err!("the stored state of a sum of decimals is damaged: it is no integer"),
            }
        };
        let totals = totals.iter().map(exact).collect::<Result<Vec<_>>>()?;
        decimals(totals.into_iter(), &self.target, |row| self.wider(keys, row))
    }
}

/// A value of a key, as in SQL.
fn shown(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".into();
    }
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(column, &options).map(|f| f.value(row).to_string());
    match text {
        Ok(text) if column.data_type().is_numeric() || column.data_type() == &DataType::Boolean => text,
        Ok(text) => format!("'{}'", text.replace('\'', "''")),
        Err(_) => "?".into(),
    }
}

impl ScalarUDFImpl for Narrowing {
    fn name(&self) -> &str {
        "narrow_total"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.target.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (totals, keys) =
            columns.split_first().ok_or_else(|| internal_datafusion_err!("no total to narrow"))?;
        let narrowed: ArrayRef = match &self.target {
            DataType::Int64 => Arc::new(Int64Array::from(self.integers::<i64>(totals, keys)?)),
            DataType::UInt64 => Arc::new(UInt64Array::from(self.integers::<u64>(totals, keys)?)),
            _ => self.decimals(totals, keys)?,
        };
        Ok(ColumnarValue::Array(narrowed))
    }
}
