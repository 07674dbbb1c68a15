use super::*;
use crate::testing::{Held, World, wrong};
use twofold_common::Kind;

fn options(sample: Option<usize>, seed: u64) -> AuditOptions {
    AuditOptions { view: None, sample, seed, workers: 2 }
}

async fn audit(world: &World, options: AuditOptions) -> AuditReport {
    world.batch().audit(None, &options, &|_| {}).await.unwrap().remove(0)
}

#[tokio::test]
async fn all_segments_are_folded_again_without_any_batch_run() {
    let world = World::new().await;
    let meddle = |i: u64, state: State| match i {
        3 => None,
        5 => Some(wrong(&state)),
        _ => Some(state),
    };
    world.archive(0, 10, meddle).await;
    let report = audit(&world, options(None, 0)).await;
    assert_eq!((report.segments, report.of, report.without), (9, 10, 1));
    assert_eq!((report.audit.equal, report.audit.unequal.len()), (8, 1));
    assert_eq!(report.differences.len(), 1);
    assert!(report.unkept.is_none());
    let totals = world.batch_views.audits().totals("counts", &world.fingerprint()).await.unwrap().unwrap();
    assert_eq!((totals.equal, totals.unequal), (8, 1));
    assert!(world.batch_views.latest("counts", &world.fingerprint()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_sample_is_chosen_by_its_seed() {
    let world = World::new().await;
    world.archive(0, 30, |_, state| Some(state)).await;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (_, jobs) = world.batch().jobs(world.view()).await.unwrap();
        let drawn = |jobs: Vec<Job>| -> Vec<_> {
            sample(jobs, &options(Some(4), seed)).iter().map(|job| job.segment.range.start).collect()
        };
        let starts = drawn(jobs.clone());
        assert_eq!((starts.len(), &starts), (4, &drawn(jobs)));
        seen.extend(starts);
    }
    assert_eq!(seen.len(), 30, "every segment has its turn");
    assert_eq!(audit(&world, options(Some(4), 7)).await.segments, 4);
    assert_eq!(audit(&world, options(Some(99), 7)).await.segments, 30);
}

#[tokio::test]
async fn a_difference_is_explained_by_what_the_speed_layer_still_has() {
    let world = World::new().await;
    let mut segments = world.archive(0, 1, |_, state| Some(wrong(&state))).await;
    let report = audit(&world, options(None, 0)).await;
    let difference = &report.differences[0];
    let states = world.batch().states_of(world.view(), difference, None).await.unwrap();
    assert!(states.0.is_none(), "only the digest is known");
    let right = states.1.unwrap();
    let start = segments.remove(0).range.start;
    for (held, known) in [(wrong(&right), true), (right.clone(), false)] {
        let held = Held([(start, held)].into());
        let (found, _) = world.batch().states_of(world.view(), difference, Some(&held)).await.unwrap();
        assert_eq!(found.is_some(), known, "a state that was made again since is another one");
    }
}

#[tokio::test]
async fn a_damaged_segment_is_an_error_and_no_finding() {
    let world = World::new().await;
    let segments = world.archive(0, 2, |_, state| Some(state)).await;
    let bytes = world.store.get(&segments[1].path).await.unwrap();
    world.store.put(&segments[1].path, bytes.slice(..bytes.len() - 1)).await.unwrap();
    let e = world.batch().audit(None, &options(None, 0), &|_| {}).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt);
    assert_eq!(
        world
            .batch()
            .audit(None, &AuditOptions { view: Some("x".into()), ..options(None, 0) }, &|_| {})
            .await
            .unwrap_err()
            .kind(),
        Kind::NotFound
    );
}
