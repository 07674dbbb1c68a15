//! Fractions of whole numbers, and what it means for a double to be the nearest to one.

use num_bigint::{BigInt, Sign};

/// `top / bottom`, the bottom positive.
#[derive(Debug, Clone)]
pub(super) struct Fraction {
    pub(super) top: BigInt,
    pub(super) bottom: BigInt,
}

/// A finite double as a whole number of 2^-1074.
pub(super) fn units(x: f64) -> BigInt {
    let (exponent, fraction) = ((x.to_bits() >> 52) & 0x7ff, x.to_bits() & ((1 << 52) - 1));
    let size = if exponent == 0 {
        BigInt::from(fraction)
    } else {
        BigInt::from(fraction + (1 << 52)) << (exponent - 1)
    };
    if x.is_sign_negative() { -size } else { size }
}

/// One in the same units.
pub(super) fn unit() -> BigInt {
    BigInt::from(1) << 1074
}

impl Fraction {
    pub(super) fn new(top: BigInt, bottom: BigInt) -> Self {
        if bottom.sign() == Sign::Minus { Self { top: -top, bottom: -bottom } } else { Self { top, bottom } }
    }

    pub(super) fn of(x: f64) -> Self {
        Self::new(units(x), unit())
    }

    pub(super) fn whole(n: u64) -> Self {
        Self::new(n.into(), 1.into())
    }

    pub(super) fn plus(&self, o: &Self) -> Self {
        Self::new(&self.top * &o.bottom + &o.top * &self.bottom, &self.bottom * &o.bottom).short()
    }

    pub(super) fn minus(&self, o: &Self) -> Self {
        self.plus(&Self::new(-&o.top, o.bottom.clone()))
    }

    pub(super) fn times(&self, o: &Self) -> Self {
        Self::new(&self.top * &o.top, &self.bottom * &o.bottom).short()
    }

    pub(super) fn over(&self, o: &Self) -> Self {
        self.times(&Self::new(o.bottom.clone(), o.top.clone()))
    }

    pub(super) fn sum(of: impl Iterator<Item = Self>) -> Self {
        of.fold(Self::whole(0), |a, b| a.plus(&b))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.top.sign() == Sign::NoSign
    }

    pub(super) fn is_negative(&self) -> bool {
        self.top.sign() == Sign::Minus
    }

    /// Without common powers of two: the others do no harm.
    fn short(self) -> Self {
        let zeros = |x: &BigInt| x.trailing_zeros().unwrap_or(u64::MAX);
        let both = zeros(&self.top).min(zeros(&self.bottom));
        Self { top: self.top >> both, bottom: self.bottom >> both }
    }

    fn is_below(&self, o: &Self) -> bool {
        &self.top * &o.bottom < &o.top * &self.bottom
    }

    fn squared(&self) -> Self {
        self.times(self)
    }
}

/// The midpoints between `|x|` and its neighbours; beyond infinity there is room for all.
fn around(x: f64) -> (Fraction, Fraction) {
    let beyond = |x: f64| if x.is_infinite() { BigInt::from(1) << (1074 + 1024) } else { units(x) };
    let x = x.abs();
    let two: BigInt = unit() * 2;
    let below = if x == 0.0 { -units(5e-324) } else { beyond(x.next_down()) };
    let above = if x.is_infinite() { BigInt::from(1) << (1074 + 9000) } else { beyond(x.next_up()) };
    (Fraction::new(below + beyond(x), two.clone()), Fraction::new(beyond(x) + above, two))
}

fn between(x: f64, (low, high): (Fraction, Fraction), exact: &Fraction) -> bool {
    let even = x.is_infinite() || x.to_bits() & 1 == 0;
    let below = if even { exact.is_below(&low) } else { !low.is_below(exact) };
    let above = if even { high.is_below(exact) } else { !exact.is_below(&high) };
    !below && !above
}

/// Whether `x` is the double nearest to `exact`, ties to the even one, and zero positive where `exact` is zero.
pub(super) fn is_nearest(x: f64, exact: &Fraction) -> bool {
    if x.is_nan() || exact.is_negative() != x.is_sign_negative() {
        return false;
    }
    let size = if exact.is_negative() { Fraction::whole(0).minus(exact) } else { exact.clone() };
    between(x, around(x), &size)
}

/// Whether `x` is the double nearest to the square root of `square`.
pub(super) fn is_nearest_root(x: f64, square: &Fraction) -> bool {
    let (low, high) = around(x);
    let low = if low.is_negative() { low } else { low.squared() };
    !x.is_nan() && !x.is_sign_negative() && between(x, (low, high.squared()), square)
}
