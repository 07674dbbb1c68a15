//! Calls of every aggregate function, over every column that it takes.

use super::wild::COLUMNS;
use datafusion::prelude::SessionContext;
use std::collections::BTreeSet;

/// A way of calling a function: `{}` stands for the argument.
#[derive(Debug)]
pub struct Form {
    pub name: &'static str,
    /// What the view says.
    view: &'static str,
    /// The same for a plain query, where an order has to be complete; empty if it is the same.
    plain: &'static str,
    /// The columns on which the value may fail to exist.
    pub fallible: &'static [&'static str],
    /// Whether the values are keys, so that `-0` is `0`.
    keys: bool,
    /// The columns over which the engine's own answer depends on the order of the rows, or is not what
    /// `docs/sql.md` says, so that it is no oracle.
    without: &'static [&'static str],
}

const fn form(name: &'static str, view: &'static str) -> Form {
    Form { name, view, plain: "", fallible: &[], keys: false, without: &[] }
}

const fn ordered(name: &'static str, view: &'static str, plain: &'static str) -> Form {
    Form { name, view, plain, fallible: &[], keys: false, without: &[] }
}

/// Bytes need not be a text.
const fn text(name: &'static str, view: &'static str, plain: &'static str) -> Form {
    Form { name, view, plain, fallible: &[], keys: false, without: &["y"] }
}

const fn fallible(name: &'static str, view: &'static str, fallible: &'static [&'static str]) -> Form {
    Form { name, view, plain: "", fallible, keys: false, without: &[] }
}

const fn of_keys(name: &'static str, view: &'static str, plain: &'static str) -> Form {
    Form { name, view, plain, fallible: &[], keys: true, without: &[] }
}

/// Where the engine compares floats partially, and values are keys.
const fn total(name: &'static str, view: &'static str) -> Form {
    Form { name, view, plain: "", fallible: &[], keys: false, without: &["f4", "f8", "x"] }
}

pub const FORMS: &[Form] = &[
    form("count", "count({})"),
    of_keys("count_distinct", "count(DISTINCT {})", ""),
    fallible("sum", "sum({})", &["i8", "u8", "dd"]),
    fallible("sum_distinct", "sum(DISTINCT {})", &["i8", "u8", "dd"]),
    fallible("avg", "avg({})", &["dd"]),
    fallible("avg_distinct", "avg(DISTINCT {})", &["dd"]),
    form("min", "min({})"),
    form("max", "max({})"),
    // It says nothing; alone, the engine makes its values keys.
    ordered("min_distinct", "min(DISTINCT {})", "min({})"),
    form("bool_and", "bool_and({})"),
    form("bool_or", "bool_or({})"),
    form("bit_and", "bit_and({})"),
    form("bit_or", "bit_or({})"),
    form("bit_xor", "bit_xor({})"),
    form("bit_xor_distinct", "bit_xor(DISTINCT {})"),
    form("var", "var({})"),
    form("var_pop", "var_pop({})"),
    form("stddev", "stddev({})"),
    form("stddev_pop", "stddev_pop({})"),
    form("covar_samp", "covar_samp({}, x)"),
    form("covar_pop", "covar_pop(x, {})"),
    form("corr", "corr({}, x)"),
    form("regr_slope", "regr_slope({}, x)"),
    form("regr_intercept", "regr_intercept(x, {})"),
    form("regr_count", "regr_count({}, x)"),
    form("regr_r2", "regr_r2({}, x)"),
    form("regr_avgx", "regr_avgx(x, {})"),
    form("regr_avgy", "regr_avgy({}, x)"),
    form("regr_sxx", "regr_sxx(x, {})"),
    form("regr_syy", "regr_syy({}, x)"),
    form("regr_sxy", "regr_sxy({}, x)"),
    total("median", "median({})"),
    total("percentile_cont", "percentile_cont({}, 0.25)"),
    total("percentile_cont_within", "percentile_cont(0.5) WITHIN GROUP (ORDER BY {})"),
    total("percentile_cont_desc", "percentile_cont(0.9) WITHIN GROUP (ORDER BY {} DESC)"),
    form("approx_distinct", "approx_distinct({})"),
    form("approx_median", "approx_median({})"),
    form("approx_percentile_cont", "approx_percentile_cont({}, 0.9)"),
    form("approx_percentile_cont_within", "approx_percentile_cont(0.1) WITHIN GROUP (ORDER BY {} DESC)"),
    form("approx_percentile_cont_error", "approx_percentile_cont({}, 0.5, 0.05)"),
    form("approx_percentile_cont_with_weight", "approx_percentile_cont_with_weight({}, w, 0.5)"),
    ordered("first_value", "first_value({})", "first_value({} ORDER BY _partition, _offset)"),
    ordered(
        "first_value_by",
        "first_value({} ORDER BY ts)",
        "first_value({} ORDER BY ts, _partition, _offset)",
    ),
    ordered(
        "first_value_kept",
        "first_value({}) IGNORE NULLS",
        "first_value({} ORDER BY _partition, _offset) IGNORE NULLS",
    ),
    ordered("last_value", "last_value({})", "last_value({} ORDER BY _partition, _offset)"),
    ordered(
        "last_value_by",
        "last_value({} ORDER BY n DESC NULLS LAST, b)",
        "last_value({} ORDER BY n DESC NULLS LAST, b, _partition, _offset)",
    ),
    ordered("nth_value", "nth_value({}, -2)", "nth_value({}, -2 ORDER BY _partition, _offset)"),
    ordered(
        "nth_value_by",
        "nth_value({}, 2 ORDER BY {} DESC NULLS FIRST)",
        "nth_value({}, 2 ORDER BY {} DESC NULLS FIRST, _partition, _offset)",
    ),
    ordered("array_agg", "array_agg({})", "array_agg({} ORDER BY _partition, _offset)"),
    ordered(
        "array_agg_by",
        "array_agg({} ORDER BY n DESC, k)",
        "array_agg({} ORDER BY n DESC, k, _partition, _offset)",
    ),
    of_keys("array_agg_distinct", "array_agg(DISTINCT {})", "array_agg(DISTINCT {} ORDER BY {})"),
    text("string_agg", "string_agg({}, ',')", "string_agg({}, ',' ORDER BY _partition, _offset)"),
    text(
        "string_agg_by",
        "string_agg({}, '|' ORDER BY {} DESC)",
        "string_agg({}, '|' ORDER BY {} DESC, _partition, _offset)",
    ),
    Form {
        name: "string_agg_distinct",
        view: "string_agg(DISTINCT {}, ',')",
        plain: "string_agg(DISTINCT CAST({} AS TEXT), ',' ORDER BY CAST({} AS TEXT))",
        fallible: &[],
        keys: false,
        without: &["y"],
    },
    form("histogram", "histogram({}, -10, 0, 10.5)"),
    of_keys("top_k", "top_k({}, 2)", ""),
    of_keys("count_by", "count_by({})", ""),
    of_keys("mode", "mode({})", ""),
    form("arg_min", "arg_min({}, n)"),
    form("arg_max", "arg_max(n, {})"),
    form("min_by", "min_by({}, {})"),
    form("max_by", "max_by(t, {})"),
    // Neither depends on the order of equal times.
    form("sequence_count_one", "sequence_count(INTERVAL '5 seconds', {}, b)"),
    form("sequence_count_same", "sequence_count(INTERVAL '5 seconds', {}, b, b)"),
    // The time made unique by the place, and a gap that is longer by more than that.
    ordered(
        "sequence_match",
        "sequence_match(INTERVAL '20 seconds', ts, {}, NOT {}, n > 0)",
        "sequence_match(INTERVAL '20 seconds 500 microseconds', UNIQUE_TS, {}, NOT {}, n > 0)",
    ),
    ordered(
        "sequence_count",
        "sequence_count(INTERVAL '5 seconds', ts, {} IS NOT NULL, b)",
        "sequence_count(INTERVAL '5 seconds 500 microseconds', UNIQUE_TS, {} IS NOT NULL, b)",
    ),
];

/// `ts`, which has whole seconds, and the place in nanoseconds.
const UNIQUE_TS: &str =
    "arrow_cast(CAST(ts AS BIGINT) + _partition * 100000 + _offset, 'Timestamp(Nanosecond, None)')";

/// One call of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub form: &'static str,
    pub column: &'static str,
    pub view: String,
    pub plain: String,
    pub fallible: bool,
}

impl Form {
    fn calls(&self) -> impl Iterator<Item = Call> {
        COLUMNS.iter().map(|(column, data_type)| {
            let plain = if self.plain.is_empty() { self.view } else { self.plain };
            let argument = match *data_type {
                "REAL" | "DOUBLE" if self.keys => {
                    let [zero, minus] = ["0.0", "-0.0"].map(|zero| format!("CAST({zero} AS {data_type})"));
                    format!("CASE WHEN {column} = {minus} THEN {zero} ELSE {column} END")
                }
                _ => column.to_string(),
            };
            Call {
                form: self.name,
                column,
                view: self.view.replace("{}", column),
                plain: plain.replace("{}", &argument).replace("UNIQUE_TS", UNIQUE_TS),
                fallible: self.fallible.contains(column),
            }
        })
    }
}

/// What can be called.
pub struct Calls {
    pub plannable: Vec<Call>,
    /// By form, the columns over which the engine itself cannot be asked, or is no oracle.
    pub left_out: Vec<(&'static str, BTreeSet<&'static str>)>,
}

/// All calls that a plain session can plan over `wild`.
pub async fn calls(session: &SessionContext) -> Calls {
    let mut calls = Calls { plannable: Vec::new(), left_out: Vec::new() };
    for form in FORMS {
        let mut left_out = BTreeSet::new();
        for call in form.calls() {
            let plan = session.sql(&format!("SELECT {} FROM wild", call.plain)).await;
            let known = match plan {
                // Some types are refused only when there is something to compute.
                Ok(frame) => frame.collect().await.is_ok(),
                Err(_) => false,
            };
            if known && !form.without.contains(&call.column) {
                calls.plannable.push(call);
            } else {
                left_out.insert(call.column);
            }
        }
        calls.left_out.push((form.name, left_out));
    }
    calls
}

/// A call as a column under a name of its own.
pub fn select_list(calls: &[Call], call: impl Fn(&Call) -> String) -> String {
    let named = |c: &Call| format!(", {} AS {}_{}", call(c), c.form, c.column);
    calls.iter().map(named).collect()
}
