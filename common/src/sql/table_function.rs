//! Windows in `FROM`: a relation with the window of each row beside its columns.
//!
//! Two spellings: `tumble(relation, ts, size)`, as RisingWave has it, and `TUMBLE(TABLE relation,
//! DESCRIPTOR(ts), size)`, as Flink has it, whose arguments may be named, and which may stand in `TABLE(…)`.
//! The second gives a column `window_time` too, the last millisecond of the window, which may be the time of
//! another window.

use super::words::{PARTITION_BY, WINDOWS};
use super::{is, read};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, ObjectNamePart, TableFactor,
};
use datafusion::sql::sqlparser::parser::Parser;

/// The column that a window stands in before it is taken apart.
const WINDOW: &str = "__window";

/// Rewrites a window function into a subquery; leaves all other relations as they are.
pub(super) fn rewrite(factor: &mut TableFactor) -> Result<(), String> {
    let (name, arguments, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => (&*name, args.args.as_slice(), alias),
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => match arguments(function) {
            Some(arguments) => (&function.name, arguments, alias),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let Some(name) = window_name(name) else { return Ok(()) };
    let call = Call::new(name, arguments)?;
    let mut subquery = read(&call.subquery(), |parser: &mut Parser| parser.parse_table_factor())?;
    if let TableFactor::Derived { alias: unnamed, .. } = &mut subquery {
        *unnamed = alias.take();
    }
    *factor = subquery;
    Ok(())
}

fn window_name(name: &ObjectName) -> Option<&'static str> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    WINDOWS.into_iter().find(|name| is(ident, name))
}

/// The arguments of a plain call.
pub(super) fn arguments(function: &Function) -> Option<&[FunctionArg]> {
    match &function.args {
        FunctionArguments::List(list)
            if list.clauses.is_empty()
                && list.duplicate_treatment.is_none()
                && function.over.is_none()
                && function.filter.is_none() =>
        {
            Some(&list.args)
        }
        _ => None,
    }
}

/// A window function in `FROM`, its arguments as SQL.
struct Call {
    name: &'static str,
    relation: String,
    time: String,
    lengths: Vec<String>,
    partition: Vec<String>,
    /// Whether the time is named as Flink names it.
    descriptor: bool,
}

impl Call {
    fn new(name: &'static str, arguments: &[FunctionArg]) -> Result<Self, String> {
        let (partition, arguments): (Vec<_>, Vec<_>) =
            arguments.iter().partition(|argument| unnamed(argument).is_some_and(is_partition));
        let partition = match (name, partition.as_slice()) {
            (_, []) => Vec::new(),
            ("session", [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function)))]) => {
                texts(function)
            }
            ("session", _) => return Err("session has one PARTITION BY".into()),
            _ => {
                return Err(format!("{name} has no PARTITION BY: group by the columns beside window_start"));
            }
        };
        let positions = positions(name, &arguments)?;
        let [Some(relation), Some(time), lengths @ ..] = positions.as_slice() else {
            return Err(usage(name));
        };
        let least = if matches!(name, "tumble" | "session") { 1 } else { 2 };
        if lengths.iter().take(least).any(Option::is_none) || lengths.len() < least {
            return Err(usage(name));
        }
        let descriptor = descriptor(time)?;
        Ok(Self {
            name,
            relation: relation_sql(name, relation)?,
            time: descriptor.clone().unwrap_or_else(|| time.to_string()),
            lengths: lengths.iter().flatten().map(|length| length.to_string()).collect(),
            partition,
            descriptor: descriptor.is_some(),
        })
    }

    fn subquery(&self) -> String {
        let Call { name, relation, time, .. } = self;
        let arguments = self.lengths.iter().chain(&self.partition).fold(time.clone(), |a, b| a + ", " + b);
        let window_time = if self.descriptor {
            format!(", get_field({WINDOW}, 'end') - INTERVAL '1 millisecond' AS window_time")
        } else {
            String::new()
        };
        format!(
            "(SELECT * EXCLUDE ({WINDOW}), get_field({WINDOW}, 'start') AS window_start, \
             get_field({WINDOW}, 'end') AS window_end{window_time} \
             FROM (SELECT *, {name}({arguments}) AS {WINDOW} FROM {relation}))"
        )
    }
}

/// The parameters of a function, by position.
fn parameters(name: &str) -> &'static [&'static str] {
    match name {
        "tumble" => &["data", "timecol", "size", "offset"],
        "hop" => &["data", "timecol", "slide", "size", "offset"],
        "cumulate" => &["data", "timecol", "step", "size", "offset"],
        _ => &["data", "timecol", "gap"],
    }
}

fn usage(name: &str) -> String {
    let lengths = match name {
        "tumble" => "size [, offset]",
        "hop" => "slide, size [, offset]",
        "cumulate" => "step, size [, offset]",
        _ => "gap",
    };
    let partition = if name == "session" { " [PARTITION BY (key, ...)]" } else { "" };
    format!(
        "expected {name}(relation, time, {lengths}) or {}(TABLE relation{partition}, DESCRIPTOR(time), {lengths})",
        name.to_ascii_uppercase()
    )
}

/// The argument of each parameter, given by position or by name.
fn positions<'a>(name: &str, arguments: &[&'a FunctionArg]) -> Result<Vec<Option<&'a Expr>>, String> {
    let parameters = parameters(name);
    let mut positions = vec![None; parameters.len()];
    for (i, argument) in arguments.iter().enumerate() {
        let (position, value) = match argument {
            FunctionArg::Unnamed(value) => (Some(i), value),
            FunctionArg::Named { name, arg, .. } => (parameters.iter().position(|p| is(name, p)), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                (parameters.iter().position(|p| is(name, p)), arg)
            }
            FunctionArg::ExprNamed { arg, .. } => (None, arg),
        };
        match (position.and_then(|position| positions.get_mut(position)), value) {
            (Some(free @ None), FunctionArgExpr::Expr(expr)) => *free = Some(expr),
            _ => return Err(format!("{}, found {argument}", usage(name))),
        }
    }
    Ok(positions)
}

fn unnamed(argument: &FunctionArg) -> Option<&Function> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function))) => Some(function),
        _ => None,
    }
}

fn is_call(function: &Function, name: &str) -> bool {
    matches!(function.name.0.as_slice(), [ObjectNamePart::Identifier(ident)] if is(ident, name))
}

fn is_partition(function: &Function) -> bool {
    is_call(function, PARTITION_BY)
}

fn texts(function: &Function) -> Vec<String> {
    arguments(function).unwrap_or_default().iter().map(|argument| argument.to_string()).collect()
}

/// The column of `DESCRIPTOR(column)`, if the expression is that.
fn descriptor(time: &Expr) -> Result<Option<String>, String> {
    let Expr::Function(function) = time else { return Ok(None) };
    if !is_call(function, "descriptor") {
        return Ok(None);
    }
    match arguments(function) {
        Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(column))]) => Ok(Some(column.to_string())),
        _ => Err(format!("expected DESCRIPTOR(column), found {time}")),
    }
}

/// What the windows are put beside, as it stands in `FROM`.
fn relation_sql(name: &str, relation: &Expr) -> Result<String, String> {
    match relation {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Subquery(_) => Ok(relation.to_string()),
        other => Err(format!("{name}: expected a stream, table, view or query, found {other}")),
    }
}
