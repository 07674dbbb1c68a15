//! Aggregates as fold, merge and finish: the [`combinator`]s, which functions they may be put around, and our own
//! functions.

pub(crate) mod approx_percentile;
mod bucket;
pub(crate) mod combinator;
#[cfg(test)]
mod conformance;
mod counts;
pub(crate) mod exact;
mod extreme_by;
mod function;
mod groups;
mod histogram;
mod one_group;
pub(crate) mod pick;
mod quantile;
mod records;
pub(crate) mod sequence;
mod sketch;
pub(crate) mod tally;
mod varint;
mod weight;

use crate::expr::unalias;
use crate::functions::{Merging, merging};
use crate::meaning::meaning;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};
use combinator::Call;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan};
use pick::Which;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The functions whose states merge to the same bits in any order, with the version of their states and values. A
/// version is raised when the same events give another state or value; it is part of the type of a state column and
/// of the fingerprint of every view, so that a state of another version is made anew and never misread.
const MERGEABLE: [(&str, u32); 38] = [
    ("count", 1),
    ("sum", 1),
    ("avg", 1),
    ("min", 1),
    ("max", 1),
    ("bool_and", 1),
    ("bool_or", 1),
    ("bit_and", 1),
    ("bit_or", 1),
    ("bit_xor", 1),
    ("var", 1),
    ("var_pop", 1),
    ("stddev", 1),
    ("stddev_pop", 1),
    ("covar_samp", 1),
    ("covar_pop", 1),
    ("corr", 1),
    ("regr_slope", 1),
    ("regr_intercept", 1),
    ("regr_count", 1),
    ("regr_r2", 1),
    ("regr_avgx", 1),
    ("regr_avgy", 1),
    ("regr_sxx", 1),
    ("regr_syy", 1),
    ("regr_sxy", 1),
    ("approx_distinct", 1),
    ("approx_median", 1),
    ("approx_percentile_cont", 1),
    ("approx_percentile_cont_with_weight", 1),
    ("histogram", 1),
    ("arg_min", 1),
    ("arg_max", 1),
    ("sequence_count", 1),
    ("sequence_match", 1),
    (PICKS[0], 1),
    (PICKS[1], 1),
    (PICKS[2], 1),
];

/// The functions for which a value counts once however often it comes, so that `DISTINCT` says nothing.
const IDEMPOTENT: [&str; 6] = ["min", "max", "bool_and", "bool_or", "bit_and", "bit_or"];

/// Under these names one row is picked for `first_value`, `last_value` and `nth_value`.
const PICKS: [&str; 3] = ["pick_first", "pick_last", "pick_nth"];
/// A state that keeps so many rows for `nth_value` is small still.
const MOST_ROWS: u64 = 1000;

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
    exact::functions().into_iter().chain(functions.iter().map(|f| f.as_ref().clone())).collect()
}

/// The version of a function of ours or of the engine whose states are kept.
fn version(name: &str) -> Option<u32> {
    MERGEABLE.iter().find(|(known, _)| *known == name).map(|(_, version)| *version)
}

/// The versions of the functions that a plan calls, as text, for fingerprints.
pub(crate) fn versions(plan: &LogicalPlan) -> Result<String> {
    let mut called = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::AggregateFunction(call) = expr {
                    let name = combinator::of_state(&call.func).map_or(call.func.name(), |c| c.name());
                    called.extend(version(name).map(|version| format!("{name} {version}\n")));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(called.into_iter().collect())
}

/// A function whose states merge to the same bits in any order, with the arguments it is to be called with.
pub(crate) struct Mergeable {
    call: Arc<Call>,
    pub(crate) arguments: Vec<Expr>,
    /// Whether what is asked for is the state itself.
    as_state: bool,
    /// For a sum that may not fit its type: the call whose value is the exact total, and the sum in SQL.
    total: Option<(Arc<Call>, String)>,
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

    /// states → value, which is still to be [narrowed](Self::narrowed).
    pub(crate) fn finish(&self) -> Arc<AggregateUDF> {
        match &self.total {
            _ if self.as_state => combinator::merge_state(&self.call),
            Some((total, _)) => combinator::merge(total),
            None => combinator::merge(&self.call),
        }
    }

    /// Whether [`finish`](Self::finish) gives a total that may be too wide.
    pub(crate) fn has_total(&self) -> bool {
        self.total.is_some() && !self.as_state
    }

    /// What [`finish`](Self::finish) gave as a value of the function's own type. An error for one that does not fit
    /// names the view and the key, whose columns have these names and expressions.
    pub(crate) fn narrowed(&self, value: Expr, view: &str, names: &[String], keys: &[Expr]) -> Expr {
        let Some((_, what)) = self.total.as_ref().filter(|_| !self.as_state) else { return value };
        let narrowing = exact::narrowing(view, names, self.call.return_type().clone(), what);
        narrowing.call(std::iter::once(value).chain(keys.iter().cloned()).collect())
    }
}

/// The call as one whose states can be kept and merged exactly, or why it is not one.
///
/// `input` is the schema below the aggregate. What is not small by itself was split off before (see [`crate::split`]).
pub(crate) fn mergeable(
    aggregate: &AggregateFunction,
    input: &DFSchema,
) -> Result<Result<Mergeable, String>> {
    let params = &aggregate.params;
    let arguments = params.args.clone();
    if let Some(call) = combinator::of_state(&aggregate.func) {
        return Ok(Ok(Mergeable { call: Arc::clone(call), arguments, as_state: true, total: None }));
    }
    let name = aggregate.func.name();
    if params.distinct && !IDEMPOTENT.contains(&name) {
        return Ok(Err(format!("{name} takes DISTINCT over what is no single column expression")));
    }
    let descending = params.order_by.first().is_some_and(|sort| !sort.asc);
    let function = match name {
        "approx_percentile_cont" => approx_percentile::approx_percentile_cont(descending),
        "approx_percentile_cont_with_weight" => {
            approx_percentile::approx_percentile_cont_with_weight(descending)
        }
        _ if !params.order_by.is_empty() => {
            return Ok(Err(format!("{name} depends on the order of the events")));
        }
        _ => Arc::clone(&aggregate.func),
    };
    let version = match merging(&aggregate.func) {
        // The user's own version is in the fingerprint.
        Some(Merging::AnyOrder) => Some(0),
        Some(Merging::InOrder) => None,
        None => version(name),
    };
    let Some(version) = version else {
        return Ok(Err(format!("{name} depends on the order of the events")));
    };
    let call = |function| call_of(function, version, aggregate, input);
    let total = match exact::wide_sum(&function) {
        Some(wide) if arguments.iter().any(|a| a.get_type(input).is_ok_and(|t| may_overflow(&t))) => {
            Some((call(wide)?, Expr::AggregateFunction(aggregate.clone()).human_display().to_string()))
        }
        _ => None,
    };
    Ok(Ok(Mergeable { call: call(function)?, arguments, as_state: false, total }))
}

/// `function` called as `aggregate` is, over rows of this schema.
fn call_of(
    function: Arc<AggregateUDF>,
    version: u32,
    aggregate: &AggregateFunction,
    input: &DFSchema,
) -> Result<Arc<Call>> {
    let arguments = &aggregate.params.args;
    let nullable = Expr::AggregateFunction(aggregate.clone()).nullable(input)?;
    let fields = arguments.iter().map(|a| Ok(a.to_field(input)?.1)).collect::<Result<Vec<FieldRef>>>()?;
    let constant = |a: &Expr| if let Expr::Literal(value, _) = a { Some(value.clone()) } else { None };
    let ignore_nulls = aggregate.params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let literals = arguments.iter().map(constant).collect();
    Call::try_new(function, version, fields, literals, ignore_nulls, nullable)
}

/// Refuses calls of aggregate functions in a plan that have constants or types with which they cannot run, which the
/// engine would find out with the first event. It does not look at calls with DISTINCT or an order of their own.
pub(crate) fn refuse_impossible_calls(view: &str, plan: &LogicalPlan) -> crate::error::Result<()> {
    let mut impossible = None;
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else { return Ok(TreeNodeRecursion::Continue) };
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(call) = unalias(expr) else { continue };
            // Made here without an order and without DISTINCT, an accumulator says nothing about calls that have them.
            let of_one = call.func.supports_within_group_clause() || call.params.order_by.is_empty();
            if call.params.distinct || !of_one {
                continue;
            }
            let checked = call_of(Arc::clone(&call.func), 0, call, aggregate.input.schema())?.check();
            if let Err(e) = checked {
                let reason = crate::error::Error::from(e).to_string();
                impossible = Some(format!("view {view}: {}: {reason}", meaning(expr)));
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    impossible.map_or(Ok(()), |message| Err(crate::error::Error::Invalid(message)))
}

fn may_overflow(summand: &DataType) -> bool {
    summand.is_integer() || summand.is_decimal()
}

/// The function over (value, count, …) that gives what the call gives, if how often each value came is all that it
/// needs.
pub(crate) fn counted(call: &AggregateFunction) -> Option<Arc<AggregateUDF>> {
    let descending = call.params.order_by.first().is_some_and(|sort| !sort.asc);
    Some(match call.func.name() {
        "median" => tally::weighted_median(),
        "percentile_cont" => tally::weighted_percentile_cont(descending),
        "count_by" => tally::weighted_count_by(),
        "top_k" => tally::weighted_top_k(),
        "mode" => tally::weighted_mode(),
        _ => return None,
    })
}

/// The function that gives what the call gives, if it keeps few rows of each group once their order leaves no ties:
/// `ties` more arguments. None for one that has them already.
pub(crate) fn ordered(call: &AggregateFunction, ties: usize) -> Option<Ordered> {
    let params = &call.params;
    if params.distinct || sequence::has_ties(&call.func) {
        return None;
    }
    let sequence = |kind| Some(Ordered::Sequence(sequence::sequence(kind, ties)));
    let (name, which) = match call.func.name() {
        "sequence_count" => return sequence(sequence::Kind::Count),
        "sequence_match" => return sequence(sequence::Kind::Match),
        "first_value" => (PICKS[0], Which::First),
        "last_value" => (PICKS[1], Which::Last),
        "nth_value" => match params.args.get(1) {
            Some(Expr::Literal(ScalarValue::Int64(Some(n)), _))
                if (1..=MOST_ROWS).contains(&n.unsigned_abs()) =>
            {
                (PICKS[2], Which::Nth(*n))
            }
            _ => return None,
        },
        _ => return None,
    };
    let own = params.order_by.iter().map(|sort| SortOptions::new(!sort.asc, sort.nulls_first));
    let options = own.chain(std::iter::repeat_n(SortOptions::new(false, false), ties)).collect();
    let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    Some(Ordered::Pick(pick::pick(name, which, options, ignore_nulls)))
}

/// A function that takes an order without ties.
pub(crate) enum Ordered {
    /// Over (value, order…, ties…).
    Pick(Arc<AggregateUDF>),
    /// Over its own arguments, then ties.
    Sequence(Arc<AggregateUDF>),
}

/// Whether the function keeps its values in the order in which they come.
pub(crate) fn in_order(name: &str) -> bool {
    matches!(name, "array_agg" | "string_agg" | "first_value" | "last_value" | "nth_value")
}
