//! Variances, covariances, correlation and regression, against their definitions in fractions.

use super::oracle::{Fraction, is_nearest, is_nearest_root};
use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;

/// The function's value over pairs of (y, x); one argument is x.
fn of(name: &str, pairs: &[(f64, f64)]) -> Option<f64> {
    let (y, x): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let both = [doubles(&y), doubles(&x)];
    let columns = if name.starts_with("var") || name.starts_with("std") { &both[1..] } else { &both[..] };
    let value = value(name, columns);
    let value = value.as_primitive::<Float64Type>();
    value.is_valid(0).then(|| value.value(0))
}

const NAMES: [&str; 15] = [
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
];

/// `Σ (a - mean a) (b - mean b)`
fn spread(a: &[Fraction], b: &[Fraction]) -> Fraction {
    let n = Fraction::whole(a.len() as u64);
    let [mean_a, mean_b] = [a, b].map(|s| Fraction::sum(s.iter().cloned()).over(&n));
    Fraction::sum(a.iter().zip(b).map(|(a, b)| a.minus(&mean_a).times(&b.minus(&mean_b))))
}

fn is_right(name: &str, value: Option<f64>, pairs: &[(f64, f64)]) -> bool {
    let y: Vec<Fraction> = pairs.iter().map(|p| Fraction::of(p.0)).collect();
    let x: Vec<Fraction> = pairs.iter().map(|p| Fraction::of(p.1)).collect();
    let n = pairs.len() as u64;
    let (xx, yy, xy) = (spread(&x, &x), spread(&y, &y), spread(&x, &y));
    let [mean_x, mean_y] = [&x, &y].map(|s| Fraction::sum(s.iter().cloned()).over(&Fraction::whole(n)));
    let null = match name {
        "var" | "stddev" | "covar_samp" => n < 2,
        "corr" | "regr_r2" => n < 2 || xx.is_zero() || yy.is_zero(),
        "regr_slope" | "regr_intercept" => n < 2 || xx.is_zero(),
        _ => false,
    };
    let Some(value) = value else { return null };
    let (all, less) = (Fraction::whole(n), Fraction::whole(n.max(2) - 1));
    !null
        && match name {
            "var" => is_nearest(value, &xx.over(&less)),
            "var_pop" => is_nearest(value, &xx.over(&all)),
            "stddev" => is_nearest_root(value, &xx.over(&less)),
            "stddev_pop" => is_nearest_root(value, &xx.over(&all)),
            "covar_samp" => is_nearest(value, &xy.over(&less)),
            "covar_pop" => is_nearest(value, &xy.over(&all)),
            "corr" => {
                (xy.is_zero() || xy.is_negative() == value.is_sign_negative())
                    && is_nearest_root(value.abs(), &xy.times(&xy).over(&xx.times(&yy)))
            }
            "regr_slope" => is_nearest(value, &xy.over(&xx)),
            "regr_intercept" => is_nearest(value, &mean_y.minus(&xy.over(&xx).times(&mean_x))),
            "regr_r2" => is_nearest(value, &xy.times(&xy).over(&xx.times(&yy))),
            "regr_avgx" => is_nearest(value, &mean_x),
            "regr_avgy" => is_nearest(value, &mean_y),
            "regr_sxx" => is_nearest(value, &xx),
            "regr_syy" => is_nearest(value, &yy),
            _ => is_nearest(value, &xy),
        }
}

#[test]
fn values_far_from_zero_keep_their_variance() {
    let far: Vec<(f64, f64)> = (0..4).map(|i| (0.0, 1e15 + f64::from(i))).collect();
    assert_eq!(of("var_pop", &far), Some(1.25));
    let same = vec![(0.1, 0.1); 7];
    assert_eq!(of("var_pop", &same), Some(0.0));
    assert_eq!(of("stddev", &same), Some(0.0));
    assert_eq!(of("corr", &same), None);
}

#[test]
fn a_line_is_found_exactly() {
    let line: Vec<(f64, f64)> = (1..9).map(|x| (55.0 + 5.0 * f64::from(x), f64::from(x))).collect();
    assert_eq!(of("regr_slope", &line), Some(5.0));
    assert_eq!(of("regr_intercept", &line), Some(55.0));
    assert_eq!(of("regr_r2", &line), Some(1.0));
    assert_eq!(of("corr", &line), Some(1.0));
    let down: Vec<(f64, f64)> = line.iter().map(|&(y, x)| (-y, x)).collect();
    assert_eq!(of("corr", &down), Some(-1.0));
}

#[test]
fn one_value_has_the_nulls_of_the_engine() {
    let single = [(3.0, 2.0)];
    let nulls = ["var", "stddev", "covar_samp", "corr", "regr_slope", "regr_intercept", "regr_r2"];
    for name in NAMES {
        assert_eq!(of(name, &single).is_none(), nulls.contains(&name), "{name}");
        assert_eq!(of(name, &[]), None, "{name}");
    }
}

#[test]
fn what_is_no_number_gives_nan() {
    let wild = [(1.0, 1.0), (2.0, f64::INFINITY), (4.0, 3.0)];
    let [finite, infinite] = [["regr_avgy", "regr_syy"], ["regr_avgx", ""]];
    for name in NAMES {
        let value = of(name, &wild).unwrap();
        match name {
            _ if finite.contains(&name) => assert!(value.is_finite(), "{name}"),
            _ if infinite.contains(&name) => assert_eq!(value, f64::INFINITY, "{name}"),
            _ => assert!(value.is_nan(), "{name}: {value}"),
        }
    }
    assert!(of("corr", &[(f64::NAN, f64::NAN)]).unwrap().is_nan());
    assert_eq!(of("corr", &[(1.0, f64::NAN), (2.0, 3.0)]), None);
    assert!(of("var_pop", &[(0.0, f64::NAN)]).unwrap().is_nan());
}

#[test]
fn pairs_with_a_null_do_not_count() {
    let y: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(3.0), Some(9.0)]));
    let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(8.0), None, Some(2.0)]));
    let count = value("regr_count", &[Arc::clone(&y), Arc::clone(&x)]);
    assert_eq!(count.as_primitive::<arrow::datatypes::UInt64Type>().value(0), 2);
    assert_eq!(value("covar_pop", &[y, x]).as_primitive::<Float64Type>().value(0), 2.0);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_statistic_is_nearest(pairs in proptest::collection::vec((double(), double()), 1..8)) {
        for name in NAMES {
            let value = of(name, &pairs);
            prop_assert!(is_right(name, value, &pairs), "{}: {:?}", name, value);
        }
    }

    #[test]
    fn any_bracketing_of_pairs_gives_the_same_state(
        (pairs, deal) in proptest::collection::vec((wild_double(), wild_double()), 1..30)
            .prop_flat_map(|v| { let n = v.len(); (Just(v), shuffled(n)) }),
        parts in 1usize..5,
    ) {
        let (y, x): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let groups: Vec<usize> = (0..pairs.len()).map(|i| i % 2).collect();
        let in_order: Vec<usize> = (0..pairs.len()).collect();
        for name in ["covar_samp", "corr", "regr_slope", "regr_r2", "regr_syy", "regr_count"] {
            let f = function(name);
            let whole = dealt(&f, &[doubles(&y), doubles(&x)], &groups, &in_order, 1);
            let pieces = dealt(&f, &[doubles(&y), doubles(&x)], &groups, &deal, parts);
            prop_assert_eq!(&whole, &pieces, "{}", name);
        }
    }
}
