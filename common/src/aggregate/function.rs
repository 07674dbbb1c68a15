//! An aggregate function of the engine from what is particular to it.
//!
//! All functions here have one state column and take no notice of the order of their rows. They refuse `DISTINCT`,
//! which is rewritten before they are asked.

use super::groups::{Fold, Many, One};
use crate::error::Error;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{ScalarValue, not_impl_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, GroupsAccumulator, Signature, Volatility,
};
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::sync::Arc;

/// What is particular to an aggregate function.
pub(super) trait Function: Debug + Eq + Hash + Send + Sync + 'static {
    type Fold: Fold;

    fn name(&self) -> &str;

    fn aliases(&self) -> &[String] {
        &[]
    }

    /// The types that arguments of these types are to be cast to, or why they cannot be.
    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>>;

    /// The type of the value.
    fn result(&self, types: &[DataType]) -> Result<DataType>;

    /// The type of the state.
    fn state(&self, types: &[DataType]) -> Result<DataType>;

    /// The fold for a call, whose constants are checked here.
    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<Self::Fold>;

    /// The value of no rows, if it is not null.
    fn of_nothing(&self) -> Option<ScalarValue> {
        None
    }

    /// Whether the first argument may be given by `WITHIN GROUP (ORDER BY …)`.
    fn within_group(&self) -> bool {
        false
    }
}

/// The function as the engine calls it.
pub(super) fn udaf(function: impl Function) -> AggregateUDF {
    AggregateUDF::from(Own { function, signature: Signature::user_defined(Volatility::Immutable) })
}

/// The function of ours that the engine calls so, if it is one of this kind.
pub(super) fn of_udaf<F: Function>(udaf: &AggregateUDF) -> Option<&F> {
    let own = (udaf.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Own<F>>()?;
    Some(&own.function)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Own<F> {
    function: F,
    signature: Signature,
}

impl<F: Function> Own<F> {
    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<F::Fold> {
        if call.is_distinct {
            return not_impl_err!("{} takes no DISTINCT", self.function.name());
        }
        self.function.fold(call)
    }
}

impl<F: Function> AggregateUDFImpl for Own<F> {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.result(types)
    }

    fn is_nullable(&self) -> bool {
        self.function.of_nothing().is_none()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.of_nothing().map_or_else(|| ScalarValue::try_from(data_type), Ok)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_within_group_clause(&self) -> bool {
        self.function.within_group()
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let state = self.function.state(&types(args.input_fields))?;
        Ok(vec![Arc::new(Field::new(format!("{}[state]", args.name), state, true))])
    }

    fn accumulator(&self, call: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One::new(self.fold(&call)?)))
    }

    fn groups_accumulator_supported(&self, call: AccumulatorArgs<'_>) -> bool {
        !call.is_distinct
    }

    fn create_groups_accumulator(&self, call: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Many::new(self.fold(&call)?)))
    }
}

/// The types of fields.
pub(super) fn types(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|f| f.data_type().clone()).collect()
}

/// An argument that must be a constant and not null; `what` says what it is.
pub(super) fn constant(call: &AccumulatorArgs<'_>, index: usize, what: &str) -> Result<ScalarValue> {
    // A column cannot be evaluated over no columns, and a cast of a constant can.
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match call.exprs.get(index).map(|e| e.evaluate(&nothing)) {
        Some(Ok(ColumnarValue::Scalar(value))) if !value.is_null() => Ok(value),
        _ => plan_err!("{}: {what} must be a constant, and not null", call.name),
    }
}

/// An argument that must be a constant number.
pub(super) fn number(call: &AccumulatorArgs<'_>, index: usize, what: &str) -> Result<f64> {
    match constant(call, index, what)?.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(number))) => Ok(number),
        _ => plan_err!("{}: {what} must be a number", call.name),
    }
}

/// An argument that must be a constant share of all values.
pub(super) fn percentile(call: &AccumulatorArgs<'_>, index: usize) -> Result<f64> {
    let q = number(call, index, "the percentile")?;
    if (0.0..=1.0).contains(&q) {
        return Ok(q);
    }
    plan_err!("{}: expected a percentile from 0 to 1, found {q}", call.name)
}

/// Fails if there are not between `least` and `most` arguments.
pub(super) fn arity(name: &str, types: &[DataType], least: usize, most: usize, usage: &str) -> Result<()> {
    if (least..=most).contains(&types.len()) {
        return Ok(());
    }
    plan_err!("expected {usage}, found {name} with {} arguments", types.len())
}

/// The type that numbers are counted as: floating point as it is, all others as `DOUBLE`.
pub(super) fn floating(name: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        t if t.is_floating() => Ok(t.clone()),
        t if t.is_numeric() || t.is_null() => Ok(DataType::Float64),
        other => plan_err!("{name} takes numbers, found {other}"),
    }
}

/// A state that no version of this function wrote.
pub(super) fn damaged(name: &str, found: impl Display) -> DataFusionError {
    Error::corrupt(format!("state of {name}"), format!("{found}: build the view again")).into()
}
