//! Aggregates as fold, merge and finish: the [`combinator`]s, and which functions they may be put around.

pub(crate) mod combinator;
pub(crate) mod exact;
mod one_group;

use arrow::datatypes::FieldRef;
use combinator::Call;
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable};
use std::sync::Arc;

/// Our own aggregate functions. One that bears the name of one of the engine's takes its place.
pub(crate) fn functions() -> Vec<AggregateUDF> {
    exact::functions()
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
    let (function, arguments) = match name {
        "count" | "min" | "max" | "sum" | "avg" | "bool_and" | "bool_or" | "bit_and" | "bit_or"
        | "bit_xor" | "approx_distinct" => (Arc::clone(&aggregate.func), params.args.clone()),
        "var" | "var_pop" | "stddev" | "stddev_pop" | "covar_samp" | "covar_pop" | "corr" => {
            (Arc::clone(&aggregate.func), params.args.clone())
        }
        other if other.starts_with("regr_") => (Arc::clone(&aggregate.func), params.args.clone()),
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
