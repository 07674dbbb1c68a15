//! Arithmetic on exact sums, up to the one rounding at its end.
//!
//! ```text
//! a.over(b)      = round(a / b)
//! a.root_over(b) = round(sqrt(a / b))
//! ```
//!
//! Both are correctly rounded: to the nearest double, ties to the even one, subnormal numbers and the overflow to
//! infinity included. So equal sums have equal values, whatever was added in which order.

use num_bigint::{BigInt, BigUint, Sign};
use std::ops::{Mul, Sub};

/// `mantissa * 2^exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Dyadic {
    mantissa: BigInt,
    exponent: i64,
}

impl Dyadic {
    pub(crate) fn new(mantissa: BigInt, exponent: i64) -> Self {
        Self { mantissa, exponent }
    }

    pub(crate) fn integer(value: u64) -> Self {
        Self::new(BigInt::from(value), 0)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.mantissa.sign() == Sign::NoSign
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }

    /// Without trailing zeros, which would only make the numbers longer.
    fn odd(mut self) -> Self {
        if let Some(zeros) = self.mantissa.trailing_zeros().filter(|&zeros| zeros > 0) {
            self.mantissa >>= zeros;
            self.exponent += zeros as i64;
        }
        self
    }

    /// The mantissa at this exponent, which must not be above the own one.
    fn scaled_to(&self, exponent: i64) -> BigInt {
        &self.mantissa << (self.exponent - exponent) as u64
    }

    pub(crate) fn squared(&self) -> Self {
        self * self
    }

    /// The integer that this is, if it is one.
    pub(crate) fn to_integer(&self) -> Option<BigInt> {
        let odd = self.clone().odd();
        match u64::try_from(odd.exponent) {
            Ok(up) => Some(odd.mantissa << up),
            Err(_) if odd.is_zero() => Some(odd.mantissa),
            Err(_) => None,
        }
    }

    /// The nearest double.
    pub(crate) fn to_f64(&self) -> f64 {
        let magnitude = self.mantissa.magnitude();
        let down = magnitude.bits().saturating_sub(128);
        let rest = magnitude.trailing_zeros().is_some_and(|zeros| zeros < down);
        let (top, exponent) = (low_128(&(magnitude >> down)), self.exponent + down as i64);
        round_scaled(self.is_negative(), top, rest, exponent)
    }

    /// The nearest double to `self / by`. Zero over anything is zero; `by` must not be zero.
    pub(crate) fn over(&self, by: &Self) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        let (quotient, rest, exponent) = self.divide(by, 66);
        let negative = self.is_negative() != by.is_negative();
        round_scaled(negative, low_128(&quotient), rest, exponent)
    }

    /// The nearest double to the square root of `self / by`. Both must be positive, or `self` zero.
    pub(crate) fn root_over(&self, by: &Self) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        // The root of 132 bits or more has 66 or more, and the root of the whole part is the whole part of the root.
        let (quotient, rest, exponent) = self.divide(by, 132);
        let root = quotient.sqrt();
        let rest = rest || root.pow(2) != quotient;
        round_scaled(false, low_128(&root), rest, exponent / 2)
    }

    /// `|self / by|` as a whole number of at least this many bits times 2 to an even power, and whether there is a
    /// rest.
    fn divide(&self, by: &Self, bits: i64) -> (BigUint, bool, i64) {
        let (dividend, divisor) = (self.mantissa.magnitude(), by.mantissa.magnitude());
        let mut up = (bits + 1 - dividend.bits() as i64 + divisor.bits() as i64).max(0);
        let exponent = self.exponent - by.exponent;
        up += (exponent - up).rem_euclid(2);
        let dividend = dividend << up as u64;
        let quotient = &dividend / divisor;
        let rest = &quotient * divisor != dividend;
        // A long dividend gives a long quotient: what is below the bits that are wanted is a rest too.
        let down = (quotient.bits() as i64 - bits - 1).max(0) & !1;
        let cut = quotient.trailing_zeros().is_some_and(|zeros| (zeros as i64) < down);
        (quotient >> down as u64, rest || cut, exponent - up + down)
    }
}

impl Mul for &Dyadic {
    type Output = Dyadic;

    fn mul(self, by: &Dyadic) -> Dyadic {
        Dyadic::new(&self.mantissa * &by.mantissa, self.exponent + by.exponent).odd()
    }
}

impl Sub for &Dyadic {
    type Output = Dyadic;

    fn sub(self, other: &Dyadic) -> Dyadic {
        let base = self.exponent.min(other.exponent);
        Dyadic::new(self.scaled_to(base) - other.scaled_to(base), base).odd()
    }
}

/// The last 128 bits, which are all that there are where this is used.
fn low_128(value: &BigUint) -> u128 {
    let mut digits = value.iter_u64_digits();
    let low = digits.next().unwrap_or(0);
    u128::from(low) | u128::from(digits.next().unwrap_or(0)) << 64
}

/// The double nearest to `±(magnitude + r) * 2^exponent`, ties to the even one, where `r` is zero without `rest`
/// and strictly between 0 and 1 with it. With `rest`, `magnitude` must have 55 bits or more.
pub(super) fn round_scaled(negative: bool, magnitude: u128, rest: bool, exponent: i64) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    let bits = i64::from(128 - magnitude.leading_zeros());
    // The exponent of the last bit that a double of this size has.
    let last = (exponent + bits - 53).max(-1074);
    let mantissa = match last - exponent {
        up @ ..=0 => (magnitude << -up) as u64,
        // Above the first bit there is at least one zero more: less than half.
        129.. => 0,
        down => {
            let down = down as u32;
            let kept = magnitude.checked_shr(down).unwrap_or(0) as u64;
            let half = magnitude >> (down - 1) & 1 == 1;
            let more = rest || magnitude & ((1 << (down - 1)) - 1) != 0;
            kept + u64::from(half && (more || kept & 1 == 1))
        }
    };
    // A mantissa that was rounded up to 2^53 carries into the exponent, as it should.
    let magnitude = match mantissa {
        0..0x10_0000_0000_0000 => mantissa,
        _ if last > 971 => f64::INFINITY.to_bits(),
        _ => (((last + 1075) as u64) << 52) + (mantissa - (1 << 52)),
    };
    f64::from_bits(magnitude | u64::from(negative) << 63)
}
