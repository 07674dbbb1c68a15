//! Mutations of valid inputs, all drawn from a seed.

use twofold_nexmark::Rng;

/// The largest input that is made.
const MOST: usize = 64 << 10;
/// Numbers that lengths, offsets and counts are replaced with.
const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
/// What takes the place of a run of digits.
const DIGITS: [&str; 7] =
    ["0", "-1", "4294967295", "9223372036854775807", "18446744073709551616", "1e308", "1e999999999"];

/// Makes inputs out of valid ones.
pub struct Mutator<'a> {
    rng: Rng,
    valid: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, valid: &'a [Vec<u8>]) -> Self {
        Self { rng: Rng::new(seed, 3, 0), valid }
    }

    /// One more input: a valid one with a few things wrong.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.some_valid();
        for _ in 0..1 + self.rng.below(4) {
            self.mutate(&mut input);
            input.truncate(MOST);
        }
        input
    }

    fn some_valid(&mut self) -> Vec<u8> {
        self.valid[self.rng.below(self.valid.len() as u64) as usize].clone()
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.below(input.len() as u64 + 1) as usize;
        let len = self.rng.pick(&[1, 2, 4, 16, 256]).min(input.len() - at);
        match self.rng.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.rng.below(8),
            1 if at < input.len() => input[at] = self.rng.below(256) as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(at..at + len)),
            // A piece of another valid input, or of this one, again.
            4 => {
                let other = self.some_valid();
                let from = self.rng.below(other.len() as u64 + 1) as usize;
                let piece = other[from..other.len().min(from + 256)].to_vec();
                drop(input.splice(at..at + len, piece));
            }
            5 => {
                let piece = input[at..at + len].to_vec();
                let times = self.rng.pick(&[2, 10, 1000]);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            // A field of four or eight bytes that is huge.
            6 | 7 => {
                let number = self.rng.pick(&NUMBERS).to_le_bytes();
                let width = self.rng.pick(&[1, 2, 4, 8]).min(input.len() - at);
                input[at..at + width].copy_from_slice(&number[..width]);
            }
            _ => self.replace_digits(input, at),
        }
    }

    /// Puts another number in the place of the first one at or behind `at`.
    fn replace_digits(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = (at..input.len()).find(|i| input[*i].is_ascii_digit()) else { return };
        let end = (start..input.len()).find(|i| !input[*i].is_ascii_digit()).unwrap_or(input.len());
        drop(input.splice(start..end, self.rng.pick(&DIGITS).bytes()));
    }
}
