//! The values of numeric aggregates against arithmetic of its own: over integers and fractions of them, without any
//! rounding but the one at the end.

use super::hand_off::{Round, hand_off, ingest, round};
use super::laws::{cases, project};
use super::queries::Query;
use super::wild::Event;
use crate::parity::{Platform, Sizes, Step, runtime};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use num_bigint::{BigInt, Sign};
use proptest::prelude::*;
use std::collections::BTreeMap;
use twofold_common::Kind;

/// A double as an integer: times `2^1074`.
fn scaled(x: f64) -> BigInt {
    let bits = x.to_bits();
    let (exponent, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    let magnitude = match exponent {
        0 => BigInt::from(fraction),
        _ => BigInt::from(fraction | 1 << 52) << (exponent - 1),
    };
    if x.is_sign_negative() { -magnitude } else { magnitude }
}

fn unit() -> BigInt {
    BigInt::from(1) << 1074
}

/// The double next to the positive number of which `at_most(d)` says whether `d / 2^1074` is not above it, and
/// `half(s)` how `s / 2^1075` compares.
fn nearest_by(at_most: impl Fn(&BigInt) -> bool, half: impl Fn(&BigInt) -> std::cmp::Ordering) -> f64 {
    const INFINITE: u64 = 0x7ff0_0000_0000_0000;
    // The greatest finite double that is not above; 0 is not.
    let (mut low, mut high) = (0u64, INFINITE);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if at_most(&scaled(f64::from_bits(middle))) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let next = if high == INFINITE { BigInt::from(1) << 2098 } else { scaled(f64::from_bits(high)) };
    let up = match half(&(scaled(f64::from_bits(low)) + next)) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => low % 2 == 1,
        std::cmp::Ordering::Greater => false,
    };
    f64::from_bits(if up { high } else { low })
}

/// The double next to `numerator / denominator`.
fn nearest(numerator: &BigInt, denominator: &BigInt) -> f64 {
    let (p, q) = (abs(numerator) * unit(), abs(denominator));
    let value = nearest_by(|d| d * &q <= p, |s| (s * &q).cmp(&(&p * 2)));
    if numerator.sign() == denominator.sign() { value } else { -value }
}

/// The double next to the square root of `numerator / denominator`.
fn nearest_root(numerator: &BigInt, denominator: &BigInt) -> f64 {
    let (p, q) = (abs(numerator) * unit() * unit(), abs(denominator));
    nearest_by(|d| d * d * &q <= p, |s| (s * s * &q).cmp(&(&p * 4)))
}

fn abs(n: &BigInt) -> BigInt {
    BigInt::from_biguint(Sign::Plus, n.magnitude().clone())
}

#[test]
fn the_oracle_knows_what_a_double_is() {
    let ratio = |p: i64, q: i64| nearest(&BigInt::from(p), &BigInt::from(q));
    for (p, q) in [(1, 3), (-2, 3), (1, 10), (i64::MAX, 1), (7, i64::MAX), (-1, 1)] {
        // Both are doubles or one rounding of the quotient is all there is.
        if p.unsigned_abs() < 1 << 53 && q < 1 << 53 {
            assert_eq!(ratio(p, q), p as f64 / q as f64);
        }
    }
    assert_eq!(ratio((1 << 53) + 1, 1), (1u64 << 53) as f64, "a tie goes to the even one");
    assert_eq!(nearest_root(&BigInt::from(2), &BigInt::from(1)), 2f64.sqrt());
    let huge = scaled(f64::MAX) * 2;
    assert_eq!(nearest(&huge, &unit()), f64::INFINITY);
    assert_eq!(nearest(&scaled(5e-324), &(unit() * 2)), 0.0);
}

/// What a group has seen: `x` and `n` where they are not null, and both where neither is.
#[derive(Debug, Default)]
struct Group {
    xs: Vec<f64>,
    pairs: Vec<(f64, f64)>,
    /// The exact sums of `n`, `i8` and `d`, if any was not null.
    sums: [Option<i128>; 3],
}

impl Group {
    /// What each column of [`STATISTICS`] must be.
    fn statistics(&self) -> Vec<Option<f64>> {
        let n = BigInt::from(self.xs.len());
        let sum = |values: &mut dyn Iterator<Item = BigInt>| values.sum::<BigInt>();
        let one = sum(&mut self.xs.iter().map(|&x| scaled(x)));
        let two = sum(&mut self.xs.iter().map(|&x| scaled(x) * scaled(x)));
        let spread = &n * &two - &one * &one;
        let (any, some) = (!self.xs.is_empty(), self.xs.len() > 1);
        let squared = unit() * unit();
        let (pop, samp) = (&n * &n * &squared, &n * (&n - 1) * &squared);
        let mut all = vec![
            any.then(|| nearest(&one, &unit())),
            any.then(|| nearest(&one, &(&n * unit()))),
            some.then(|| nearest(&spread, &samp)),
            any.then(|| nearest(&spread, &pop)),
            some.then(|| nearest_root(&spread, &samp)),
            any.then(|| nearest_root(&spread, &pop)),
        ];
        all.extend(self.regression());
        all
    }

    /// Of `x` on `n`.
    fn regression(&self) -> Vec<Option<f64>> {
        let n = BigInt::from(self.pairs.len());
        let sum = |of: &dyn Fn(BigInt, BigInt) -> BigInt| -> BigInt {
            self.pairs.iter().map(|&(y, x)| of(scaled(y), scaled(x))).sum()
        };
        let (sy, sx) = (sum(&|y, _| y), sum(&|_, x| x));
        let (yy, xx, xy) = (sum(&|y, _| &y * &y), sum(&|_, x| &x * &x), sum(&|y, x| y * x));
        let (cyy, cxx, cxy) = (&n * yy - &sy * &sy, &n * xx - &sx * &sx, &n * xy - &sx * &sy);
        let zero = BigInt::ZERO;
        let (any, some) = (!self.pairs.is_empty(), self.pairs.len() > 1);
        let (line, both) = (some && cxx != zero, some && cxx != zero && cyy != zero);
        let squared = unit() * unit();
        let (strength, most) = (&cxy * &cxy, &cxx * &cyy);
        let signed = |x: f64| if cxy.sign() == Sign::Minus { -x } else { x };
        vec![
            some.then(|| nearest(&cxy, &(&n * (&n - 1) * &squared))),
            any.then(|| nearest(&cxy, &(&n * &n * &squared))),
            both.then(|| signed(nearest_root(&strength, &most))),
            line.then(|| nearest(&cxy, &cxx)),
            line.then(|| nearest(&(&sy * &cxx - &sx * &cxy), &(&n * &cxx * unit()))),
            both.then(|| nearest(&strength, &most)),
            any.then(|| nearest(&sx, &(&n * unit()))),
            any.then(|| nearest(&sy, &(&n * unit()))),
            any.then(|| nearest(&cxx, &(&n * &squared))),
            any.then(|| nearest(&cyy, &(&n * &squared))),
            any.then(|| nearest(&cxy, &(&n * &squared))),
        ]
    }
}

const STATISTICS: [&str; 17] = [
    "sum(x)",
    "avg(x)",
    "var(x)",
    "var_pop(x)",
    "stddev(x)",
    "stddev_pop(x)",
    "covar_samp(x, n)",
    "covar_pop(x, n)",
    "corr(x, n)",
    "regr_slope(x, n)",
    "regr_intercept(x, n)",
    "regr_r2(x, n)",
    "regr_avgx(x, n)",
    "regr_avgy(x, n)",
    "regr_sxx(x, n)",
    "regr_syy(x, n)",
    "regr_sxy(x, n)",
];
const SUMS: [&str; 3] = ["sum(n)", "sum(CAST(i8 AS DECIMAL(38, 0)))", "sum(d)"];
/// The shares of all values at which the sketches are asked.
const SHARES: [f64; 5] = [0.5, 0.0, 0.25, 0.9, 1.0];

fn queries() -> Vec<Query> {
    let quantiles = SHARES.map(|q| format!("approx_percentile_cont(x, {q:?})"));
    let quantiles: Vec<&str> =
        ["approx_median(x)"].into_iter().chain(quantiles.iter().map(String::as_str)).collect();
    let view = |(name, calls): (&str, &[&str])| {
        let named: String = calls.iter().enumerate().map(|(i, call)| format!(", {call} AS c{i}")).collect();
        let view = format!("SELECT k{named} FROM wild GROUP BY k");
        Query { name: name.into(), plain: view.clone(), view, fallible: false }
    };
    [("statistics", &STATISTICS[..]), ("sums", &SUMS), ("quantiles", &quantiles)].map(view).to_vec()
}

fn groups(platform: &Platform) -> BTreeMap<Option<String>, Group> {
    let mut groups: BTreeMap<Option<String>, Group> = BTreeMap::new();
    for batch in platform.all.iter().filter(|((stream, _), _)| stream == "wild").flat_map(|(_, b)| b) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (ks, xs) = (column("k").as_string::<i32>(), column("x").as_primitive::<Float64Type>());
        let ns = column("n").as_primitive::<Int64Type>();
        let i8s = column("i8").as_primitive::<Int64Type>();
        let ds = column("d").as_primitive::<Decimal128Type>();
        for row in 0..batch.num_rows() {
            let group = groups.entry(ks.is_valid(row).then(|| ks.value(row).to_string())).or_default();
            let x = xs.is_valid(row).then(|| xs.value(row));
            let n = ns.is_valid(row).then(|| ns.value(row));
            group.xs.extend(x);
            group.pairs.extend(x.zip(n.map(|n| n as f64)));
            let numbers = [
                n.map(i128::from),
                i8s.is_valid(row).then(|| i128::from(i8s.value(row))),
                ds.is_valid(row).then(|| ds.value(row)),
            ];
            for (sum, number) in group.sums.iter_mut().zip(numbers) {
                *sum = match (*sum, number) {
                    (Some(sum), Some(number)) => Some(sum + number),
                    (sum, number) => sum.or(number),
                };
            }
        }
    }
    groups
}

/// The rows of a view by their key: the other columns as `T` makes them of a column.
async fn rows<T>(
    platform: &Platform,
    view: &str,
    cells: impl Fn(&dyn Array, usize) -> T,
) -> BTreeMap<Option<String>, Vec<Option<T>>> {
    let rows = platform.serving().query(&format!("SELECT * FROM {view}")).await.unwrap();
    let rows: RecordBatch = concat_batches(&rows.schema, &rows.batches).unwrap();
    let keys = rows.column(0).as_string::<i32>();
    let row = |row: usize| {
        let others = rows.columns().iter().skip(1);
        let others = others.map(|c| c.is_valid(row).then(|| cells(c.as_ref(), row))).collect();
        (keys.is_valid(row).then(|| keys.value(row).to_string()), others)
    };
    (0..rows.num_rows()).map(row).collect()
}

/// Equal to the bit, but for the sign of zero.
fn same(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => {
            found.to_bits() == expected.to_bits() || found == 0.0 && expected == 0.0
        }
        (found, expected) => found.is_none() && expected.is_none(),
    }
}

async fn check(platform: &Platform) {
    let groups = groups(platform);
    let double = |column: &dyn Array, row: usize| column.as_primitive::<Float64Type>().value(row);
    let statistics = rows(platform, "statistics", double).await;
    assert_eq!(statistics.keys().collect::<Vec<_>>(), groups.keys().collect::<Vec<_>>());
    for (key, found) in &statistics {
        let expected = groups[key].statistics();
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let call = STATISTICS[i];
            assert!(same(*found, *expected), "{call} of {key:?}: {found:?}, not {expected:?}");
        }
    }
    let exact = |column: &dyn Array, row: usize| match column.data_type() {
        DataType::Int64 => i128::from(column.as_primitive::<Int64Type>().value(row)),
        _ => column.as_primitive::<Decimal128Type>().value(row),
    };
    for (key, found) in rows(platform, "sums", exact).await {
        assert_eq!(found, groups[&key].sums, "the sums of {key:?}");
    }
    for (key, found) in rows(platform, "quantiles", double).await {
        let mut xs = groups[&key].xs.clone();
        xs.sort_by(f64::total_cmp);
        for (found, share) in found.into_iter().zip([0.5].into_iter().chain(SHARES)) {
            assert_near(found, &xs, share, &key);
        }
    }
}

/// Within 1 % of the values between which the share lies, and between them as far as it does.
fn assert_near(found: Option<f64>, sorted: &[f64], share: f64, key: &Option<String>) {
    let Some(found) = found else { return assert!(sorted.is_empty(), "{key:?}") };
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    let between = |low: f64, high: f64| low * (1.0 - at.fract()) + high * at.fract();
    let error = 0.01 * (1.0 + 1e-9) * between(low.abs(), high.abs()) + f64::MIN_POSITIVE;
    let expected = between(low, high);
    assert!((found - expected).abs() <= error, "{share} of {key:?}: {found}, not about {expected}");
}

#[test]
fn values_are_the_exact_ones_rounded_once_wherever_the_horizon_lies() {
    let config = ProptestConfig { cases: cases(), ..ProptestConfig::default() };
    proptest!(config, |(rounds in proptest::collection::vec(round(), 1..5), segment_rows in 1u64..9)| {
        runtime().block_on(async {
            let sizes = Sizes { epoch_rows: 5, segment_rows };
            let mut platform = Platform::of(project(&queries()).await, sizes).await;
            for round in &rounds {
                ingest(&mut platform, round).await;
                check(&platform).await;
                if let Some(full) = round.batch {
                    hand_off(&mut platform, full).await;
                    check(&platform).await;
                }
            }
        });
    });
}

/// An event of the key `a` whose `i8` is the one that the palette has there.
fn with_i8(at: u8) -> Round {
    let mut cells = vec![0; super::wild::COLUMNS.len()];
    (cells[0], cells[5]) = (1, at);
    let event = Event { second: 1, cells, partition: 0, gap: 0, twice: false };
    Round { wild: vec![event], more: Vec::new(), batch: None, restart: None }
}

/// A sum that does not fit is an error that says where; and an answer again when a late event brings it back.
#[test]
fn an_overflow_names_view_and_key_and_passes() {
    const MINUS_ONE: u8 = 4;
    const GREATEST: u8 = 6;
    let query = |name: &str, call: &str| {
        let view = format!("SELECT k, {call} AS total FROM wild GROUP BY k");
        Query { name: name.into(), plain: view.clone(), view, fallible: true }
    };
    let queries = [query("totals", "sum(i8)"), query("wide", "sum(CAST(i8 AS DECIMAL(38, 0)))")];
    runtime().block_on(async {
        for handed_off in [false, true] {
            let sizes = Sizes { epoch_rows: 5, segment_rows: 2 };
            let mut platform = Platform::of(project(&queries).await, sizes).await;
            for at in [GREATEST, 1] {
                ingest(&mut platform, &with_i8(at)).await;
            }
            if handed_off {
                hand_off(&mut platform, false).await;
            }
            let error = platform.serving().query("SELECT * FROM totals").await.unwrap_err();
            let text = error.to_string();
            let named =
                "view totals: sum(wild.i8) for k = 'a' is 9223372036854775808, more than BIGINT holds";
            assert!(text.contains(named), "{text}");
            assert_eq!(error.kind(), Kind::Invalid, "{text}");
            let wide = |c: &dyn Array, row: usize| c.as_primitive::<Decimal128Type>().value(row);
            let all = rows(&platform, "wide", wide).await;
            assert_eq!(all[&Some("a".to_string())], [Some(1i128 << 63)]);

            ingest(&mut platform, &with_i8(MINUS_ONE)).await;
            let total = |c: &dyn Array, row: usize| c.as_primitive::<Int64Type>().value(row);
            let back = rows(&platform, "totals", total).await;
            assert_eq!(back[&Some("a".to_string())], [Some(i64::MAX)]);
            platform.take(&Step::LoseStates).await;
            platform.take(&Step::Epochs).await;
            assert_eq!(rows(&platform, "totals", total).await, back);
        }
    });
}
