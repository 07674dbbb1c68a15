//! Cutting a plan into fold, merge and finish.
//!
//! The plan is cut at its lowest aggregates over streams. Below a cut stand only *per-event* operators:
//!
//! ```text
//! op(A + B) = op(A) + op(B)        for any two sets of events A and B
//! ```
//!
//! so that folding sets of events one by one and merging the states is the same as aggregating them all. What no
//! aggregate covers, or none whose states merge exactly, is cut off as it is: its state is the columns that the
//! query needs, keyed by (partition, offset), and the rest of the plan runs in finish. So every deterministic plan
//! can be cut; what differs is how much state it keeps, which [`Kind`] tells.

use crate::calls::{calls, finished, merged, names, narrowed, states};
use crate::error::{Error, Result};
use crate::expr::{columns, unalias};
use crate::meaning::meaning;
use crate::place::{carry_place, row_by_row};
use crate::scan::{Source, Unbound, sources};
use crate::shape::{Shape, reads_outside, shape};
use crate::stream::{OFFSET, PARTITION};
use crate::window_key::{WindowKey, window_keys};
use crate::windowed::session::{SessionAggregate, as_session, as_windows, sessions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::logical_plan::{Aggregate, Join, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col};
use std::sync::Arc;

/// One cut of a view: the fold below it and the merge of its states.
#[derive(Debug, Clone)]
pub struct Cut {
    kind: Kind,
    fold: LogicalPlan,
    schema: SchemaRef,
    keys: usize,
    /// Whether a row is the key of a group, and nothing else.
    is_keys: bool,
    streams: Vec<String>,
    meanings: Vec<String>,
}

/// What the state of a cut is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Kind {
    /// A partial aggregate: one row for each key.
    Aggregate {
        /// states → state, over an unbound scan of states.
        merge: Box<LogicalPlan>,
        /// states → values, over the same: a column for each of the state's, the calls' totals as they are before they
        /// are fitted to the types of the query.
        values: Box<LogicalPlan>,
    },
    /// The columns that the query needs, one row for each event: `k0` its partition, `k1` its offset.
    Append,
}

impl Kind {
    fn aggregate(merge: LogicalPlan, values: LogicalPlan) -> Self {
        Kind::Aggregate { merge: Box::new(merge), values: Box::new(values) }
    }
}

impl Cut {
    /// What the state is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// events → state, over unbound scans of streams.
    pub fn fold_plan(&self) -> &LogicalPlan {
        &self.fold
    }

    /// The columns of the state: `k0, k1, …`, then one for each aggregate (`s0, s1, …`) or needed column
    /// (`v0, v1, …`).
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What each column of the state is in terms of the query, for people.
    pub fn meanings(&self) -> &[String] {
        &self.meanings
    }

    /// Whether states are merged by putting their rows together, those of one key being equal.
    pub(crate) fn merges_by_union(&self) -> bool {
        // Sessions without calls are keys too, but those that overlap become one.
        matches!(self.kind, Kind::Append) || self.is_keys
    }

    /// How many columns are the key.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The streams whose events are folded here, each once.
    pub fn streams(&self) -> &[String] {
        &self.streams
    }
}

/// The cuts of a plan, and what is left above them.
pub(crate) struct CutPlan {
    pub(crate) cuts: Vec<Cut>,
    /// The plan over unbound scans of the cuts' states.
    pub(crate) finish: LogicalPlan,
    /// Why cuts are append-only where an aggregate stands above them.
    pub(crate) notes: Vec<String>,
    /// The windows of time that events are grouped by.
    pub(crate) windows: Vec<WindowKey>,
}

/// Cuts the plan of a view. `state` names the source of the state of the n-th cut.
pub(crate) fn cut(view: &str, plan: LogicalPlan, state: impl Fn(usize) -> Source) -> Result<CutPlan> {
    let mut cutter = Cutter { view, state, cuts: Vec::new(), notes: Vec::new(), windows: Vec::new() };
    let finish = cutter.cut(plan)?;
    let Cutter { cuts, notes, windows, .. } = cutter;
    Ok(CutPlan { cuts, finish, notes, windows })
}

struct Cutter<'a, F> {
    view: &'a str,
    state: F,
    cuts: Vec<Cut>,
    notes: Vec<String>,
    windows: Vec<WindowKey>,
}

impl<F: Fn(usize) -> Source> Cutter<'_, F> {
    fn cut(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if sources(&plan)?.is_empty() {
            return Ok(plan);
        }
        if let LogicalPlan::Aggregate(aggregate) = &plan
            && shape(&aggregate.input)? == Shape::PerEvent
            && !reads_outside(&plan)?
        {
            match self.cut_aggregate(aggregate)? {
                Ok(finish) => return Ok(finish),
                Err(reason) => self.notes.push(reason),
            }
        }
        if let Some(node) = as_session(&plan)
            && node.within.is_empty()
            && shape(&node.input)? == Shape::PerEvent
            && !reads_outside(&plan)?
        {
            match self.cut_session(node)? {
                Ok(finish) => return Ok(finish),
                Err(reason) => self.notes.push(reason),
            }
        }
        if row_by_row(&plan)? {
            return self.cut_append(plan);
        }
        let plan = plan.map_children(|child| Ok(Transformed::yes(self.cut(child)?)))?.data;
        Ok(plan.map_subqueries(|subquery| Ok(Transformed::yes(self.cut(subquery)?)))?.data)
    }

    /// Cuts at an aggregate over per-event input, or says why its states cannot be merged exactly.
    fn cut_aggregate(&mut self, aggregate: &Aggregate) -> Result<Result<LogicalPlan, String>> {
        self.add_windows(&aggregate.group_expr, &aggregate.input)?;
        let calls = match calls(&aggregate.aggr_expr, aggregate.input.schema())? {
            Ok(calls) => calls,
            Err(reason) => return Ok(Err(reason)),
        };
        let keys = aggregate.schema.fields().len() - calls.len();
        let input = Arc::new(tables_first(aggregate.input.as_ref().clone())?);
        let fold = Aggregate::try_new(input, aggregate.group_expr.clone(), states(&calls))?;
        let fold = state_columns(LogicalPlan::Aggregate(fold), keys)?;

        let key_columns = state_keys(keys);
        let merge = self.scan_state(&fold)?.aggregate(key_columns.clone(), merged(&calls))?.build()?;
        let merge = state_columns(merge, keys)?;
        let finish = self.scan_state(&fold)?.aggregate(key_columns, finished(&calls))?.build()?;
        let values = state_columns(finish.clone(), keys)?;
        let finish =
            renamed(narrowed(finish, &calls, self.view, &names(&aggregate.group_expr))?, &aggregate.schema)?;
        let meanings = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).map(meaning).collect();
        let is_keys = calls.is_empty() && keys > 0;
        self.push(Kind::aggregate(merge, values), fold, keys, is_keys, meanings)?;
        Ok(Ok(finish))
    }

    /// Cuts at sessions of per-event input: the keys of the state are theirs, then start and end of each session.
    fn cut_session(&mut self, node: &SessionAggregate) -> Result<Result<LogicalPlan, String>> {
        self.add_windows(std::slice::from_ref(&node.window), &node.input)?;
        let calls = match calls(&node.calls, node.input.schema())? {
            Ok(calls) => calls,
            Err(reason) => return Ok(Err(reason)),
        };
        let keys = node.keys.len();
        let interval = ["start", "end"].map(|bound| get_field(node.window.clone(), bound));
        let input = tables_first(node.input.clone())?;
        let fold = state_columns(sessions(input, &node.keys, interval, &[], &states(&calls))?, keys + 2)?;

        let key_columns = state_keys(keys);
        let interval = || [col(format!("k{keys}")), col(format!("k{}", keys + 1))];
        let merge =
            sessions(self.scan_state(&fold)?.build()?, &key_columns, interval(), &[], &merged(&calls))?;
        let merge = state_columns(merge, keys + 2)?;
        let finish =
            sessions(self.scan_state(&fold)?.build()?, &key_columns, interval(), &[], &finished(&calls))?;
        let values = state_columns(finish.clone(), keys + 2)?;
        let finish =
            narrowed(as_windows(finish)?, &calls, self.view, &names(node.keys.iter().chain([&node.window])))?;
        let finish = renamed(finish, &node.schema)?;
        let window = meaning(&node.window).replacen("event_session", "session", 1);
        let window = ["start", "end"].map(|bound| format!("{bound} of {window}"));
        let keyed = node.keys.iter().map(meaning).chain(window);
        let meanings = keyed.chain(node.calls.iter().map(meaning)).collect();
        self.push(Kind::aggregate(merge, values), fold, keys + 2, false, meanings)?;
        Ok(Ok(finish))
    }

    fn add_windows(&mut self, keys: &[Expr], input: &LogicalPlan) -> Result<()> {
        for window in window_keys(keys, input)? {
            if !self.windows.contains(&window) {
                self.windows.push(window);
            }
        }
        Ok(())
    }

    /// Which cut folds so: the next one, unless there is one already.
    fn number(&self, fold: &LogicalPlan) -> usize {
        self.cuts.iter().position(|cut| cut.fold == *fold).unwrap_or(self.cuts.len())
    }

    /// A scan of the state that a cut with this fold keeps.
    fn scan_state(&self, fold: &LogicalPlan) -> Result<LogicalPlanBuilder> {
        let n = self.number(fold);
        let table = Arc::new(Unbound::new((self.state)(n), plain_schema(fold.schema())));
        let name = TableReference::bare(format!("state{n}"));
        Ok(LogicalPlanBuilder::scan(name, provider_as_source(table), None)?)
    }

    /// Cuts at row-by-row operators over one stream: the rows themselves are the state.
    fn cut_append(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let schema = Arc::clone(plan.schema());
        let columns = columns(&schema);
        let meanings = match &plan {
            LogicalPlan::Projection(projection) => {
                let column = |expr: &Expr| match unalias(expr) {
                    Expr::Column(column) => column.name.clone(),
                    other => meaning(other),
                };
                projection.expr.iter().map(column).collect()
            }
            _ => schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>(),
        };
        let meanings = [PARTITION, OFFSET].map(String::from).into_iter().chain(meanings).collect();
        let (carried, place) = carry_place(plan)?;
        let [partition, offset] = place.as_slice() else {
            return Err(Error::Internal("rows of one stream have another place than its own".into()));
        };
        let (partition, offset) = (partition.clone(), offset.clone());
        let named = [partition.alias("k0"), offset.alias("k1")]
            .into_iter()
            .chain(columns.into_iter().enumerate().map(|(i, c)| c.alias(format!("v{i}"))));
        let fold = LogicalPlanBuilder::from(carried).project(named)?.build()?;

        let finish = self
            .scan_state(&fold)?
            .project((0..schema.fields().len()).map(|i| col(format!("v{i}"))))?
            .build()?;
        let finish = renamed(finish, &schema)?;
        self.push(Kind::Append, fold, 2, false, meanings)?;
        Ok(finish)
    }

    fn push(
        &mut self,
        kind: Kind,
        fold: LogicalPlan,
        keys: usize,
        is_keys: bool,
        meanings: Vec<String>,
    ) -> Result<()> {
        if self.number(&fold) < self.cuts.len() {
            return Ok(());
        }
        let schema = plain_schema(fold.schema());
        let streams = sources(&fold)?
            .into_iter()
            .filter_map(|source| if let Source::Stream(name) = source { Some(name) } else { None })
            .collect();
        self.cuts.push(Cut { kind, fold, schema, keys, is_keys, streams, meanings });
        Ok(())
    }
}

/// `k0, k1, …`
fn state_keys(keys: usize) -> Vec<Expr> {
    (0..keys).map(|i| col(format!("k{i}"))).collect()
}

/// The columns of `plan`, of which the first are keys, under the names of a state's.
fn state_columns(plan: LogicalPlan, keys: usize) -> Result<LogicalPlan> {
    let named = columns(plan.schema())
        .into_iter()
        .enumerate()
        .map(|(i, column)| column.alias(if i < keys { format!("k{i}") } else { format!("s{}", i - keys) }));
    let named: Vec<Expr> = named.collect();
    Ok(LogicalPlanBuilder::from(plan).project(named)?.build()?)
}

/// The columns of a plan without qualifiers and metadata.
fn plain_schema(schema: &DFSchema) -> SchemaRef {
    let field = |f: &Arc<Field>| Field::new(f.name(), f.data_type().clone(), f.is_nullable());
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// `plan` with the column names and qualifiers of `schema`, by position.
fn renamed(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let names = (0..schema.fields().len()).map(|i| {
        let (qualifier, field) = schema.qualified_field(i);
        let column = Expr::Column(Column::from(plan.schema().qualified_field(i)));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    let names = names.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(names, Arc::new(plan))?))
}

/// `plan` with the static side of each join first: it is the build side, which the engine reads whole, while events
/// stream past it.
fn tables_first(plan: LogicalPlan) -> Result<LogicalPlan> {
    let swapped = plan.transform_up(|plan| {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        if join.null_aware || shape(&join.left)? != Shape::PerEvent || shape(&join.right)? != Shape::Static {
            return Ok(Transformed::no(plan));
        }
        let columns = columns(&join.schema);
        let on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
        let swapped = Join::try_new(
            Arc::clone(&join.right),
            Arc::clone(&join.left),
            on,
            join.filter.clone(),
            join.join_type.swap(),
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let ordered = Projection::try_new(columns, Arc::new(LogicalPlan::Join(swapped)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(ordered)))
    })?;
    Ok(swapped.data)
}
