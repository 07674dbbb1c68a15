//! Windows of time, as functions of the engine.
//!
//! `tumble(ts, size)` is the window that a time is in: a group key like any other expression. A time is in several
//! windows of `hop` and `cumulate`, and the windows of `session` depend on other events; in a query these three are
//! [`Marker`]s, which are given their meaning by rewriting the plan. The rewritten plan stands on functions of one
//! event or pane:
//!
//! ```text
//! hop_windows(ts, slide, size)      all windows that ts is in
//! hop_pane(ts, slide, size)         the pane that ts is in; each window is a union of panes
//! pane_windows(pane, slide, size)   all windows that the pane is in
//!
//! hop_windows(ts, ...) = pane_windows(hop_pane(ts, ...), ...)
//! ```
//!
//! A window is `STRUCT<start, end>`, the end exclusive, of the type of the times, their zone included; null for a time
//! that is null. Windows are aligned to 1970-01-01 00:00 UTC, plus the offset. Lengths are constant intervals of days
//! and time; a day has 24 hours, in any zone.

mod column;
mod function;
mod grid;
mod interval;
mod kind;

pub(crate) use interval::nanos;

use datafusion::logical_expr::{Expr, ScalarUDF};
use function::WindowFunction;
use kind::Kind;
use std::sync::{Arc, LazyLock};

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    Kind::ALL.into_iter().map(|kind| Arc::new(ScalarUDF::from(WindowFunction::new(kind)))).collect()
});

/// The window functions.
pub(crate) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    FUNCTIONS.iter().cloned()
}

/// A window function that a plan is rewritten for, because it is no function of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// `hop(ts, slide, size [, offset])`
    Hop,
    /// `session(ts, gap [, key, …])`: with keys, the sessions of each combination of them.
    Session,
    /// `cumulate(ts, step, size [, offset])`
    Cumulate,
}

/// Which marker the expression is a call of, if it is one.
pub(crate) fn is_marker(expr: &Expr) -> Option<Marker> {
    match kind_of(expr)? {
        Kind::Hop => Some(Marker::Hop),
        Kind::Session => Some(Marker::Session),
        Kind::Cumulate => Some(Marker::Cumulate),
        _ => None,
    }
}

/// Whether the expression is a call of `pane_windows`.
pub(crate) fn is_pane_windows(expr: &Expr) -> bool {
    kind_of(expr) == Some(Kind::PaneWindows)
}

/// Whether the expression is the list of all windows that a time is in.
pub(crate) fn is_window_list(expr: &Expr) -> bool {
    matches!(kind_of(expr), Some(Kind::HopWindows | Kind::CumulateWindows))
}

/// The window of an event that ends first, given an expression of the event that a fold groups by.
pub(crate) fn first_window(expr: &Expr) -> Option<Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match kind_of(expr)? {
        Kind::Tumble | Kind::EventSession => Some(expr.clone()),
        Kind::HopPane | Kind::HopWindows => Some(first_hop(call.args.clone())),
        Kind::CumulateWindows => Some(first_cumulation(call.args.clone())),
        _ => None,
    }
}

/// The time that decides which window an event is in, given its [first window](first_window): it lies in that window.
pub(crate) fn time_of_window(window: &Expr) -> Option<&Expr> {
    let Expr::ScalarFunction(call) = window else { return None };
    match kind_of(window)? {
        Kind::Tumble | Kind::EventSession | Kind::FirstHop | Kind::FirstCumulation => call.args.first(),
        _ => None,
    }
}

/// If the expression is the window that a time is in, of windows that come one after the other: the window that begins
/// at `start`, which is that of every time in it.
pub(crate) fn at_start(expr: &Expr, start: Expr) -> Option<Expr> {
    let Expr::ScalarFunction(window) = expr else { return None };
    let kind = kind_of(expr).filter(|kind| matches!(kind, Kind::Tumble | Kind::HopPane))?;
    let lengths = window.args.get(1..)?.iter().cloned();
    Some(call(kind, [start].into_iter().chain(lengths).collect()))
}

fn kind_of(expr: &Expr) -> Option<Kind> {
    let Expr::ScalarFunction(call) = expr else { return None };
    Some(call.func.inner().downcast_ref::<WindowFunction>()?.kind)
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(arguments: Vec<Expr>) -> Expr {
            call(Kind::$kind, arguments)
        }
    )*};
}

calls! {
    /// `tumble(ts, size [, offset])`: the window that `ts` is in.
    tumble = Tumble;
    /// `hop_windows(ts, slide, size [, offset])`: all windows that `ts` is in, as a list by start.
    hop_windows = HopWindows;
    /// `cumulate_windows(ts, step, size [, offset])`: all windows that `ts` is in, as a list by end.
    cumulate_windows = CumulateWindows;
    /// `hop_pane(ts, slide, size [, offset])`: the pane that `ts` is in, as long as the gcd of slide and size.
    hop_pane = HopPane;
    /// `pane_windows(pane, slide, size [, offset])`: all windows that the pane is in, as a list by start.
    pane_windows = PaneWindows;
    /// `pane_windows_within(pane, slide, size, offset, from, until)`: of those, the windows with
    /// `from <= start < until`; null is no bound.
    pane_windows_within = PaneWindowsWithin;
    /// `block_windows(block, slide, size, offset, parent)`: the windows that the block is in whole, and not the whole
    /// block of length `parent` that it is a part of; all that it is in, if that length is 0.
    block_windows = BlockWindows;
    /// `first_hop(ts, slide, size [, offset])`: of the windows that `ts` is in the one that ends first, or null.
    first_hop = FirstHop;
    /// `first_cumulation(ts, step, size [, offset])`: the same of cumulated windows.
    first_cumulation = FirstCumulation;
    /// `event_session(ts, gap)`: the session of one event alone, `[ts, ts + gap)`.
    event_session = EventSession;
}

fn call(kind: Kind, arguments: Vec<Expr>) -> Expr {
    // The functions stand in the order of Kind::ALL, which is that of the enum.
    FUNCTIONS[kind as usize].call(arguments)
}

#[cfg(test)]
mod tests;
