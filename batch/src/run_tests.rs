use super::*;
use crate::testing::{Held, World, wrong};
use arrow::compute::concat_batches;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use twofold_common::{Audited, Partition, State, Store};

fn same(_: u64, state: State) -> Option<State> {
    Some(state)
}

/// Runs batch until so many units are folded, and kills it then.
async fn kill_after(world: &World, full: bool, units: usize) {
    let (reached, count) = (Notify::new(), AtomicUsize::new(0));
    let progress = |_: Progress| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == units {
            reached.notify_one();
        }
    };
    let batch = world.batch();
    let options = Options { full, view: None, workers: 1 };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        ended = batch.run(&options, &progress) => panic!("it ended before it was killed: {ended:?}"),
    }
    // A worker finishes what it is at, and sees then that nobody waits for it.
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn version(world: &World) -> Option<u64> {
    world.batch_views.latest("counts", &world.fingerprint()).await.unwrap().map(|found| found.version)
}

async fn units_left(world: &World) -> usize {
    let objects = world.store.list("views").await.unwrap();
    objects.iter().filter(|object| object.path.ends_with(".unit")).count()
}

async fn told(world: &World) -> Option<twofold_common::BatchProgress> {
    world.batch_views.progress("counts", &world.fingerprint()).await.unwrap()
}

#[tokio::test]
async fn the_newest_batch_views_are_told_with_the_time_that_they_took() {
    let world = World::new().await;
    for _ in 0..4 {
        world.archive(0, 1, same).await;
        world.run(false, None).await;
    }
    world.run(true, None).await;
    let history = async |n| world.batch_views.history("counts", &world.fingerprint(), n).await.unwrap();
    let versions = |found: &[Versioned<BatchManifest>]| found.iter().map(|m| m.version).collect::<Vec<_>>();
    assert_eq!(versions(&history(3).await), [5, 4, 3]);
    let all = history(16).await;
    assert_eq!(versions(&all), [5, 4, 3, 2, 1]);
    assert_eq!((all[0].body.mode.as_str(), all[1].body.mode.as_str()), ("full", "incremental"));
    assert!(all.iter().all(|m| m.body.started.is_some_and(|started| started < m.body.created)));
    assert!(world.batch_views.history("counts", "another", 3).await.unwrap().is_empty());
}

async fn digests(world: &World) -> Vec<Digest> {
    world.batch_views.latest("counts", &world.fingerprint()).await.unwrap().unwrap().body.state_digests
}

/// The state digests of the same events in a store of their own, by one run that nobody disturbed.
async fn undisturbed(segments: &[u64]) -> Vec<Digest> {
    let world = World::new().await;
    for (partition, n) in segments.iter().enumerate() {
        world.archive(partition as u32, *n, same).await;
    }
    assert_eq!(world.run(false, None).await.resumed, 0);
    digests(&world).await
}

#[tokio::test]
async fn a_killed_run_leaves_nothing_visible_and_the_next_one_goes_on_from_its_units() {
    for full in [false, true] {
        let world = World::new().await;
        let before = if full {
            world.archive(0, 1, same).await;
            world.run(false, None).await;
            1
        } else {
            0
        };
        world.archive(0, 200 - before, same).await;
        world.archive(1, 70, same).await;
        let was = version(&world).await;
        kill_after(&world, full, 2).await;
        assert_eq!(version(&world).await, was, "nothing is visible");
        // The worker may have finished one more before it noticed.
        assert!(units_left(&world).await >= 2);
        let told = told(&world).await.unwrap();
        let mode = if full { "full" } else { "incremental" };
        assert_eq!((told.mode.as_str(), told.total), (mode, 270), "how far it was stays to be seen");
        assert!((1..=270).contains(&told.done), "{told:?}");
        assert_eq!(told.events, told.done * crate::testing::ROWS);

        // What is resumed is not even read: its files could be gone.
        let first = &world.archive.manifest("clicks").await.unwrap().unwrap().body.segments[&Partition(0)]
            [before as usize];
        let bytes = world.store.get(&first.path).await.unwrap();
        world.store.delete(&first.path).await.unwrap();
        let report = world.run(full, None).await;
        assert!(matches!(report.outcome, Outcome::Published(_)) && report.agrees(), "{report:?}");
        assert_eq!(report.segments, 270);
        assert!((65..=200).contains(&report.resumed), "{} segments resumed", report.resumed);
        assert_eq!(report.audit.equal, 270, "what was compared before it was killed counts");
        assert_eq!(units_left(&world).await, 0, "they go when all is published");
        assert_eq!(self::told(&world).await, None, "and so does what was told");
        world.store.put(&first.path, bytes).await.unwrap();
        assert_eq!(digests(&world).await, undisturbed(&[200, 70]).await);
    }
}

#[tokio::test]
async fn what_a_killed_run_left_half_written_is_folded_again() {
    let world = World::new().await;
    world.archive(0, 200, same).await;
    kill_after(&world, false, 2).await;
    let objects = world.store.list("views").await.unwrap();
    let mut units: Vec<_> = objects.into_iter().filter(|object| object.path.ends_with(".unit")).collect();
    // One is cut short, one is another one's.
    let (second, first) = (units.pop().unwrap(), units.pop().unwrap());
    let bytes = world.store.get(&first.path).await.unwrap();
    world.store.put(&second.path, bytes.clone()).await.unwrap();
    world.store.put(&first.path, bytes.slice(..bytes.len() / 2)).await.unwrap();
    for other in units {
        world.store.delete(&other.path).await.unwrap();
    }
    let report = world.run(false, None).await;
    assert_eq!((report.resumed, report.segments), (0, 200));
    assert_eq!(digests(&world).await, undisturbed(&[200]).await);
    assert_eq!(units_left(&world).await, 0);
}

#[tokio::test]
async fn a_run_takes_only_what_its_own_kind_finished_over_the_same_batch_view() {
    let world = World::new().await;
    world.archive(0, 200, same).await;
    kill_after(&world, false, 2).await;
    assert_eq!(world.run(true, None).await.resumed, 0, "a full run folds from raw");
    world.archive(0, 200, same).await;
    kill_after(&world, true, 2).await;
    assert_eq!(world.run(false, None).await.resumed, 0);
    assert_eq!(world.run(true, None).await.resumed, 0, "a batch view was published since");
}

#[tokio::test]
async fn what_was_archived_meanwhile_is_folded_besides() {
    let world = World::new().await;
    world.archive(0, 130, same).await;
    kill_after(&world, false, 2).await;
    world.archive(0, 20, same).await;
    world.archive(1, 3, same).await;
    let report = world.run(false, None).await;
    assert_eq!((report.segments, report.resumed), (153, 128));
    assert_eq!(digests(&world).await, undisturbed(&[150, 3]).await);
}

/// Runs several at once, of this process or of several over one store: what became of them.
async fn at_once(worlds: &[World]) -> Vec<Outcome> {
    let reports = worlds.iter().map(|world| world.run(false, None));
    futures::future::join_all(reports).await.into_iter().map(|report| report.outcome).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_runs_at_once_one_publishes_and_the_others_say_so() {
    let dir = tempfile::tempdir().unwrap();
    for shared in [false, true] {
        let open = || if shared { Store::open("store", dir.path()).unwrap() } else { Store::memory() };
        let first = World::over(open()).await;
        first.archive(0, 100, same).await;
        let mut worlds = vec![];
        for _ in 0..2 {
            // Over one store: a handle of its own, as another process has.
            worlds.push(World::over(if shared { open() } else { first.store.clone() }).await);
        }
        worlds.push(first);
        let outcomes = at_once(&worlds).await;
        let published = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Published(1))).count();
        assert_eq!(published, 1, "{outcomes:?}");
        let quiet = outcomes.iter().filter(|o| matches!(o, Outcome::Lost | Outcome::UpToDate)).count();
        assert_eq!(quiet, 2, "{outcomes:?}");
        assert_eq!(digests(&worlds[0]).await, undisturbed(&[100]).await);
        assert_eq!(units_left(&worlds[0]).await, 0);
    }
}

#[tokio::test]
async fn a_run_that_was_overtaken_says_that_another_was_first() {
    let world = World::new().await;
    world.archive(0, 3, same).await;
    let options = Options { full: false, view: None, workers: 1 };
    // Another run publishes while this one has folded and not published yet.
    let (batch, other) = (world.batch(), world.batch());
    let overtake = |_: Progress| {
        let other = other.clone();
        let options = options.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(other.run(&options, &|_| {})).unwrap().remove(0).outcome
        });
        assert_eq!(thread.join().unwrap(), Outcome::Published(1));
    };
    let report = batch.run(&options, &overtake).await.unwrap().remove(0);
    assert_eq!(report.outcome, Outcome::Lost);
    assert_eq!(version(&world).await, Some(1));
}

#[tokio::test]
async fn a_difference_is_found_with_both_states_and_does_not_go_away() {
    let world = World::new().await;
    let meddle = |i: u64, state: State| Some(if i == 1 { wrong(&state) } else { state });
    let segments = world.archive(0, 3, meddle).await;
    let held = Held::default();
    let report = world.run(false, Some(&held)).await;
    assert!(!report.agrees());
    let [difference] = &report.differences[..] else { panic!("{report:?}") };
    let range = segments[1].range;
    assert_eq!(
        difference.audited,
        Audited::Segment { stream: "clicks".into(), partition: Partition(0), range }
    );
    assert!(difference.kept.found.is_none(), "nobody has the speed layer's state");
    assert!(difference.kept.batch.is_some());

    // A full run finds it again, and now the speed layer has its state.
    let cut = &world.view().cuts()[0];
    let right = world.batch_views.audits().kept(difference.kept.batch.as_ref().unwrap(), cut).await.unwrap();
    assert_eq!(right.digest().unwrap(), difference.batch);
    let held = Held([(range.start, wrong(&right))].into());
    let report = world.run(true, Some(&held)).await;
    assert_eq!((report.audit.unequal.len(), report.equals_incremental), (1, Some(true)));
    let findings = world.batch_views.audits().findings("counts", &world.fingerprint()).await.unwrap();
    assert_eq!(findings.len(), 4, "three segments and the batch view");
    let kept: Vec<_> = findings.iter().filter(|f| f.equal() == Some(false)).collect();
    let (found, batch) = world.batch().states_of(world.view(), kept[0], None).await.unwrap();
    assert_eq!(found.unwrap().digest().unwrap(), wrong(&right).digest().unwrap());
    assert_eq!(batch.unwrap().digest().unwrap(), right.digest().unwrap());
}

#[tokio::test]
async fn a_full_run_that_differs_is_found_and_the_rows_that_differ_are_kept() {
    let world = World::new().await;
    world.archive(0, 3, same).await;
    world.run(false, None).await;
    // As if the incremental run had published something else.
    let fingerprint = world.fingerprint();
    let last = world.batch_views.latest("counts", &fingerprint).await.unwrap().unwrap();
    let mut body = last.body.clone();
    let cut = &world.view().cuts()[0];
    let rows = world.batch_views.read_state(&body.cuts[0][0]).await.unwrap();
    let other = wrong(&State::from_rows(cut.schema(), cut.keys(), &rows).unwrap());
    let file = world.batch_views.write_state("counts", &fingerprint, 0, 0, other.batch()).await.unwrap();
    body.cuts[0] = vec![file];
    body.state_digests[0] = other.digest().unwrap();
    world.batch_views.publish(Some(last.version), &body).await.unwrap();

    let report = world.run(true, None).await;
    assert_eq!((report.equals_incremental, report.agrees()), (Some(false), false));
    let [difference] = &report.differences[..] else { panic!("{report:?}") };
    assert_eq!((&difference.audited, difference.run), (&Audited::BatchView, AuditRun::Full));
    let (found, batch) = world.batch().states_of(world.view(), difference, None).await.unwrap();
    assert_eq!((found.unwrap().rows(), batch.unwrap().rows()), (1, 1), "only the rows that differ");
    assert_eq!(digests(&world).await, last.body.state_digests, "the full run wins");
    let totals = world.batch_views.audits().totals("counts", &fingerprint).await.unwrap().unwrap();
    assert_eq!((totals.equal, totals.unequal), (3, 1));
    assert_eq!(world.run(true, None).await.equals_incremental, Some(true));
    let totals = world.batch_views.audits().totals("counts", &fingerprint).await.unwrap().unwrap();
    assert_eq!((totals.equal, totals.unequal), (4, 0), "what was found later counts");
}

#[tokio::test]
async fn findings_that_cannot_be_kept_do_not_stop_the_run() {
    let world = World::new().await;
    world.archive(0, 1, same).await;
    let path = format!("audit/counts/{}/manifest/00000000000000000001.json", world.fingerprint());
    world.store.put(&path, "{".into()).await.unwrap();
    let report = world.run(false, None).await;
    assert_eq!(report.outcome, Outcome::Published(1));
    assert!(report.unkept.unwrap().contains(&path));
}

/// A batch run goes on from a state in several files, whichever keys each of them has.
#[tokio::test]
async fn a_state_in_several_files_is_gone_on_from() {
    let world = World::new().await;
    world.archive(0, 3, same).await;
    world.run(false, None).await;
    let batch = world.batch();
    let last = world.batch_views.latest("counts", &world.fingerprint()).await.unwrap().unwrap();
    let whole = batch.state(world.view(), 0, &last.body.cuts[0]).await.unwrap();
    assert_eq!(whole.rows(), 3);

    let files = batch.write(world.view(), 0, &Merged::Held(whole.clone()), 2).await.unwrap();
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [2, 1]);
    let mut rows = Vec::new();
    for file in &files {
        rows.extend(world.batch_views.read_state(file).await.unwrap());
    }
    let in_order = concat_batches(whole.batch().schema_ref(), &rows).unwrap();
    assert_eq!(&in_order, whole.batch(), "each file has the keys above those of the one before");
    let none = Merged::Held(whole.slice(0, 0));
    assert_eq!(batch.write(world.view(), 0, &none, 2).await.unwrap().len(), 1, "a file without rows");

    // As earlier versions cut it: the first and the last key, and the one between them.
    let ends = [whole.batch().slice(0, 1), whole.batch().slice(2, 1)];
    let ends = State::from_rows(whole.batch().schema_ref(), whole.keys(), &ends).unwrap();
    let mut scattered = Vec::new();
    for state in [ends, whole.slice(1, 1)] {
        scattered.extend(batch.write(world.view(), 0, &Merged::Held(state), 2).await.unwrap());
    }
    for files in [files, scattered] {
        let last = world.batch_views.latest("counts", &world.fingerprint()).await.unwrap().unwrap();
        let body = BatchManifest { cuts: vec![files], ..last.body };
        // The state is that of three segments: what has come since is folded again.
        let horizon = BTreeMap::from([(
            "clicks".to_string(),
            BTreeMap::from([(Partition(0), Offset(3 * crate::testing::ROWS)), (Partition(1), Offset(0))]),
        )]);
        let body = BatchManifest { horizon, state_digests: vec![whole.digest().unwrap()], ..body };
        world.batch_views.publish(Some(last.version), &body).await.unwrap();
        world.archive(0, 1, same).await;
        let report = world.run(false, None).await;
        assert!(matches!(report.outcome, Outcome::Published(_)) && report.agrees(), "{report:?}");
        assert!(world.run(true, None).await.agrees(), "a full run comes to something else");
    }
}
