//! Group windows, as Flink had them before windows stood in `FROM`: `GROUP BY TUMBLE(ts, size)`, and in the
//! select list `TUMBLE_START(ts, size)`, `TUMBLE_END` and `TUMBLE_ROWTIME`, the last millisecond of the
//! window.

use super::read;
use super::words::WINDOWS;
use datafusion::sql::sqlparser::ast::{Expr, ObjectNamePart};
use datafusion::sql::sqlparser::parser::Parser;

/// Rewrites a call of one part of a window into that part of the call.
pub(super) fn rewrite(expr: &mut Expr) -> Result<(), String> {
    let Expr::Function(function) = expr else { return Ok(()) };
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Ok(()) };
    let name = name.value.to_ascii_lowercase();
    let Some((window, part)) = name.rsplit_once('_') else { return Ok(()) };
    if !WINDOWS.contains(&window) {
        return Ok(());
    }
    let arguments = &function.args;
    let part = match part {
        "start" => format!("get_field({window}{arguments}, 'start')"),
        "end" => format!("get_field({window}{arguments}, 'end')"),
        "rowtime" => format!("(get_field({window}{arguments}, 'end') - INTERVAL '1 millisecond')"),
        "proctime" => return Err(format!("{name} depends on the clock: use {window}_rowtime")),
        _ => return Ok(()),
    };
    *expr = read(&part, |parser: &mut Parser| parser.parse_expr())?;
    Ok(())
}
