//! Variances, covariances, correlation and linear regression, each from exact sums with one rounding.
//!
//! With `n` values or pairs, and the co-moments without a division
//!
//! ```text
//! C(a, b) = n Σab - Σa Σb            an integer times a power of two: exact
//! ```
//!
//! | function | value | null if |
//! | --- | --- | --- |
//! | `var_pop`, `covar_pop` | `C / n²` | n = 0 |
//! | `var`, `covar_samp` | `C / (n (n - 1))` | n < 2 |
//! | `stddev_pop`, `stddev` | `sqrt(C / n²)`, `sqrt(C / (n (n - 1)))` | as above |
//! | `corr` | `± sqrt(C(x,y)² / (C(x,x) C(y,y)))` | n < 2, or x or y always the same |
//! | `regr_slope` | `C(x,y) / C(x,x)` | n < 2, or x always the same |
//! | `regr_intercept` | `(Σy C(x,x) - Σx C(x,y)) / (n C(x,x))` | as above |
//! | `regr_r2` | `C(x,y)² / (C(x,x) C(y,y))` | n < 2, or x or y always the same |
//! | `regr_sxx`, `regr_syy`, `regr_sxy` | `C / n` | n = 0 |
//! | `regr_avgx`, `regr_avgy` | `Σ / n` | n = 0 |
//! | `regr_count` | `n` | never |
//!
//! All are correctly rounded, so that a variance is never negative and a correlation never beyond ±1.
//!
//! With an infinity or NaN among the values, the value is NaN, as the engine's is wherever its own does not depend on
//! the order. So it is with `corr`, but that it is null where the sum of only one side is NaN; `regr_avgx` and
//! `regr_avgy` are what `avg` gives, which may be infinite.

use super::number::Exact;
use super::rational::Dyadic;

/// A sum that a statistic may need. The arguments are `(x)` or `(y, x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    X,
    Y,
    XX,
    YY,
    XY,
}

/// A function of the moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Statistic {
    VarSamp,
    VarPop,
    StddevSamp,
    StddevPop,
    CovarSamp,
    CovarPop,
    Corr,
    RegrSlope,
    RegrIntercept,
    RegrCount,
    RegrR2,
    RegrAvgX,
    RegrAvgY,
    RegrSxx,
    RegrSyy,
    RegrSxy,
}

/// The count and the sums of one group, in the order of [`Statistic::moments`].
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) statistic: Statistic,
    pub(super) n: u64,
    pub(super) sums: &'a [&'a Exact],
}

impl Statistic {
    /// The sums that it needs, in the order of its state's fields.
    pub(super) fn moments(self) -> &'static [Moment] {
        use Moment::{X, XX, XY, Y, YY};
        match self {
            Self::VarSamp | Self::VarPop | Self::StddevSamp | Self::StddevPop | Self::RegrSxx => &[X, XX],
            Self::CovarSamp | Self::CovarPop | Self::RegrSxy => &[X, Y, XY],
            Self::RegrSlope | Self::RegrIntercept => &[X, Y, XX, XY],
            Self::Corr | Self::RegrR2 => &[X, Y, XX, YY, XY],
            Self::RegrCount => &[],
            Self::RegrAvgX => &[X],
            Self::RegrAvgY => &[Y],
            Self::RegrSyy => &[Y, YY],
        }
    }

    /// How many arguments it takes.
    pub(super) fn arguments(self) -> usize {
        match self {
            Self::VarSamp | Self::VarPop | Self::StddevSamp | Self::StddevPop => 1,
            _ => 2,
        }
    }
}

impl Sample<'_> {
    /// The statistic's value, but for that of `regr_count`, which is `n`.
    pub(super) fn value(&self) -> Option<f64> {
        let n = self.n;
        match self.statistic {
            Statistic::VarPop | Statistic::CovarPop => (n > 0).then(|| self.spread(n)),
            Statistic::VarSamp | Statistic::CovarSamp => (n > 1).then(|| self.spread(n - 1)),
            Statistic::StddevPop => (n > 0).then(|| self.deviation(n)),
            Statistic::StddevSamp => (n > 1).then(|| self.deviation(n - 1)),
            Statistic::RegrSxx | Statistic::RegrSyy | Statistic::RegrSxy => (n > 0).then(|| self.spread(1)),
            Statistic::RegrAvgX => (n > 0).then(|| self.sum(Moment::X).over(n)),
            Statistic::RegrAvgY => (n > 0).then(|| self.sum(Moment::Y).over(n)),
            Statistic::RegrCount => Some(n as f64),
            Statistic::Corr => self.corr(),
            Statistic::RegrR2 => self.r2(),
            Statistic::RegrSlope => self.slope(),
            Statistic::RegrIntercept => self.intercept(),
        }
    }

    fn sum(&self, moment: Moment) -> &Exact {
        let at = self.statistic.moments().iter().position(|&m| m == moment);
        at.map(|at| self.sums[at]).expect("a statistic keeps the moments that it uses")
    }

    /// `n Σab - Σa Σb`, where `ab` is the moment of `a` and `b`.
    fn co_moment(&self, a: Moment, b: Moment, ab: Moment) -> Dyadic {
        let [a, b, ab] = [a, b, ab].map(|m| self.sum(m).finite());
        &(&ab * &Dyadic::integer(self.n)) - &(&a * &b)
    }

    fn xx(&self) -> Dyadic {
        self.co_moment(Moment::X, Moment::X, Moment::XX)
    }

    fn yy(&self) -> Dyadic {
        self.co_moment(Moment::Y, Moment::Y, Moment::YY)
    }

    fn xy(&self) -> Dyadic {
        self.co_moment(Moment::X, Moment::Y, Moment::XY)
    }

    /// The co-moment that the statistic is about.
    fn own(&self) -> Dyadic {
        match self.statistic.moments() {
            [Moment::X, Moment::XX] => self.xx(),
            [Moment::Y, Moment::YY] => self.yy(),
            _ => self.xy(),
        }
    }

    /// Whether a value of this side was infinite or NaN.
    fn wild(&self, side: Moment) -> bool {
        self.sum(side).special().is_some()
    }

    fn any_wild(&self) -> bool {
        self.sums.iter().any(|sum| sum.special().is_some())
    }

    /// The co-moment over `n` and `by`.
    fn spread(&self, by: u64) -> f64 {
        if self.any_wild() { f64::NAN } else { self.own().over(&self.n_times(by)) }
    }

    fn deviation(&self, by: u64) -> f64 {
        if self.any_wild() { f64::NAN } else { self.own().root_over(&self.n_times(by)) }
    }

    fn n_times(&self, by: u64) -> Dyadic {
        &Dyadic::integer(self.n) * &Dyadic::integer(by)
    }

    fn corr(&self) -> Option<f64> {
        let nan = |side| self.sum(side).special().is_some_and(f64::is_nan);
        match (nan(Moment::X), nan(Moment::Y)) {
            (true, true) => return Some(f64::NAN),
            (true, false) | (false, true) => return None,
            (false, false) if self.n < 2 => return None,
            (false, false) if self.any_wild() => return Some(f64::NAN),
            (false, false) => {}
        }
        let (xx, yy, xy) = (self.xx(), self.yy(), self.xy());
        if xx.is_zero() || yy.is_zero() {
            return None;
        }
        let strength = xy.squared().root_over(&(&xx * &yy));
        Some(if xy.is_negative() { -strength } else { strength })
    }

    fn r2(&self) -> Option<f64> {
        let flat = |side, spread: fn(&Self) -> Dyadic| !self.wild(side) && spread(self).is_zero();
        if self.n < 2 || flat(Moment::X, Self::xx) || flat(Moment::Y, Self::yy) {
            return None;
        }
        if self.any_wild() {
            return Some(f64::NAN);
        }
        Some(self.xy().squared().over(&(&self.xx() * &self.yy())))
    }

    fn slope(&self) -> Option<f64> {
        let xx = self.slanted()?;
        Some(if self.any_wild() { f64::NAN } else { self.xy().over(&xx) })
    }

    fn intercept(&self) -> Option<f64> {
        let xx = self.slanted()?;
        if self.any_wild() {
            return Some(f64::NAN);
        }
        let [x, y] = [Moment::X, Moment::Y].map(|side| self.sum(side).finite());
        let above = &(&y * &xx) - &(&x * &self.xy());
        Some(above.over(&(&xx * &Dyadic::integer(self.n))))
    }

    /// The spread of x, if there is a line through the points at all.
    fn slanted(&self) -> Option<Dyadic> {
        let xx = self.xx();
        (self.n > 1 && (self.wild(Moment::X) || !xx.is_zero())).then_some(xx)
    }
}
