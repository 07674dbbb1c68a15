//! Functions of the user's own, written in Rust: the one registry that batch, speed and serving share.
//!
//! A function has a version: a number that the user raises when the function gives other values or keeps other
//! states. It is part of the fingerprint of each view that uses the function, so that
//!
//! ```text
//! same name, same version  =  same meaning
//! ```
//!
//! and a raised version builds those views anew. What cannot be checked is promised by whoever registers a function:
//! that it gives the same value for the same arguments wherever and whenever it runs (or is registered as volatile,
//! and so refused in maintained views), that a table function gives the same rows for the same arguments, and what
//! [`Merging`] says of an aggregate.

mod aggregate;
mod table;

use crate::engine;
use crate::error::{Error, Result};
use aggregate::Promised;
pub(crate) use aggregate::merging;
use datafusion::catalog::TableFunctionImpl;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, ScalarUDF, WindowFunctionDefinition};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{self, SelectItem, SetExpr, Statement, TableFactor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};
pub(crate) use table::record_calls;

/// Whether the states of an aggregate may be merged in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Merging {
    /// The same events give the same value and the same bytes of state, however they are cut and in whatever order
    /// they come and their states are merged. A view keeps one small state for each group.
    AnyOrder,
    /// The value depends on the order of the events. A view keeps the events, and the function gets them at query
    /// time in the order of (partition, offset).
    InOrder,
}

/// Functions of the user's own, by name.
///
/// Each name, aliases included, is there once, is not that of a function of the engine or of Twofold, and is written
/// as SQL finds it: in lower case.
#[derive(Clone, Default)]
pub struct Functions {
    registered: BTreeMap<String, Registered>,
    /// The names that each function has besides.
    aliases: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Registered {
    version: u32,
    function: Function,
}

#[derive(Clone)]
enum Function {
    Scalar(Arc<ScalarUDF>),
    Aggregate(Arc<AggregateUDF>),
    Table(Arc<dyn TableFunctionImpl>),
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.registered.iter().map(|(name, r)| (name, r.version))).finish()
    }
}

impl Functions {
    /// No functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a scalar function. One that is not immutable is refused in maintained views.
    ///
    /// # Errors
    /// `Invalid` if one of its names is taken, or SQL does not find it.
    pub fn scalar(&mut self, function: ScalarUDF, version: u32) -> Result<&mut Self> {
        let (name, aliases) = (function.name().to_string(), function.aliases().to_vec());
        self.register(name, aliases, version, Function::Scalar(Arc::new(function)))
    }

    /// Registers an aggregate function, with the promise of how its states merge.
    ///
    /// # Errors
    /// `Invalid` if one of its names is taken, or SQL does not find it.
    pub fn aggregate(&mut self, function: AggregateUDF, version: u32, merging: Merging) -> Result<&mut Self> {
        let (name, aliases) = (function.name().to_string(), function.aliases().to_vec());
        let function = AggregateUDF::from(Promised::new(function, merging));
        self.register(name, aliases, version, Function::Aggregate(Arc::new(function)))
    }

    /// Registers a table function: `SELECT … FROM name(arguments)`. The arguments are constants.
    ///
    /// # Errors
    /// `Invalid` if its name is taken, or SQL does not find it.
    pub fn table(
        &mut self,
        name: impl Into<String>,
        function: Arc<dyn TableFunctionImpl>,
        version: u32,
    ) -> Result<&mut Self> {
        self.register(name.into(), Vec::new(), version, Function::Table(function))
    }

    /// The version of a function, by any of its names.
    pub fn version(&self, name: &str) -> Option<u32> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.registered.get(name).map(|r| r.version)
    }

    fn register(
        &mut self,
        name: String,
        aliases: Vec<String>,
        version: u32,
        function: Function,
    ) -> Result<&mut Self> {
        let mut names = BTreeSet::new();
        for name in std::iter::once(&name).chain(&aliases) {
            check_name(name)?;
            if self.version(name).is_some() || !names.insert(name) {
                return Err(Error::Invalid(format!(
                    "function {name} is registered twice: give one of them another name"
                )));
            }
        }
        self.aliases.extend(aliases.into_iter().map(|alias| (alias, name.clone())));
        self.registered.insert(name, Registered { version, function });
        Ok(self)
    }

    /// Makes the functions known to a session.
    pub(crate) fn install(&self, session: &SessionContext) {
        for (name, registered) in &self.registered {
            match &registered.function {
                Function::Scalar(f) => session.register_udf(f.as_ref().clone()),
                Function::Aggregate(f) => session.register_udaf(f.as_ref().clone()),
                Function::Table(f) => session.register_udtf(name, Arc::clone(f)),
            }
        }
    }
}

/// What a plan's meaning owes to functions of the user's own and to table functions, for its fingerprint: a line for
/// each function with its version, and one for each call of a table function with its arguments.
pub(crate) fn used(state: &SessionState, plan: &LogicalPlan) -> Result<String> {
    let functions = state.config().get_extension::<Functions>().unwrap_or_default();
    let mut lines = BTreeSet::new();
    let line = |name: &str| functions.version(name).map(|version| format!("function {name} {version}\n"));
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(call) = table::call_of(scan)
        {
            lines.extend(line(&call.function));
            lines.insert(format!("table function {}\n", call.text));
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                lines.extend(called(expr).and_then(line));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(lines.into_iter().collect())
}

/// The name of the function that an expression calls.
fn called(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(call) => Some(call.func.name()),
        Expr::AggregateFunction(call) => Some(call.func.name()),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(f) => Some(f.name()),
            WindowFunctionDefinition::WindowUDF(_) => None,
        },
        _ => None,
    }
}

/// The names of the engine's functions, and of ours.
static TAKEN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let state = engine::state(&engine::session());
    let names = (state.scalar_functions().keys()).chain(state.aggregate_functions().keys());
    let names = names.chain(state.window_functions().keys()).chain(state.table_functions().keys());
    names.chain(state.higher_order_functions().keys()).cloned().collect()
});

fn check_name(name: &str) -> Result<()> {
    let refuse = |reason: String| Err(Error::Invalid(format!("function `{name}`: {reason}")));
    let lower = name.to_ascii_lowercase();
    if lower != name {
        return refuse(format!("SQL reads names in lower case, and would not find it: call it `{lower}`"));
    }
    if TAKEN.contains(name) {
        return refuse("the engine has a function of this name: choose another one".into());
    }
    if !is_call(name) {
        return refuse(
            "SQL does not read it as the name of a function: choose letters, digits and `_`".into(),
        );
    }
    Ok(())
}

/// Whether SQL reads `name(1)` as a call, among expressions and among relations.
fn is_call(name: &str) -> bool {
    let sql = format!("SELECT {name}(1) FROM {name}(1)");
    let statements = Parser::parse_sql(&GenericDialect {}, &sql).unwrap_or_default();
    let [Statement::Query(query)] = statements.as_slice() else { return false };
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let scalar = matches!(select.projection.as_slice(),
        [SelectItem::UnnamedExpr(ast::Expr::Function(f))] if is_ident(&f.name, name));
    let table = matches!(select.from.as_slice(),
        [from] if matches!(&from.relation, TableFactor::Table { name: n, args: Some(_), .. } if is_ident(n, name)));
    scalar && table
}

/// Whether the parser read the one identifier `name`.
fn is_ident(found: &ast::ObjectName, name: &str) -> bool {
    matches!(found.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| ident.value == name))
}

#[cfg(test)]
mod tests;
