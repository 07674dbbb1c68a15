//! A sum of doubles, of products of doubles or of integers, without any rounding.
//!
//! ```text
//! Exact = { mantissa * 2^exponent } ∪ { +inf, -inf, NaN }
//! value(add(x1), …, add(xn)) = x1 + … + xn        exactly, in any order
//! ```
//!
//! Most sums stay within 127 bits between their least and their greatest bit: they are one `i128` and an exponent,
//! and an addition is a shift and an add. What does not fit goes on in [`Limbs`], which grow with the range of the
//! exponents. Nothing overflows on the way: 1e308 + 1e308 - 1e308 is 1e308.
//!
//! Infinities and NaN are joined (`+inf` and `-inf` give NaN) and swallow the finite part, as they do in IEEE 754.
//!
//! How a sum came about is not part of it, but it is of the form in memory; so two equal sums are compared by their
//! [stored](super::stored) bytes.

use super::limbs::Limbs;
use super::rational::{Dyadic, round_scaled};
use num_bigint::BigInt;

/// An exact sum.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exact {
    /// Without `wide`: the sum is `mantissa * 2^exponent`.
    mantissa: i128,
    exponent: i32,
    special: Special,
    /// Whether anything was added, be it zero.
    seen: bool,
    /// The sum, once it needs more than 127 bits.
    wide: Option<Box<Limbs>>,
}

// Two groups to a cache line.
const _: () = assert!(size_of::<Exact>() == 32);

/// What a sum has met that is no number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Special {
    #[default]
    None = 0,
    Infinity = 1,
    NegativeInfinity = 2,
    NaN = 3,
}

impl Special {
    pub(super) fn of(value: f64) -> Self {
        match value {
            v if v.is_finite() => Self::None,
            v if v.is_nan() => Self::NaN,
            v if v > 0.0 => Self::Infinity,
            _ => Self::NegativeInfinity,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::None, Self::Infinity, Self::NegativeInfinity, Self::NaN].into_iter().find(|s| *s as u8 == byte)
    }

    /// The least that is both: commutative, associative, idempotent.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (a, b) if a == b => a,
            _ => Self::NaN,
        }
    }

    fn value(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Infinity => Some(f64::INFINITY),
            Self::NegativeInfinity => Some(f64::NEG_INFINITY),
            Self::NaN => Some(f64::NAN),
        }
    }
}

/// The exponent of a double's last bit, and its mantissa with its sign: `value = mantissa * 2^exponent`.
#[inline]
fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let biased = ((bits >> 52) & 0x7ff) as i32;
    let (mantissa, exponent) =
        if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    (if bits >> 63 == 0 { mantissa } else { -mantissa }, exponent)
}

/// The same without trailing zeros, so that products of short numbers are short.
fn short_parts(value: f64) -> (i64, i32) {
    let (mantissa, exponent) = parts(value);
    let zeros = if mantissa == 0 { 0 } else { mantissa.trailing_zeros() };
    (mantissa >> zeros, exponent + zeros as i32)
}

impl Exact {
    /// Adds a double. Returns by how many bytes on the heap the sum has grown.
    #[inline]
    pub(crate) fn add_f64(&mut self, value: f64) -> usize {
        self.seen = true;
        if !value.is_finite() {
            self.add_special(Special::of(value));
            return 0;
        }
        let (mantissa, exponent) = parts(value);
        // 53 bits and a shift of at most 72 fit 126 bits.
        let shift = exponent.wrapping_sub(self.exponent) as u32;
        if shift <= 72
            && self.wide.is_none()
            && let Some(sum) = self.mantissa.checked_add(i128::from(mantissa) << shift)
        {
            self.mantissa = sum;
            return 0;
        }
        self.add_slowly(i128::from(mantissa), exponent)
    }

    /// Adds the product of two doubles, which has up to 106 bits.
    #[inline]
    pub(crate) fn add_product(&mut self, x: f64, y: f64) -> usize {
        if !x.is_finite() || !y.is_finite() {
            return self.add_f64(x * y);
        }
        let ((x, i), (y, j)) = (short_parts(x), short_parts(y));
        self.add_scaled(i128::from(x) * i128::from(y), i + j)
    }

    /// Adds `mantissa * 2^exponent`.
    #[inline]
    pub(crate) fn add_scaled(&mut self, mantissa: i128, exponent: i32) -> usize {
        self.seen = true;
        if self.wide.is_none()
            && let Some(mantissa) = shifted(mantissa, exponent.wrapping_sub(self.exponent))
            && let Some(sum) = self.mantissa.checked_add(mantissa)
        {
            self.mantissa = sum;
            return 0;
        }
        self.add_slowly(mantissa, exponent)
    }

    /// Joins what is no number.
    pub(super) fn add_special(&mut self, special: Special) {
        self.seen = true;
        self.special = self.special.join(special);
    }

    #[inline(never)]
    fn add_slowly(&mut self, mantissa: i128, exponent: i32) -> usize {
        if mantissa == 0 {
            return 0;
        }
        let before = self.heap();
        if let Some(wide) = &mut self.wide {
            wide.add(mantissa, exponent);
        } else if !self.add_narrow(mantissa, exponent) {
            let mut wide = Limbs::default();
            wide.add(self.mantissa, self.exponent);
            wide.add(mantissa, exponent);
            self.wide = Some(Box::new(wide));
        }
        self.heap() - before
    }

    /// Adds within 127 bits, or says that it cannot.
    fn add_narrow(&mut self, mantissa: i128, exponent: i32) -> bool {
        if self.mantissa == 0 {
            (self.mantissa, self.exponent) = (mantissa, exponent);
            return true;
        }
        let base = self.exponent.min(exponent);
        let (Some(a), Some(b)) =
            (shifted(self.mantissa, self.exponent - base), shifted(mantissa, exponent - base))
        else {
            return false;
        };
        let Some(sum) = a.checked_add(b) else { return false };
        (self.mantissa, self.exponent) = (sum, base);
        true
    }

    /// Whether anything was added.
    pub(crate) fn seen(&self) -> bool {
        self.seen
    }

    /// Infinity or NaN, if the sum is no number.
    pub(crate) fn special(&self) -> Option<f64> {
        self.special.value()
    }

    /// The sum as limbs of two's complement, least first, and the exponent of the first bit. What is not wide is
    /// put into `narrow`.
    pub(super) fn limbs<'a>(&'a self, narrow: &'a mut [u64; 2]) -> (&'a [u64], i32) {
        match &self.wide {
            Some(wide) => (wide.as_slice(), wide.exponent()),
            None => {
                *narrow = [self.mantissa as u64, (self.mantissa >> 64) as u64];
                (narrow, self.exponent)
            }
        }
    }

    /// The finite part.
    pub(crate) fn finite(&self) -> Dyadic {
        match &self.wide {
            None => Dyadic::new(BigInt::from(self.mantissa), self.exponent.into()),
            Some(wide) => {
                let bytes: Vec<u8> = wide.as_slice().iter().flat_map(|limb| limb.to_le_bytes()).collect();
                Dyadic::new(BigInt::from_signed_bytes_le(&bytes), wide.exponent().into())
            }
        }
    }

    /// The sum, rounded once: to the nearest double, ties to the even one. A sum that is zero is `+0.0`.
    pub(crate) fn to_f64(&self) -> f64 {
        match (self.special.value(), &self.wide) {
            (Some(special), _) => special,
            (None, None) => {
                round_scaled(self.mantissa < 0, self.mantissa.unsigned_abs(), false, self.exponent.into())
            }
            (None, Some(_)) => self.finite().to_f64(),
        }
    }

    /// The sum over a count, rounded once.
    pub(crate) fn over(&self, count: u64) -> f64 {
        if let Some(special) = self.special.value() {
            return special;
        }
        if self.wide.is_some() {
            return self.finite().over(&Dyadic::integer(count));
        }
        if self.mantissa == 0 {
            return 0.0;
        }
        // With the first bit set the quotient has 64 bits or more, which is enough to round by.
        let magnitude = self.mantissa.unsigned_abs();
        let up = magnitude.leading_zeros();
        let (dividend, divisor) = (magnitude << up, u128::from(count));
        let rest = dividend % divisor != 0;
        round_scaled(self.mantissa < 0, dividend / divisor, rest, i64::from(self.exponent) - i64::from(up))
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| size_of::<Limbs>() + wide.heap())
    }
}

/// `mantissa * 2^up`, if it fits.
#[inline]
fn shifted(mantissa: i128, up: i32) -> Option<i128> {
    let spare = if mantissa < 0 { mantissa.leading_ones() } else { mantissa.leading_zeros() };
    let up = u32::try_from(up).ok().filter(|&up| up < spare)?;
    Some(mantissa << up)
}
