//! The wide form of an exact sum: two's complement in limbs of 64 bits, from the least exponent met to the greatest.
//!
//! ```text
//! value = Σ limb[i] * 2^(64 (low + i))        the last limb signed
//! ```
//!
//! It grows at both ends and never shrinks. Above the bits of what is added there is always one limb more, which an
//! addition changes by one at most: it would take 2^63 additions to overflow it.
//!
//! It is not minimal: that is what is [stored](super::stored).

/// A wide integer times a power of `2^64`.
#[derive(Debug, Clone, Default)]
pub(super) struct Limbs {
    limbs: Vec<u64>,
    low: i32,
}

impl Limbs {
    /// Adds `mantissa * 2^exponent`.
    pub(super) fn add(&mut self, mantissa: i128, exponent: i32) {
        let (low, up) = (exponent.div_euclid(64), exponent.rem_euclid(64) as u32);
        let at = self.reach(low);
        let sign = if mantissa < 0 { u64::MAX } else { 0 };
        let (a, b) = (mantissa as u64, (mantissa >> 64) as u64);
        let digits = if up == 0 {
            [a, b, sign]
        } else {
            [a << up, b << up | a >> (64 - up), sign << up | b >> (64 - up)]
        };
        let mut carry = false;
        for (i, limb) in self.limbs[at..].iter_mut().enumerate() {
            let digit = digits.get(i).copied().unwrap_or(sign);
            let (sum, over) = limb.overflowing_add(digit);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            carry = over || again;
            *limb = sum;
            // The digits that are left are all 0 or all 1: with the right carry they change nothing more.
            if i >= 2 && carry == (sign != 0) {
                break;
            }
        }
    }

    /// Makes room for three limbs from `low` upward and one more above them; returns where `low` is.
    fn reach(&mut self, low: i32) -> usize {
        if self.limbs.is_empty() {
            self.low = low;
        }
        if low < self.low {
            let below = (self.low - low) as usize;
            self.limbs.splice(0..0, std::iter::repeat_n(0, below));
            self.low = low;
        }
        let at = (low - self.low) as usize;
        if self.limbs.len() < at + 4 {
            let sign = self.sign();
            self.limbs.resize(at + 4, sign);
        }
        at
    }

    fn sign(&self) -> u64 {
        self.limbs.last().map_or(0, |&last| ((last as i64) >> 63) as u64)
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        &self.limbs
    }

    /// The exponent of the first bit.
    pub(super) fn exponent(&self) -> i32 {
        64 * self.low
    }

    pub(super) fn heap(&self) -> usize {
        self.limbs.capacity() * size_of::<u64>()
    }
}
