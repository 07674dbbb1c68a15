//! A small generator of pseudo-random numbers: splitmix64 (Steele, Lea and Flood, 2014).
//!
//! Its sequence is a function of the seed alone. It is not for secrets.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The sequence for the `n`-th thing of a kind: sequences of neighbours have nothing to do with each other.
    pub fn new(seed: u64, kind: u64, n: u64) -> Self {
        let kind = mix(seed.wrapping_add(kind.wrapping_mul(GOLDEN)));
        Self(mix(kind.wrapping_add(n.wrapping_mul(GOLDEN))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// One of `0..bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: as even as the number of bits allows.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `choices`, which are not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// `length` letters, now and then a space instead if `spaces`.
    pub fn text(&mut self, length: u64, spaces: bool) -> String {
        let letter = |rng: &mut Self| match rng.below(if spaces { 28 } else { 26 }) {
            n @ 0..26 => char::from(b'a' + n as u8),
            _ => ' ',
        };
        (0..length).map(|_| letter(self)).collect()
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 0 that the algorithm's authors publish.
    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let mut rng = Rng(0);
        assert_eq!([rng.next(), rng.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn a_number_below_a_bound_is_any_of_them() {
        let mut rng = Rng(1);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[rng.below(5) as usize] += 1);
        assert!(seen.iter().all(|&n| (150..250).contains(&n)), "{seen:?}");
    }
}
