//! What a run folds, in units: neighbouring segments of one partition, whose state is kept when it is finished.
//!
//! ```text
//! units(jobs below H)  =  a prefix of  units(jobs below H')       for H <= H', from the same beginning
//! ```
//!
//! So what was archived since a run was killed changes only its last unit of each partition.

use twofold_common::{Digest, Partition, Segment, View};

/// A unit ends when it has this many events…
const UNIT_ROWS: u64 = 1 << 17;
/// …or segments.
const UNIT_SEGMENTS: usize = 64;

/// A segment to fold.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) stream: String,
    pub(crate) partition: Partition,
    pub(crate) segment: Segment,
}

/// Segments that are folded one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) jobs: Vec<Job>,
    /// Under which name the finished unit is kept; `None` if it is not.
    pub(crate) keep: Option<Digest>,
}

/// Each segment for itself, nothing kept.
pub(crate) fn one_by_one(jobs: Vec<Job>) -> Vec<Work> {
    jobs.into_iter().map(|job| Work { jobs: vec![job], keep: None }).collect()
}

/// The units of `jobs`, which stand by stream, partition and offset. `run` names all else that a finished unit may be
/// taken for: a run of another kind, or after another batch view, has other names.
pub(crate) fn units(view: &View, run: &str, jobs: Vec<Job>) -> Vec<Work> {
    let mut units: Vec<Work> = Vec::new();
    for job in jobs {
        match units.last_mut().filter(|unit| belongs(unit, &job)) {
            Some(unit) => unit.jobs.push(job),
            None => units.push(Work { jobs: vec![job], keep: None }),
        }
    }
    for unit in &mut units {
        unit.keep = Some(id(view, run, &unit.jobs));
    }
    units
}

fn belongs(unit: &Work, job: &Job) -> bool {
    let rows: u64 = unit.jobs.iter().map(|job| job.segment.rows).sum();
    let follows = unit.jobs.last().is_some_and(|last| {
        (&last.stream, last.partition, last.segment.range.end)
            == (&job.stream, job.partition, job.segment.range.start)
    });
    follows && rows < UNIT_ROWS && unit.jobs.len() < UNIT_SEGMENTS
}

fn id(view: &View, run: &str, jobs: &[Job]) -> Digest {
    let mut parts = vec![view.name().as_bytes().to_vec(), view.fingerprint().as_bytes().to_vec(), run.into()];
    for Job { stream, partition, segment } in jobs {
        parts.push(format!("{stream} {partition} {} {} ", segment.range, segment.digest).into());
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use std::collections::BTreeMap;
    use twofold_common::{Offset, OffsetRange};

    fn job(stream: &str, partition: u32, start: u64, rows: u64) -> Job {
        let range = OffsetRange::new(Offset(start), Offset(start + 10));
        let (digest, path) = (Digest::of(&start.to_le_bytes()), String::new());
        let segment = Segment {
            range,
            rows,
            bytes: 1,
            digest,
            footer: None,
            path,
            watermark: None,
            states: BTreeMap::new(),
        };
        Job { stream: stream.into(), partition: Partition(partition), segment }
    }

    #[tokio::test]
    async fn units_are_neighbours_and_grow_only_at_their_end() {
        let world = World::new().await;
        let view = world.view();
        let jobs: Vec<Job> = (0..150).map(|n| job("a", 0, n * 10, 1)).collect();
        let whole = units(view, "run", jobs.clone());
        assert_eq!(whole.iter().map(|unit| unit.jobs.len()).collect::<Vec<_>>(), [64, 64, 22]);
        let part = units(view, "run", jobs[..100].to_vec());
        assert_eq!((part[0].keep, part[0].keep == part[1].keep), (whole[0].keep, false));
        assert_ne!(part[1].keep, whole[1].keep, "another unit, with fewer segments");
        assert_ne!(units(view, "another run", jobs)[0].keep, whole[0].keep);

        let apart = [job("a", 0, 0, 1), job("a", 0, 10, UNIT_ROWS), job("a", 0, 20, 1), job("a", 1, 0, 1)];
        let lengths = |units: Vec<Work>| units.iter().map(|unit| unit.jobs.len()).collect::<Vec<_>>();
        assert_eq!(lengths(units(view, "run", apart.to_vec())), [2, 1, 1]);
        assert_eq!(lengths(units(view, "run", vec![job("a", 0, 0, 1), job("a", 0, 20, 1)])), [1, 1]);
        assert_eq!(lengths(units(view, "run", vec![job("a", 0, 0, 1), job("b", 0, 10, 1)])), [1, 1]);
    }
}
