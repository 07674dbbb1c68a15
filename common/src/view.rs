//! A view: its query as fold, merge and finish, and its fingerprint.

use crate::Digest;
use crate::aggregate;
use crate::cut::{Cut, Kind as CutKind, cut};
use crate::engine;
use crate::error::{Error, Result};
use crate::first_row::first_rows;
use crate::functions;
use crate::row_key::state_key;
use crate::scan::{Source, source_of, sources};
use crate::split::split_aggregates;
use crate::state::STATE_FORMAT;
use crate::window_key::WindowKey;
use crate::windowed;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::prelude::SessionContext;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A maintained query.
#[derive(Debug, Clone)]
pub struct View {
    name: String,
    sql: String,
    fingerprint: Digest,
    cuts: Vec<Cut>,
    finish: LogicalPlan,
    notes: Vec<String>,
    windows: Vec<WindowKey>,
}

impl View {
    /// Derives fold, merge and finish from an analyzed plan over unbound streams.
    ///
    /// `table_digest` gives the digest of a table's content.
    ///
    /// # Errors
    /// `Invalid` if the query cannot be the same in both layers; the error names the function and the alternative.
    pub fn try_new(
        session: &SessionContext,
        name: &str,
        sql: &str,
        analyzed: LogicalPlan,
        table_digest: impl Fn(&str) -> Option<Digest>,
    ) -> Result<Self> {
        refuse_volatile(name, &analyzed)?;
        aggregate::refuse_impossible_calls(name, &analyzed)?;
        if sources(&analyzed)?.is_empty() {
            return Err(Error::Invalid(format!(
                "view {name} reads no stream, so there is nothing to maintain: make it CREATE VIEW {name}"
            )));
        }
        let prepared = prepare(session, windowed::rewrite(name, analyzed.clone())?)?;
        let used = functions::used(&engine::timeless_state(session), &analyzed)?;
        let fingerprint = fingerprint(name, &analyzed, &prepared, &used, table_digest)?;
        let state = |cut| Source::State { view: name.to_string(), fingerprint, cut };
        let plan = cut(name, prepared, state)?;
        let advice = advice(&plan.finish, &plan.cuts)?;
        Ok(Self {
            name: name.to_string(),
            sql: sql.to_string(),
            fingerprint,
            cuts: plan.cuts,
            notes: plan.notes.into_iter().chain(advice).collect(),
            finish: windowed::session::write_out(plan.finish)?,
            windows: plan.windows,
        })
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The view's query as SQL.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The hash of all that the view's states mean. Same fingerprint, same meaning.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The view's cuts, each with its own state.
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// state → rows, over unbound scans of the cuts' states.
    pub fn finish_plan(&self) -> &LogicalPlan {
        &self.finish
    }

    /// The columns of the view's rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.finish.schema().inner())
    }

    /// For each key column of the state of the view's one cut, the position of the view's column that has it, if a row
    /// of the view comes of the states of one key alone; so that the row of a key needs no other states.
    pub fn state_key(&self) -> Option<Vec<usize>> {
        let mut scans = 0;
        let count = self.finish.apply_with_subqueries(|node| {
            scans += usize::from(matches!(node, LogicalPlan::TableScan(_)));
            Ok(TreeNodeRecursion::Continue)
        });
        let [cut] = self.cuts.as_slice() else { return None };
        let whole = count.is_ok() && scans == 1 && matches!(cut.kind(), CutKind::Aggregate { .. });
        state_key(&self.finish).filter(|key| whole && key.len() == cut.keys())
    }

    /// The windows of time by which the view groups.
    pub fn windows(&self) -> &[WindowKey] {
        &self.windows
    }

    /// What is worth knowing about the cuts: why one keeps every event, where an aggregate stands above it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The streams that the view reads, each once, in order of name.
    pub fn streams(&self) -> BTreeSet<String> {
        self.cuts.iter().flat_map(|cut| cut.streams().iter().cloned()).collect()
    }
}

/// What would be cheaper, where a query runs over all events that a cut keeps.
fn advice(finish: &LogicalPlan, cuts: &[Cut]) -> Result<Vec<String>> {
    let events = |plan: &LogicalPlan| -> Result<BTreeSet<String>> {
        let cuts = sources(plan)?.into_iter().filter_map(|source| match source {
            Source::State { cut, .. } => cuts.get(cut),
            _ => None,
        });
        let kept = cuts.filter(|cut| matches!(cut.kind(), CutKind::Append));
        Ok(kept.flat_map(|cut| cut.streams().iter().cloned()).collect())
    };
    let mut advice = BTreeSet::new();
    finish.apply_with_subqueries(|node| {
        let streams = events(node)?;
        let names = streams.iter().cloned().collect::<Vec<_>>().join(", ");
        match node {
            LogicalPlan::Join(join) if !events(&join.left)?.is_empty() && !events(&join.right)?.is_empty() => {
                advice.insert(format!(
                    "the join reads every event of {names} at query time: where an aggregate of one side will do, such \
                     as its count in a window, join that"
                ));
            }
            LogicalPlan::Window(_) if !streams.is_empty() => {
                advice.insert(format!(
                    "the window function reads every event of {names} at query time: where the first row of each group \
                     is wanted, WHERE row_number() = 1 or DISTINCT ON keeps one row for each"
                ));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(advice.into_iter().collect())
}

/// Refuses functions whose value depends on when or how often they are called.
fn refuse_volatile(view: &str, plan: &LogicalPlan) -> Result<()> {
    let mut found: Option<String> = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let volatile = match expr {
                    Expr::ScalarFunction(f) if f.func.signature().volatility != Volatility::Immutable => {
                        Some(f.func.name().to_string())
                    }
                    Expr::AggregateFunction(f) if f.func.signature().volatility != Volatility::Immutable => {
                        Some(f.func.name().to_string())
                    }
                    Expr::WindowFunction(f) if f.fun.signature().volatility != Volatility::Immutable => {
                        Some(f.fun.name().to_string())
                    }
                    Expr::ScalarVariable(_, names) => Some(names.join(".")),
                    _ => None,
                };
                if volatile.is_some() {
                    found = volatile;
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let Some(function) = found else { return Ok(()) };
    let instead = match function.as_str() {
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" => {
            "use _ingest_time, the time at which the event was taken in, or compare with now() in the query that \
             reads the view"
        }
        _ => "use a column of the event, or call it in the query that reads the view",
    };
    Err(Error::Invalid(format!(
        "view {view} calls {function}, whose value would differ between the batch and the speed layer: {instead}"
    )))
}

/// The rules that bring a plan into a form with small cuts: subqueries become joins, DISTINCT becomes GROUP BY,
/// filters and projections move down to the streams. None of them depends on data, settings or time.
const RULES: [&str; 9] = [
    "rewrite_set_comparison",
    "replace_distinct_aggregate",
    "decorrelate_predicate_subquery",
    "scalar_subquery_to_join",
    "decorrelate_lateral_join",
    "extract_equijoin_predicate",
    "eliminate_cross_join",
    "push_down_filter",
    "optimize_projections",
];

fn prepare(session: &SessionContext, analyzed: LogicalPlan) -> Result<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        Optimizer::new().rules.into_iter().filter(|rule| RULES.contains(&rule.name())).collect();
    debug_assert_eq!(rules.len(), RULES.len(), "the engine renamed a rule");
    let state = engine::state(session);
    let plan = Optimizer::with_rules(rules.clone()).optimize(analyzed, &state, |_, _| {})?;
    let plan = split_aggregates(first_rows(plan)?)?;
    // Once more, so that each of the relations that the rewrite made reads only the columns that it needs.
    Ok(Optimizer::with_rules(rules).optimize(plan, &state, |_, _| {})?)
}

fn fingerprint(
    name: &str,
    analyzed: &LogicalPlan,
    prepared: &LogicalPlan,
    used: &str,
    table_digest: impl Fn(&str) -> Option<Digest>,
) -> Result<Digest> {
    let mut text = format!("view {name} state {STATE_FORMAT}\n");
    text += &aggregate::versions(prepared)?;
    text += &format!("{}\n", analyzed.display_indent());
    text += &unprinted(analyzed)?;
    text += used;
    for field in analyzed.schema().fields() {
        text += &format!("column {} {} {}\n", field.name(), field.data_type(), field.is_nullable());
    }
    // Of a stream only what the view reads, so that a new column elsewhere changes nothing.
    let mut read: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    prepared.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = match source_of(scan) {
                Some(Source::Stream(name)) => format!("stream {name}"),
                _ => {
                    let name = scan.table_name.table();
                    let digest = table_digest(name).map(|d| d.to_string()).unwrap_or_default();
                    format!("table {name} {digest}")
                }
            };
            let fields = scan.projected_schema.fields().iter();
            let columns = fields.map(|f| format!("{} {} {}", f.name(), f.data_type(), f.is_nullable()));
            read.entry(name).or_default().extend(columns);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for (relation, columns) in read {
        text += &format!("{relation}: {}\n", columns.into_iter().collect::<Vec<_>>().join(", "));
    }
    Ok(Digest::of(text.as_bytes()))
}

/// What the text of a plan leaves out or cuts short, though it is part of the meaning: the values of constants (of
/// `VALUES` a text has the first five rows, of bytes the first ten), and how a join treats nulls.
fn unprinted(plan: &LogicalPlan) -> Result<String> {
    let mut text = String::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            text += &format!("join {:?} {}\n", join.null_equality, join.null_aware);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Literal(value, _) = expr {
                    let array = value.to_array()?;
                    let converter = RowConverter::new(vec![SortField::new(value.data_type())])?;
                    let row = converter.convert_columns(&[array])?;
                    text += &format!("{} {}\n", value.data_type(), Digest::of(row.row(0).data()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(text)
}
