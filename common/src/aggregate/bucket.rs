//! Which numbers a [`super::sketch`] counts together.
//!
//! The buckets of positive numbers follow one another like a logarithm would have them, and none is wider than
//!
//! ```text
//! greatest / least <= (1 + a) / (1 - a)        for a relative error a
//! ```
//!
//! A number `2^e (1 + s)` with `0 <= s < 1` falls into bucket `floor(C (35 e + 6 s^3 - 21 s^2 + 50 s) / 1024)`. The
//! cubic stands in for the logarithm (Masson, Rim, Lee: "DDSketch", VLDB 2019, and the cubic interpolation of its
//! implementations, whose coefficients 6/35, -3/5 and 10/7 are these over 35). Its derivative by the logarithm of the
//! number, `(1 + s)(18 s^2 - 42 s + 50)`, is 50 or more; so a bucket spans at most `1024 / (50 C)` of the natural
//! logarithm, and `C >= 10.24 / a` makes that `2 a`, which is less than `ln((1 + a) / (1 - a))`.
//!
//! All of it is reckoned in integers, with the first 32 bits of `s`: no logarithm, no rounding, and the same bucket
//! on every machine. `C` is one more than it must be, which makes good for the bits of `s` that are cut off.
//!
//! Below 2^-1022 the numbers themselves are spaced more widely than the error, which is not promised there.

use datafusion::common::plan_err;
use datafusion::error::Result;
use std::ops::RangeInclusive;

/// The bits of a double below its exponent.
const FRACTION: u32 = f64::MANTISSA_DIGITS - 1;
/// How many of them choose the bucket.
const USED: u32 = 32;

/// Where the buckets of positive numbers lie among all: far enough from 0 that none is below it.
const POSITIVE: i32 = 1 << 24;
const INFINITY: i32 = i32::MAX - 1;
const NAN: i32 = i32::MAX;

/// How finely numbers are told apart: the `C` above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolution(u32);

impl Resolution {
    /// A relative error of 1 %.
    pub(super) const DEFAULT: Self = Self(1025);

    /// For a relative error from 0.001 to below 1.
    pub(super) fn of_error(name: &str, error: f64) -> Result<Self> {
        if !(0.001..1.0).contains(&error) {
            return plan_err!("{name}: expected a relative error from 0.001 to below 1, found {error}");
        }
        Ok(Self((10.24 / error).ceil() as u32 + 1))
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// The bucket of a number. Buckets are in the total order of their numbers: a bucket each for `-NaN`, `-inf`,
    /// both zeros (bucket 0), `inf` and `NaN`, and the negative numbers as the positive ones, mirrored.
    pub(super) fn bucket(self, number: f64) -> i32 {
        let size = match number.abs() {
            size if size.is_nan() => NAN,
            f64::INFINITY => INFINITY,
            0.0 => 0,
            size => POSITIVE + self.index(size),
        };
        if number.is_sign_negative() { -size } else { size }
    }

    /// Whether there is such a bucket.
    pub(super) fn has(self, bucket: i32) -> bool {
        let finite = self.bucket(f64::from_bits(1))..=self.bucket(f64::MAX);
        let size = bucket.unsigned_abs();
        [0, INFINITY, NAN].iter().any(|b| b.unsigned_abs() == size)
            || i32::try_from(size).is_ok_and(|size| finite.contains(&size))
    }

    /// A number that is within the relative error of all that are in the bucket.
    pub(super) fn middle(self, bucket: i32) -> f64 {
        let size = match bucket.saturating_abs() {
            NAN => f64::NAN,
            INFINITY => f64::INFINITY,
            0 => 0.0,
            size => {
                let (least, greatest) = self.bounds(size - POSITIVE).into_inner();
                // 2 l g / (l + g), which neither overflows nor leaves the bucket.
                (least * (2.0 / (1.0 + least / greatest))).max(least).min(greatest)
            }
        };
        if bucket < 0 { -size } else { size }
    }

    /// The bucket of a positive, finite number among those of such numbers.
    fn index(self, size: f64) -> i32 {
        let (exponent, fraction) = parts(size);
        let s = i128::from(fraction >> (FRACTION - USED));
        let cubic = 6 * s * s * s - ((21 * s * s) << USED) + ((50 * s) << (2 * USED));
        let logarithm = (i128::from(35 * exponent) << (3 * USED)) + cubic;
        let index = (logarithm * i128::from(self.0)) >> (3 * USED + 10);
        // At most 35 * 1075 * C / 1024 away from 0.
        index as i32
    }

    /// The least and the greatest positive, finite number whose index this is.
    fn bounds(self, index: i32) -> RangeInclusive<f64> {
        self.least(index)..=f64::from_bits(self.least(index + 1).to_bits() - 1)
    }

    /// The least positive number whose index is this or more; `inf` if there is none.
    fn least(self, index: i32) -> f64 {
        // Positive doubles are ordered like their bits.
        let (mut below, mut from) = (0, f64::INFINITY.to_bits());
        while below + 1 < from {
            let middle = below + (from - below) / 2;
            if self.index(f64::from_bits(middle)) < index { below = middle } else { from = middle }
        }
        f64::from_bits(from)
    }
}

/// `e` and the bits of `s` of a positive, finite number `2^e (1 + s)`.
fn parts(size: f64) -> (i32, u64) {
    let (exponent, fraction) = (size.to_bits() >> FRACTION, size.to_bits() & ((1 << FRACTION) - 1));
    if exponent > 0 {
        return (exponent as i32 - 1023, fraction);
    }
    // A subnormal number: its highest bit is the 1 of 1 + s.
    let shift = fraction.leading_zeros() - (u64::BITS - 1 - FRACTION);
    (-1022 - shift as i32, (fraction << shift) & ((1 << FRACTION) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::cases;
    use proptest::prelude::*;

    fn resolutions() -> [(f64, Resolution); 4] {
        let of = |error| (error, Resolution::of_error("f", error).unwrap());
        [(0.01, Resolution::DEFAULT), of(0.001), of(0.05), of(0.5)]
    }

    #[test]
    fn the_parts_of_a_number_make_the_number() {
        for size in [1.0, 1.5, 0.1, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.5e-323, 1e-310] {
            let (exponent, fraction) = parts(size);
            let one_and_s = 1.0 + fraction as f64 / (1_u64 << FRACTION) as f64;
            // In two steps, since 2^-1074 is 1 / 2^1074, which is no double.
            assert_eq!(one_and_s * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2), size);
        }
    }

    #[test]
    fn buckets_are_in_total_order() {
        let numbers = [-f64::NAN, f64::NEG_INFINITY, f64::MIN, -1.0, -5e-324, 0.0, 5e-324, 1e-300, 1.0, 5.0];
        let numbers: Vec<f64> = numbers.into_iter().chain([f64::MAX, f64::INFINITY, f64::NAN]).collect();
        for (_, resolution) in resolutions() {
            let buckets: Vec<i32> = numbers.iter().map(|&n| resolution.bucket(n)).collect();
            assert!(buckets.is_sorted_by(|a, b| a < b), "{buckets:?}");
            assert!(buckets.iter().all(|&b| resolution.has(b)));
            assert_eq!(resolution.bucket(-0.0), resolution.bucket(0.0));
            assert!(![1, -1, i32::MIN, 1 << 30].into_iter().any(|b| resolution.has(b)));
        }
    }

    #[test]
    fn an_error_that_no_resolution_has_is_refused() {
        assert!([0.0, 0.0009, 1.0, f64::NAN].iter().all(|&e| Resolution::of_error("f", e).is_err()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20 * cases()))]

        #[test]
        fn the_bounds_of_a_bucket_are_those_of_its_numbers(bits in 1_u64..f64::INFINITY.to_bits()) {
            let number = f64::from_bits(bits);
            for (_, resolution) in resolutions() {
                let index = resolution.index(number);
                let bounds = resolution.bounds(index);
                prop_assert!(bounds.contains(&number));
                prop_assert_eq!((resolution.index(*bounds.start()), resolution.index(*bounds.end())), (index, index));
                let next = f64::from_bits(bounds.end().to_bits() + 1);
                prop_assert!(next.is_infinite() || resolution.index(next) == index + 1 || next < 1e-300);
            }
        }

        #[test]
        fn the_middle_is_within_the_error_of_the_whole_bucket(
            bits in f64::MIN_POSITIVE.to_bits()..f64::INFINITY.to_bits(),
        ) {
            for (error, resolution) in resolutions() {
                let bucket = resolution.bucket(f64::from_bits(bits));
                let middle = resolution.middle(bucket);
                for number in [f64::from_bits(bits), *resolution.bounds(bucket - POSITIVE).start(),
                    *resolution.bounds(bucket - POSITIVE).end()] {
                    prop_assert!((middle - number).abs() <= error * number, "{middle} for {number}");
                }
                prop_assert_eq!(resolution.middle(resolution.bucket(-f64::from_bits(bits))), -middle);
            }
        }
    }
}
