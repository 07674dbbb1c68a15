//! The exact sum itself: its value, its one stored form, and damaged bytes.

use super::oracle::{Fraction, is_nearest, is_nearest_root};
use super::*;
use crate::aggregate::exact::number::Exact;
use crate::aggregate::exact::rational::Dyadic;
use num_bigint::BigInt;

fn sum_of(values: &[f64]) -> Exact {
    let mut sum = Exact::default();
    values.iter().for_each(|&x| {
        sum.add_f64(x);
    });
    sum
}

fn stored(sum: &Exact) -> Vec<u8> {
    let mut bytes = Vec::new();
    sum.encode(&mut bytes);
    bytes
}

fn merged(bytes: &[u8]) -> Exact {
    let mut sum = Exact::default();
    sum.merge(bytes).unwrap();
    sum
}

#[test]
fn sums_of_known_value() {
    assert_eq!(sum_of(&[1e308, 1e308, -1e308]).to_f64(), 1e308);
    assert_eq!(sum_of(&[1e16, 1.0, -1e16]).to_f64(), 1.0);
    assert_eq!(sum_of(&[0.1; 10]).to_f64(), 1.0);
    assert_eq!(sum_of(&[1e308, 1e308]).to_f64(), f64::INFINITY);
    assert_eq!(sum_of(&[-0.0, -0.0]).to_f64().to_bits(), 0.0f64.to_bits());
    assert_eq!(sum_of(&[5e-324, 5e-324]).to_f64(), 1e-323);
    assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).to_f64().is_nan());
    assert_eq!(sum_of(&[f64::INFINITY, 1.0]).to_f64(), f64::INFINITY);
    assert_eq!(sum_of(&[-f64::NAN]).to_f64().to_bits(), f64::NAN.to_bits());
}

#[test]
fn half_way_goes_to_the_even_one() {
    let ulp = f64::EPSILON;
    assert_eq!(sum_of(&[1.0, ulp / 2.0]).to_f64(), 1.0);
    assert_eq!(sum_of(&[1.0 + ulp, ulp / 2.0]).to_f64(), 1.0 + 2.0 * ulp);
    assert_eq!(sum_of(&[1.0, ulp / 2.0, 5e-324]).to_f64(), 1.0 + ulp);
    assert_eq!(sum_of(&[5e-324]).over(2).to_bits(), 0);
    assert_eq!(sum_of(&[1.5e-323]).over(2), 1e-323);
}

#[test]
fn a_root_just_above_half_way_goes_up() {
    let half_way = (1i128 << 53) + 1;
    let root = |square: BigInt| Dyadic::new(square, 0).root_over(&Dyadic::integer(1));
    let square: BigInt = BigInt::from(half_way).pow(2) << 26;
    assert_eq!(root(square.clone()), 2f64.powi(53 + 13));
    assert_eq!(root(square + 1), (2f64.powi(53) + 2.0) * 2f64.powi(13));
}

#[test]
fn the_stored_form_is_as_documented() {
    assert_eq!(stored(&sum_of(&[])), [0]);
    assert_eq!(stored(&sum_of(&[1.0, -1.0])), [0]);
    assert_eq!(stored(&sum_of(&[3.0])), [0, 0, 0, 3]);
    assert_eq!(stored(&sum_of(&[-6.0])), [0, 1, 0, 0xfd]);
    assert_eq!(stored(&sum_of(&[-1.0])), [0, 0, 0, 0xff]);
    assert_eq!(stored(&sum_of(&[0.5, 128.0])), [0, 0xff, 0xff, 1, 1]);
    assert_eq!(stored(&sum_of(&[-0.5])), [0, 0xff, 0xff, 0xff]);
    assert_eq!(stored(&sum_of(&[255.0])), [0, 0, 0, 255, 0]);
    assert_eq!(stored(&sum_of(&[1.0, f64::INFINITY])), [1]);
    assert_eq!(stored(&sum_of(&[f64::NEG_INFINITY])), [2]);
    assert_eq!(stored(&sum_of(&[f64::NEG_INFINITY, f64::INFINITY])), [3]);
}

#[test]
fn a_carry_runs_through_every_limb() {
    let mut sum = sum_of(&[f64::MAX, 5e-324, -f64::MAX]);
    assert_eq!(sum.to_f64(), 5e-324);
    sum.add_f64(-1e-323);
    assert_eq!(sum.to_f64(), -5e-324);
    assert_eq!(stored(&sum), stored(&sum_of(&[-5e-324])));
}

#[test]
fn many_large_values_do_not_overflow() {
    let mut sum = Exact::default();
    for _ in 0..200 {
        sum.add_scaled(i128::MAX, 0);
        sum.add_scaled(i128::MIN, 64);
        sum.add_scaled(i128::MIN, 0);
    }
    let expected = (BigInt::from(i128::MAX) + i128::MIN + (BigInt::from(i128::MIN) << 64)) * 200;
    assert_eq!(sum.finite().to_integer(), Some(expected));
}

#[test]
fn damaged_bytes_are_an_error() {
    let damaged: [&[u8]; 10] = [
        &[],
        &[4],
        &[1, 0],
        &[0, 0],
        &[0, 0, 0],
        &[0, 0, 0, 2],
        &[0, 0, 0, 1, 0],
        &[0, 0, 0, 255, 255],
        &[0, 0, 0x80, 1],
        &[0, 0, 0x7f, 1],
    ];
    for bytes in damaged {
        let error = Exact::default().merge(bytes).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{bytes:?}: {error}");
    }
    let long = [vec![0, 0, 0], vec![1; 300]].concat();
    assert!(Exact::default().merge(&long).is_err());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_sum_is_the_nearest_double(values in proptest::collection::vec(double(), 0..40)) {
        let exact = Fraction::sum(values.iter().map(|&x| Fraction::of(x)));
        let sum = sum_of(&values);
        prop_assert!(is_nearest(sum.to_f64(), &exact), "{:?}", sum.to_f64());
        let n = values.len() as u64 + 1;
        prop_assert!(is_nearest(sum.over(n), &exact.over(&Fraction::whole(n))), "{:?}", sum.over(n));
        // However it is held.
        let mut wide = sum_of(&[f64::MAX, 5e-324, -f64::MAX, -5e-324]);
        wide.merge(&stored(&sum)).unwrap();
        prop_assert_eq!(wide.to_f64().to_bits(), sum.to_f64().to_bits());
        prop_assert_eq!(wide.over(n).to_bits(), sum.over(n).to_bits());
        prop_assert_eq!(stored(&wide), stored(&sum));
        prop_assert_eq!(stored(&merged(&stored(&sum))), stored(&sum));
    }

    #[test]
    fn a_sum_of_products_is_exact(pairs in proptest::collection::vec((double(), double()), 0..20)) {
        let mut sum = Exact::default();
        pairs.iter().for_each(|&(x, y)| { sum.add_product(x, y); });
        let exact = Fraction::sum(pairs.iter().map(|&(x, y)| Fraction::of(x).times(&Fraction::of(y))));
        prop_assert!(is_nearest(sum.to_f64(), &exact), "{:?}", sum.to_f64());
        prop_assert_eq!(stored(&merged(&stored(&sum))), stored(&sum));
    }

    #[test]
    fn quotients_and_roots_are_nearest(a in any::<i128>(), b in 1u64.., up in -1200i64..1200, cut in 0u32..127) {
        let dyadic = |m: i128, e: i64| Dyadic::new(BigInt::from(m), e);
        let fraction = |m: BigInt, e: i64| {
            let (up, down) = (e.max(0) as u64, (-e).max(0) as u64);
            Fraction::new(m << up, BigInt::from(1) << down)
        };
        let a = a >> cut;
        let exact = fraction(a.into(), up).over(&Fraction::whole(b));
        let quotient = dyadic(a, up).over(&Dyadic::integer(b));
        prop_assert!(is_nearest(quotient, &exact), "{quotient:?}");
        let size = a.saturating_abs();
        let square = fraction(size.into(), up).over(&Fraction::whole(b));
        let root = dyadic(size, up).root_over(&Dyadic::integer(b));
        prop_assert!(is_nearest_root(root, &square), "{root:?}");
        // A square number has its root, and no rest.
        let whole = dyadic(i128::from(b), up);
        prop_assert_eq!(whole.squared().root_over(&Dyadic::integer(1)).to_bits(), whole.to_f64().to_bits());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut sum = Exact::default();
        if sum.merge(&bytes).is_ok() {
            prop_assert_eq!(stored(&sum), bytes);
        }
    }
}
