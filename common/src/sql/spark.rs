//! Windows as Spark groups by them.
//!
//! `window(ts, '10 minutes')` tumbles, `window(ts, '10 minutes', '5 minutes')` hops, its size before its
//! slide, and `session_window(ts, '5 minutes')` is a session. Where a query groups by one, `window`
//! (`session_window`) is its name in the select list, in `HAVING` and in `ORDER BY`.

use super::table_function::arguments;
use super::{is, read};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, ObjectNamePart, OrderByKind, Query,
    SelectItem, SetExpr, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Rewrites a call of Spark's functions into one of ours.
pub(super) fn rewrite(expr: &mut Expr) -> Result<(), String> {
    let Some((_, call)) = window(expr)? else { return Ok(()) };
    *expr = call;
    Ok(())
}

/// The name of Spark's function, if the expression is a call of one, and the call of ours.
fn window(expr: &Expr) -> Result<Option<(&'static str, Expr)>, String> {
    let Expr::Function(function) = expr else { return Ok(None) };
    let Some((name, time, lengths)) = spark_call(function) else { return Ok(None) };
    let intervals = lengths.iter().map(|length| format!("INTERVAL '{}'", length.replace('\'', "''")));
    let intervals: Vec<String> = intervals.collect();
    let call = match (name, intervals.as_slice()) {
        ("session_window", [gap]) => format!("session({time}, {gap})"),
        ("window", [size]) => format!("tumble({time}, {size})"),
        ("window", [size, slide, offset @ ..]) if offset.len() < 2 => {
            let offset = offset.first().map(|offset| format!(", {offset}")).unwrap_or_default();
            match size == slide {
                true => format!("tumble({time}, {size}{offset})"),
                false => format!("hop({time}, {slide}, {size}{offset})"),
            }
        }
        ("window", _) => return Err("expected window(time, 'size' [, 'slide' [, 'offset']])".into()),
        _ => return Err("expected session_window(time, 'gap')".into()),
    };
    Ok(Some((name, read(&call, |parser: &mut Parser| parser.parse_expr())?)))
}

/// Name, time and lengths of a call with lengths in quotes.
fn spark_call(function: &Function) -> Option<(&'static str, &Expr, Vec<&str>)> {
    let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return None };
    let name = ["window", "session_window"].into_iter().find(|name| is(ident, name))?;
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(time)), lengths @ ..] = arguments(function)? else {
        return None;
    };
    let lengths = lengths.iter().map(|length| match length {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.as_str()),
            _ => None,
        },
        _ => None,
    });
    Some((name, time, lengths.collect::<Option<Vec<_>>>()?))
}

/// Puts the window that a query groups by in the place of its name.
pub(super) fn name_windows(query: &mut Query) -> Result<(), String> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return Ok(()) };
    let mut windows = Vec::new();
    for key in keys {
        windows.extend(window(key)?);
    }
    if windows.is_empty() {
        return Ok(());
    }
    let mut names = Names(windows);
    for item in &mut select.projection {
        names.name(item);
        let _ = item.visit(&mut names);
    }
    let _ = select.having.visit(&mut names);
    if let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|order| &mut order.kind) {
        let _ = keys.visit(&mut names);
    }
    Ok(())
}

/// Names, and the calls they stand for.
struct Names(Vec<(&'static str, Expr)>);

impl Names {
    /// Keeps the name that a column has where its expression is exchanged.
    fn name(&self, item: &mut SelectItem) {
        let SelectItem::UnnamedExpr(expr) = item else { return };
        let name = match &*expr {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        if let (Some(alias), true) = (name.cloned(), self.stands_for(expr).is_some()) {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }

    fn stands_for(&self, expr: &Expr) -> Option<Expr> {
        let call = |name: &Ident| self.0.iter().find(|(n, _)| is(name, n)).map(|(_, call)| call);
        match expr {
            Expr::Identifier(name) => call(name).cloned(),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [name, part] if is(part, "start") || is(part, "end") => {
                    let part = part.value.to_ascii_lowercase();
                    let field = format!("get_field({}, '{part}')", call(name)?);
                    read(&field, |parser: &mut Parser| parser.parse_expr()).ok()
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl VisitorMut for Names {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(call) = self.stands_for(expr) {
            *expr = call;
        }
        ControlFlow::Continue(())
    }
}
