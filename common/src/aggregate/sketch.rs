//! Quantiles with a bounded relative error, from counts of numbers of about the same size (DDSketch: Masson, Rim,
//! Lee, VLDB 2019).
//!
//! A sketch is a count for each [bucket](super::bucket) that has a number in it, and the least and the greatest
//! number. Merging adds the counts; so a sketch is a function of the multiset of its numbers:
//!
//! ```text
//! sketch(A + B) = merge(sketch(A), sketch(B))
//! |quantile(q) - x| <= a |x|        for x, the number of rank q (n - 1) in the total order
//! ```
//!
//! where `a` is the relative error. Between two ranks it interpolates like `percentile_cont`; the error is then as
//! above if both numbers have the same sign. The least and the greatest number are exact. There is no bound on the
//! number of buckets but that of all doubles: about 73,000 of each sign for 1 %, of which a factor of 10 takes
//! 116.
//!
//! # Bytes
//!
//! | bytes   | what                                                                            |
//! | ------- | ------------------------------------------------------------------------------- |
//! | 1       | format: 1                                                                       |
//! | 4       | resolution, little endian                                                       |
//! | 8, 8    | least and greatest number, IEEE 754 little endian; no more follows if it is empty |
//! | each    | for each bucket, ascending: its number less that of the bucket before, which for the first is i32::MIN, and its count, both as [`super::varint`] |
//!
//! One multiset has one sequence of bytes; any other is refused.

use super::bucket::Resolution;
use super::function::damaged;
use super::varint;
use datafusion::error::Result;
use std::collections::BTreeMap;

const FORMAT: u8 = 1;

/// The counts of numbers by bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sketch {
    buckets: BTreeMap<i32, u64>,
    extremes: Option<(f64, f64)>,
}

impl Sketch {
    /// Adds a number so many times.
    pub(super) fn add(&mut self, resolution: Resolution, number: f64, count: u64) {
        if count > 0 {
            self.add_to(resolution.bucket(number), count);
            self.stretch(number, number);
        }
    }

    fn add_to(&mut self, bucket: i32, count: u64) {
        let so_far = self.buckets.entry(bucket).or_default();
        *so_far = so_far.saturating_add(count);
    }

    fn stretch(&mut self, least: f64, greatest: f64) {
        let (low, high) = self.extremes.unwrap_or((least, greatest));
        let low = if least.total_cmp(&low).is_lt() { least } else { low };
        let high = if greatest.total_cmp(&high).is_gt() { greatest } else { high };
        self.extremes = Some((low, high));
    }

    /// About how many bytes it holds.
    pub(super) fn size(&self) -> usize {
        2 * self.buckets.len() * size_of::<(i32, u64)>()
    }

    /// The number at `q` of the way from the least to the greatest, if there is any number. `middle` gives the middle
    /// of a bucket, which costs too much to be found anew for every sketch.
    pub(super) fn quantile(&self, q: f64, mut middle: impl FnMut(i32) -> f64) -> Option<f64> {
        let extremes = self.extremes?;
        let last = self.buckets.values().map(|&count| u128::from(count)).sum::<u128>() - 1;
        let place = q * last as f64;
        let low_rank = (place.floor() as u128).min(last);
        let high_rank = (place.ceil() as u128).min(last);
        let low = self.at(&mut middle, extremes, low_rank, last);
        let high = self.at(&mut middle, extremes, high_rank, last);
        if low.to_bits() == high.to_bits() {
            return Some(low);
        }
        let share = place - place.floor();
        Some(low * (1.0 - share) + high * share)
    }

    /// About the number of this rank.
    fn at(
        &self,
        middle: &mut impl FnMut(i32) -> f64,
        (least, greatest): (f64, f64),
        rank: u128,
        last: u128,
    ) -> f64 {
        if rank == 0 {
            return least;
        }
        if rank == last {
            return greatest;
        }
        let mut below = 0;
        for (&bucket, &count) in &self.buckets {
            below += u128::from(count);
            if rank < below {
                let middle = middle(bucket);
                let middle = if middle.total_cmp(&least).is_lt() { least } else { middle };
                return if middle.total_cmp(&greatest).is_gt() { greatest } else { middle };
            }
        }
        greatest
    }

    /// The bytes of this sketch.
    pub(super) fn write(&self, resolution: Resolution) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(resolution.bits().to_le_bytes());
        if let Some((least, greatest)) = self.extremes {
            bytes.extend(least.to_le_bytes());
            bytes.extend(greatest.to_le_bytes());
        }
        let mut before = i32::MIN;
        for (&bucket, &count) in &self.buckets {
            varint::write(&mut bytes, bucket.abs_diff(before).into());
            varint::write(&mut bytes, count);
            before = bucket;
        }
        bytes
    }

    /// Adds the sketch of which these are the bytes.
    pub(super) fn merge(&mut self, name: &str, resolution: Resolution, bytes: &[u8]) -> Result<()> {
        let other = Self::read(resolution, bytes).map_err(|found| damaged(name, found))?;
        for (&bucket, &count) in &other.buckets {
            self.add_to(bucket, count);
        }
        if let Some((least, greatest)) = other.extremes {
            self.stretch(least, greatest);
        }
        Ok(())
    }

    fn read(resolution: Resolution, mut bytes: &[u8]) -> Result<Self, String> {
        let bytes = &mut bytes;
        let [format] = fixed(bytes)?;
        if format != FORMAT {
            return Err(format!("expected format {FORMAT}, found {format}"));
        }
        let found = u32::from_le_bytes(fixed(bytes)?);
        if found != resolution.bits() {
            return Err(format!("expected a resolution of {}, found {found}", resolution.bits()));
        }
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (least, greatest) = (f64::from_le_bytes(fixed(bytes)?), f64::from_le_bytes(fixed(bytes)?));
        let sketch = Self { buckets: buckets(resolution, bytes)?, extremes: Some((least, greatest)) };
        let ends = [least, greatest].map(|number| Some(resolution.bucket(number)));
        let found = [sketch.buckets.first_key_value(), sketch.buckets.last_key_value()];
        if found.map(|entry| entry.map(|(&bucket, _)| bucket)) != ends || least.total_cmp(&greatest).is_gt() {
            return Err(format!("its buckets do not run from {least} to {greatest}"));
        }
        Ok(sketch)
    }
}

fn buckets(resolution: Resolution, bytes: &mut &[u8]) -> Result<BTreeMap<i32, u64>, String> {
    let mut buckets = BTreeMap::new();
    let mut before = i64::from(i32::MIN);
    while !bytes.is_empty() {
        let (step, count) = (varint::read(bytes)?, varint::read(bytes)?);
        let bucket = i64::try_from(step).ok().and_then(|step| before.checked_add(step));
        let known = bucket.and_then(|b| i32::try_from(b).ok()).filter(|&b| resolution.has(b));
        match (known, step, count) {
            (Some(bucket), 1.., 1..) => buckets.insert(bucket, count),
            _ => return Err(format!("it has no bucket {step} after {before} with {count} numbers")),
        };
        before += step as i64;
    }
    Ok(buckets)
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (front, rest) = bytes.split_first_chunk().ok_or("it is cut short")?;
    *bytes = rest;
    Ok(*front)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::cases;
    use proptest::prelude::*;

    const R: Resolution = Resolution::DEFAULT;

    fn middle(bucket: i32) -> f64 {
        R.middle(bucket)
    }

    fn sketch(numbers: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        numbers.iter().for_each(|&number| sketch.add(R, number, 1));
        sketch
    }

    /// Doubles of all sizes, more often such as data have.
    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => any::<f64>(),
            4 => -1000.0..1000.0_f64,
            2 => (-20_i32..20).prop_map(f64::from),
            1 => any::<u64>().prop_map(f64::from_bits),
            2 => prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY]),
        ]
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Sketch::default().quantile(0.5, middle), None);
    }

    #[test]
    fn the_ends_are_exact_and_what_is_between_is_close() {
        let sketch = sketch(&(1..=1000).map(f64::from).collect::<Vec<_>>());
        assert_eq!((sketch.quantile(0.0, middle), sketch.quantile(1.0, middle)), (Some(1.0), Some(1000.0)));
        let median = sketch.quantile(0.5, middle).unwrap();
        assert!((median - 500.5).abs() <= 5.005, "{median}");
    }

    #[test]
    fn numbers_that_are_none_stand_at_the_ends() {
        let sketch = sketch(&[f64::NAN, 1.0, f64::INFINITY, -f64::NAN, f64::NEG_INFINITY]);
        let at = |rank: f64| sketch.quantile(rank / 4.0, middle).unwrap();
        assert!(at(0.0).is_nan() && at(4.0).is_nan());
        assert_eq!((at(1.0), at(3.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!((at(2.0) - 1.0).abs() <= 0.01);
    }

    #[test]
    fn counts_stay_at_the_most_that_there_is() {
        let mut sketch = sketch(&[1.0]);
        sketch.add(R, 1.0, u64::MAX);
        sketch.add(R, 2.0, u64::MAX);
        assert!(sketch.quantile(0.25, middle).unwrap() < 1.5);
        sketch.clone().merge("f", R, &sketch.write(R)).unwrap();
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let good = sketch(&[-3.0, 0.0, 2.0]).write(R);
        let mut other = Sketch::default();
        for end in (0..good.len()).filter(|&end| end != 5) {
            assert!(other.merge("f", R, &good[..end]).is_err(), "cut at {end}");
        }
        // All but the extremes, whose last bits nothing else tells.
        for place in (0..5).chain(21..good.len()) {
            let mut bad = good.clone();
            bad[place] ^= 0x90;
            assert!(other.merge("f", R, &bad).is_err(), "changed at {place}");
        }
        assert_eq!(other, Sketch::default());
        let error = other.merge("approx_median", R, &[2]).unwrap_err().to_string();
        assert!(error.contains("state of approx_median: expected format 1, found 2"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10 * cases()))]

        #[test]
        fn a_quantile_is_within_the_error(
            numbers in proptest::collection::vec(number(), 1..60),
            rank in any::<prop::sample::Index>(),
        ) {
            let mut sorted = numbers.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = rank.index(sorted.len());
            let truth = sorted[rank];
            let least = sorted[0];
            let last = sorted.len() as u128 - 1;
            let found = sketch(&numbers).at(&mut middle, (least, sorted[last as usize]), rank as u128, last);
            if truth.is_nan() || truth.is_infinite() {
                prop_assert_eq!(found.total_cmp(&truth).is_eq() || found.is_nan() && truth.is_nan(), true);
            } else if truth.is_normal() {
                prop_assert!((found - truth).abs() <= 0.01 * truth.abs(), "{} for {}", found, truth);
            } else {
                prop_assert!(found.abs() <= 2.3e-308);
            }
        }

        #[test]
        fn any_order_and_bracketing_gives_the_same_bytes(
            numbers in proptest::collection::vec(number(), 0..60),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = sketch(&numbers).write(R);
            let (a, b) = numbers.split_at(cut.index(numbers.len() + 1));
            let mut merged = Sketch::default();
            for part in [b, a] {
                merged.merge("f", R, &sketch(part).write(R)).unwrap();
            }
            prop_assert_eq!(merged.write(R), whole.clone());
            let backwards: Vec<f64> = numbers.iter().rev().copied().collect();
            prop_assert_eq!(sketch(&backwards).write(R), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), head in any::<bool>()) {
            let mut all = if head { sketch(&[-1.0, 5.0]).write(R) } else { Vec::new() };
            all.extend(bytes);
            let mut sketch = Sketch::default();
            if sketch.merge("f", R, &all).is_ok() {
                prop_assert_eq!(sketch.write(R), all);
                sketch.quantile(0.3, middle);
            }
        }
    }
}
