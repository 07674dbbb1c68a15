use super::*;
use crate::faults::{Faults, FaultyDisk, How};

fn position(to: u64) -> Vec<Write> {
    let (fingerprint, stream) = (Digest::of(b"view"), "s".to_string());
    vec![Write::Position { fingerprint, stream, partition: Partition(0), from: Offset(0), to: Offset(to) }]
}

fn open(path: &Path, faults: &Faults) -> StateStore {
    let disk = FaultyDisk { path: path.to_path_buf(), faults: faults.clone() };
    StateStore::open_with(path, Box::new(move |create| disk.open(create))).unwrap()
}

fn stored(store: &StateStore) -> Vec<u64> {
    store.load().unwrap().positions.iter().map(|(_, _, _, _, to)| to.0).collect()
}

/// What memory takes over of these writes.
fn tos(writes: &[Write]) -> Vec<u64> {
    let to = |write: &Write| if let Write::Position { to, .. } = write { Some(to.0) } else { None };
    writes.iter().filter_map(to).collect()
}

#[test]
fn whatever_write_fails_memory_is_what_the_store_holds() {
    let dir = tempfile::tempdir().unwrap();
    for how in [How::Before, How::Torn, How::After] {
        let mut lost = 0;
        for nth in 0.. {
            let path = dir.path().join(format!("{how:?}-{nth}"));
            let faults = Faults::default();
            let store = open(&path, &faults);
            faults.fail(nth, how);
            let mut memory = Vec::new();
            while memory.len() < 4 {
                match store.commit(position(memory.len() as u64 + 1)) {
                    Ok(writes) => memory.extend(tos(&writes)),
                    Err(e) => {
                        assert_eq!(e.kind(), twofold_common::Kind::Unavailable, "{e}");
                        assert!(store.commit(position(77)).is_err(), "nothing goes in before it is settled");
                        let settled = store.settle().unwrap();
                        lost += settled.len();
                        memory.extend(tos(&settled));
                        assert_eq!(stored(&store).last(), memory.last(), "{how:?} at {nth}");
                    }
                }
            }
            assert_eq!(memory, [1, 2, 3, 4], "{how:?} at {nth}");
            drop(store);
            assert_eq!(stored(&open(&path, &Faults::default())), [4], "{how:?} at {nth}");
            if faults.failed() == 0 {
                break;
            }
        }
        assert!(how != How::After || lost > 0, "no answer was lost");
    }
}

#[test]
fn a_disk_that_goes_on_failing_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let faults = Faults::default();
    let store = open(&path, &faults);
    store.commit(position(1)).unwrap();
    faults.fail(0, How::Before);
    assert!(store.commit(position(2)).is_err());
    std::fs::rename(&path, dir.path().join("aside")).unwrap();
    assert!(store.settle().is_err() && store.settle().is_err() && !path.exists());
    std::fs::rename(dir.path().join("aside"), &path).unwrap();
    assert!(store.settle().unwrap().is_empty());
    store.commit(position(2)).unwrap();
    assert_eq!(stored(&store), [2]);
}
