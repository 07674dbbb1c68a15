//! What an aggregate groups by, and the same grouping with one more key or over a relation that has its keys already.
//!
//! An aggregate by any grouping has columns `g0, g1, …` here, then `y` if there is one more key, then its calls. With
//! grouping sets the last key tells the sets apart; with sessions it is the session.
//!
//! The sessions of a key and a value are intervals of events that follow each other closely, so each lies in one
//! session of the key, and all of them together cover the events of the key. That is why
//!
//! ```text
//! sessions of g = sessions that the sessions of all (g, y) make        for any y
//! ```

use crate::error::Result;
use crate::expr::columns;
use crate::windowed::session::SessionAggregate;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{
    AggregateUDF, Expr, Extension, GroupingSet, LogicalPlan, LogicalPlanBuilder, cast, col, lit,
};
use std::sync::Arc;

/// The name of the one more key.
pub(super) const VALUE: &str = "y";
/// A cube of more keys than these has more sets than the engine takes.
const MOST_KEYS: usize = 20;

/// A call over the rows of one value.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) of_rows: Expr,
    /// What makes the call over two sets of rows from those over each.
    pub(super) together: Arc<AggregateUDF>,
}

/// What an aggregate groups by.
#[derive(Debug, Clone)]
pub(super) enum Grouping {
    /// By expressions.
    Keys(Vec<Expr>),
    /// By several sets of expressions.
    Sets(Vec<Vec<Expr>>),
    /// By the sessions that intervals make for each combination of keys.
    Sessions { window: Expr, keys: Vec<Expr> },
}

impl Grouping {
    /// The grouping of an aggregate; `None` if it is by sets of very many keys.
    pub(super) fn of(group_expr: &[Expr]) -> Option<Self> {
        let [Expr::GroupingSet(sets)] = group_expr else { return Some(Self::Keys(group_expr.to_vec())) };
        let sets = match sets {
            GroupingSet::GroupingSets(sets) => sets.clone(),
            GroupingSet::Rollup(keys) => (0..=keys.len()).map(|n| keys[..n].to_vec()).collect(),
            GroupingSet::Cube(keys) if keys.len() < MOST_KEYS => subsets(keys),
            GroupingSet::Cube(_) => return None,
        };
        (distinct(&sets).len() < MOST_KEYS).then_some(Self::Sets(sets))
    }

    /// How many columns the key has.
    pub(super) fn keys(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.len(),
            Self::Sets(sets) => distinct(sets).len() + 1,
            Self::Sessions { keys, .. } => keys.len() + 1,
        }
    }

    /// The columns of the key.
    pub(super) fn columns(&self) -> Vec<Expr> {
        (0..self.keys()).map(group).collect()
    }

    /// Without the sets that have no key, unless these are all, and for each of them its constant key in an aggregate
    /// of these columns.
    pub(super) fn apart(self, schema: &DFSchema) -> Result<(Option<Self>, Vec<Vec<Expr>>)> {
        let Self::Sets(sets) = &self else { return Ok((Some(self), Vec::new())) };
        let (empty, keyed): (Vec<_>, Vec<_>) = sets.iter().cloned().partition(Vec::is_empty);
        let keys = distinct(sets).len();
        let total = |nth: usize| -> Result<Vec<Expr>> {
            let null = |i| Ok(lit(ScalarValue::try_from(schema.field(i).data_type())?));
            let mut columns = (0..keys).map(null).collect::<Result<Vec<Expr>>>()?;
            // A bit for each key that is left out, and above them how many sets were the same before.
            let id = (1u64 << keys) - 1 + ((nth as u64) << keys);
            columns.push(lit(id));
            Ok(columns)
        };
        let totals = (0..empty.len()).map(total).collect::<Result<_>>()?;
        Ok(((!keyed.is_empty()).then_some(Self::Sets(keyed)), totals))
    }

    /// The expressions over an event that the grouping needs.
    pub(super) fn expressions(&self) -> Vec<Expr> {
        match self {
            Self::Keys(keys) => keys.clone(),
            Self::Sets(sets) => distinct(sets),
            Self::Sessions { window, keys } => keys.iter().chain([window]).cloned().collect(),
        }
    }

    /// The same grouping over a relation that has its [expressions](Self::expressions) as `g0, g1, …`.
    pub(super) fn over_expressions(&self) -> Self {
        let columns = |n| (0..n).map(group).collect();
        match self {
            Self::Keys(keys) => Self::Keys(columns(keys.len())),
            Self::Sets(sets) => {
                let all = distinct(sets);
                let column = |e: &Expr| all.iter().position(|known| known == e).map(group);
                Self::Sets(sets.iter().map(|set| set.iter().filter_map(column).collect()).collect())
            }
            Self::Sessions { keys, .. } => {
                Self::Sessions { window: group(keys.len()), keys: columns(keys.len()) }
            }
        }
    }

    /// The relation that has each value once in each group, with calls over its rows and how to put these together:
    /// columns `g0, …`, `y` and the names of the calls.
    pub(super) fn values(&self, input: LogicalPlan, value: &Expr, calls: Vec<Pair>) -> Result<LogicalPlan> {
        let of_rows = calls.iter().map(|call| (call.of_rows.clone(), call.name.clone())).collect();
        let values = self.aggregate(input, Some(value), of_rows)?;
        let Self::Sessions { keys, .. } = self else { return Ok(values) };
        // A session may hold several sessions of the value alone.
        let together = calls.into_iter().map(|call| (call.together.call(vec![col(&call.name)]), call.name));
        let (together, names): (Vec<Expr>, Vec<String>) = together.unzip();
        let (window, columns) = (group(keys.len()), (0..keys.len()).map(group).collect());
        let node = SessionAggregate::try_new(values, window, columns, vec![col(VALUE)], together)?;
        let names = (0..=keys.len()).map(|i| format!("g{i}")).chain([VALUE.to_string()]).chain(names);
        renamed(LogicalPlan::Extension(Extension { node: Arc::new(node) }), names)
    }

    /// By the key of such a relation.
    pub(super) fn of_values(&self) -> Self {
        Self::Keys((0..self.keys()).map(group).collect())
    }

    /// The aggregate by this grouping, and by one more key.
    pub(super) fn aggregate(
        &self,
        input: LogicalPlan,
        more: Option<&Expr>,
        calls: Vec<(Expr, String)>,
    ) -> Result<LogicalPlan> {
        let more = more.map(|expr| expr.clone().alias(VALUE));
        match self {
            Self::Keys(keys) => {
                let groups =
                    keys.iter().enumerate().map(|(i, e)| e.clone().alias(format!("g{i}"))).chain(more);
                Ok(LogicalPlanBuilder::from(input)
                    .aggregate(groups.collect::<Vec<_>>(), named(calls))?
                    .build()?)
            }
            Self::Sets(sets) => by_sets(input, sets, more, calls),
            Self::Sessions { window, keys } => by_sessions(input, window, keys, more, calls),
        }
    }
}

/// The n-th column of the key.
pub(super) fn group(i: usize) -> Expr {
    col(format!("g{i}"))
}

fn named(calls: Vec<(Expr, String)>) -> Vec<Expr> {
    calls.into_iter().map(|(call, name)| call.alias(name)).collect()
}

/// The expressions of all sets, each once, in the order in which the engine gives them.
fn distinct(sets: &[Vec<Expr>]) -> Vec<Expr> {
    let mut all: Vec<Expr> = Vec::new();
    for expr in sets.iter().flatten() {
        if !all.contains(expr) {
            all.push(expr.clone());
        }
    }
    all
}

fn subsets(keys: &[Expr]) -> Vec<Vec<Expr>> {
    let subset = |bits: usize| {
        let kept = keys.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        kept.map(|(_, key)| key.clone()).collect()
    };
    (0..1 << keys.len()).map(subset).collect()
}

fn by_sets(
    input: LogicalPlan,
    sets: &[Vec<Expr>],
    more: Option<Expr>,
    calls: Vec<(Expr, String)>,
) -> Result<LogicalPlan> {
    let keys = distinct(sets).len();
    let width = usize::from(more.is_some());
    let plain = Aggregate::try_new(
        Arc::new(input.clone()),
        vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets.to_vec()))],
        vec![],
    )?;
    // First, so that the number of a set has one bit more, which is never set, above those of the keys.
    let sets = sets.iter().map(|set| more.iter().chain(set).cloned().collect()).collect();
    let names: Vec<String> = calls.iter().map(|(_, name)| name.clone()).collect();
    let groups = vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))];
    let aggregate = Aggregate::try_new(Arc::new(input), groups, named(calls))?;
    let wanted = plain.schema.field(keys).data_type().clone();
    let all = columns(&aggregate.schema);
    let id = match width {
        0 => all[keys].clone(),
        _ => without_bit(all[keys + 1].clone(), keys, wanted),
    };
    let groups = (0..keys).map(|i| all[width + i].clone().alias(format!("g{i}")));
    let more = more.map(|_| all[0].clone().alias(VALUE));
    let calls = all[keys + width + 1..].iter().zip(names).map(|(call, name)| call.clone().alias(name));
    let columns = groups.chain([id.alias(format!("g{keys}"))]).chain(more).chain(calls);
    Ok(LogicalPlanBuilder::from(LogicalPlan::Aggregate(aggregate)).project(columns)?.build()?)
}

/// The number of a grouping set without the bit at this place: the bits below it say which keys are left out, those
/// above it count sets that are the same.
fn without_bit(id: Expr, place: usize, wanted: DataType) -> Expr {
    let id = cast(id, DataType::UInt64);
    let below = lit(1u64 << place);
    let low = id.clone() % below.clone();
    let high = id / lit(1u64 << (place + 1));
    cast(high * below + low, wanted)
}

fn by_sessions(
    input: LogicalPlan,
    window: &Expr,
    keys: &[Expr],
    more: Option<Expr>,
    calls: Vec<(Expr, String)>,
) -> Result<LogicalPlan> {
    let by = keys.iter().cloned().chain(more.clone()).collect();
    let (calls, names): (Vec<Expr>, Vec<String>) = calls.into_iter().unzip();
    let node = SessionAggregate::try_new(input, window.clone(), by, vec![], calls)?;
    let keys = (0..keys.len()).map(|i| format!("g{i}"));
    let window = format!("g{}", keys.len());
    let names = keys.chain(more.map(|_| VALUE.to_string())).chain([window]).chain(names);
    renamed(LogicalPlan::Extension(Extension { node: Arc::new(node) }), names)
}

/// The columns of `plan` under these names.
fn renamed(plan: LogicalPlan, names: impl Iterator<Item = String>) -> Result<LogicalPlan> {
    let columns = columns(plan.schema()).into_iter().zip(names).map(|(column, name)| column.alias(name));
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}
