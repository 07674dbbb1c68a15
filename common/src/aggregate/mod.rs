//! Aggregates as fold, merge and finish: the [`combinator`]s, and which functions they may be put around.

pub(crate) mod combinator;
mod float_extreme;
mod integer_avg;
mod one_group;

use crate::functions::{Merging, merging};
use arrow::datatypes::{DataType, FieldRef};
use combinator::Call;
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{AggregateUDF, Cast, Expr, ExprSchemable};
use float_extreme::FloatExtreme;
use integer_avg::IntegerAvg;
use std::sync::Arc;

/// Our own aggregate functions. One that bears the name of one of the engine's takes its place.
pub(crate) fn functions() -> Vec<AggregateUDF> {
    Vec::new()
}

/// A function whose states merge to the same bits in any order, with the arguments it is to be called with.
pub(crate) struct Mergeable {
    pub(crate) call: Arc<Call>,
    pub(crate) arguments: Vec<Expr>,
}

/// The call as one whose states can be kept and merged exactly, or why it is not one.
///
/// `input` is the schema below the aggregate. `DISTINCT` must have been rewritten before
/// (see [`crate::view`]).
pub(crate) fn mergeable(
    aggregate: &AggregateFunction,
    input: &DFSchema,
) -> Result<Result<Mergeable, String>> {
    let params = &aggregate.params;
    let name = aggregate.func.name();
    if params.distinct {
        return Ok(Err(format!("{name} takes DISTINCT over what is no single column expression")));
    }
    if !params.order_by.is_empty() {
        return Ok(Err(format!("{name} depends on the order of the events")));
    }
    let types = params.args.iter().map(|a| a.get_type(input)).collect::<Result<Vec<_>>>()?;
    let floating = types.iter().any(|t| t.is_floating());
    let (function, arguments) = match name {
        _ if merging(&aggregate.func) == Some(Merging::AnyOrder) => {
            (Arc::clone(&aggregate.func), params.args.clone())
        }
        "min" if floating => (Arc::new(AggregateUDF::from(FloatExtreme::min())), params.args.clone()),
        "max" if floating => (Arc::new(AggregateUDF::from(FloatExtreme::max())), params.args.clone()),
        "count" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor"
        | "approx_distinct" => (Arc::clone(&aggregate.func), params.args.clone()),
        "sum" | "avg" if !floating => (Arc::clone(&aggregate.func), params.args.clone()),
        "avg" => match widened_integer(&params.args, input)? {
            Some(argument) => (Arc::new(AggregateUDF::from(IntegerAvg::new())), vec![argument]),
            None => return Ok(Err("avg over floating point has no order-free state yet".into())),
        },
        "sum" => return Ok(Err("sum over floating point has no order-free state yet".into())),
        other if merging(&aggregate.func) == Some(Merging::InOrder) => {
            return Ok(Err(format!("{other} depends on the order of the events")));
        }
        other => return Ok(Err(format!("{other} has no order-free state yet"))),
    };
    let nullable = aggregate_nullable(aggregate, input)?;
    let fields = arguments.iter().map(|a| Ok(a.to_field(input)?.1)).collect::<Result<Vec<FieldRef>>>()?;
    let literals: Vec<Option<ScalarValue>> = arguments
        .iter()
        .map(|a| if let Expr::Literal(value, _) = a { Some(value.clone()) } else { None })
        .collect();
    let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let call = Call::try_new(function, fields, literals, ignore_nulls, nullable)?;
    Ok(Ok(Mergeable { call, arguments }))
}

/// Whether the plan says that the aggregate may be null.
fn aggregate_nullable(aggregate: &AggregateFunction, input: &dyn ExprSchema) -> Result<bool> {
    Expr::AggregateFunction(aggregate.clone()).nullable(input)
}

/// For `avg(CAST(x AS DOUBLE))` over an integer `x`, which is how `avg(x)` is planned: `x` in 64 bits.
fn widened_integer(arguments: &[Expr], input: &DFSchema) -> Result<Option<Expr>> {
    let [Expr::Cast(Cast { expr, .. })] = arguments else { return Ok(None) };
    let wide = match expr.get_type(input)? {
        DataType::UInt64 => DataType::UInt64,
        t if t.is_integer() => DataType::Int64,
        _ => return Ok(None),
    };
    Ok(Some(expr.as_ref().clone().cast_to(&wide, input)?))
}
