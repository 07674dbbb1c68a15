//! Aggregates as fold, merge and finish: the [`combinator`]s, and which functions they may be put around.

pub(crate) mod approx_percentile;
mod bucket;
pub(crate) mod combinator;
#[cfg(test)]
mod conformance;
mod counts;
mod extreme_by;
mod float_extreme;
mod function;
mod groups;
mod histogram;
mod integer_avg;
mod one_group;
pub(crate) mod pick;
mod quantile;
mod records;
pub(crate) mod sequence;
mod sketch;
pub(crate) mod tally;
mod varint;
mod weight;

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
    let functions = [
        approx_percentile::approx_percentile_cont(false),
        approx_percentile::approx_percentile_cont_with_weight(false),
        approx_percentile::approx_median(),
        tally::count_by(),
        tally::top_k(),
        tally::mode(),
        histogram::histogram(),
        extreme_by::arg_min(),
        extreme_by::arg_max(),
        sequence::sequence(sequence::Kind::Count, 0),
        sequence::sequence(sequence::Kind::Match, 0),
    ];
    functions.iter().map(|function| function.as_ref().clone()).collect()
}

/// A function whose states merge to the same bits in any order, with the arguments it is to be called with.
pub(crate) struct Mergeable {
    call: Arc<Call>,
    pub(crate) arguments: Vec<Expr>,
    /// Whether what is asked for is the state itself.
    as_state: bool,
}

impl Mergeable {
    /// events → state
    pub(crate) fn state(&self) -> Arc<AggregateUDF> {
        combinator::state(&self.call)
    }

    /// states → state
    pub(crate) fn merge_state(&self) -> Arc<AggregateUDF> {
        combinator::merge_state(&self.call)
    }

    /// states → value
    pub(crate) fn finish(&self) -> Arc<AggregateUDF> {
        if self.as_state { combinator::merge_state(&self.call) } else { combinator::merge(&self.call) }
    }
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
    if let Some(call) = combinator::of_state(&aggregate.func) {
        let arguments = params.args.clone();
        return Ok(Ok(Mergeable { call: Arc::clone(call), arguments, as_state: true }));
    }
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
    Ok(Ok(Mergeable { call, arguments, as_state: false }))
}

/// The function over (value, count, …) that gives what the call gives, if how often each value came is all that it
/// needs.
pub(crate) fn counted(call: &AggregateFunction) -> Option<Arc<AggregateUDF>> {
    let _ = call;
    None
}

/// The function over (value, order…, place…) that gives what the call gives, if it picks one row of each group.
pub(crate) fn pick(call: &AggregateFunction) -> Result<Option<Arc<AggregateUDF>>> {
    let _ = call;
    Ok(None)
}

/// Whether the function keeps its values in the order in which they come.
pub(crate) fn in_order(name: &str) -> bool {
    matches!(name, "array_agg" | "string_agg" | "first_value" | "last_value" | "nth_value")
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
