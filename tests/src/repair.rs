//! Damage is found and named; what can be made again is, and what cannot is never answered from.

use crate::bad_input::{csv, files, ingest, project};
use crate::process::{refuses, succeeds, twofold};
use std::path::Path;

/// What `twofold repair` says, and its exit code.
fn repair(project: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = twofold(project, &[&["repair"], args].concat());
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn flip(path: &Path) -> Vec<u8> {
    let good = std::fs::read(path).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(path, bad).unwrap();
    good
}

#[test]
fn what_can_be_made_again_is() {
    let dir = project();
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n");
    succeeds(dir.path(), &["batch"]);
    assert_eq!(repair(dir.path(), &[]), (Some(0), "nothing is damaged\n".to_string()));

    let store = dir.path().join("data/store");
    let segment = files(&store.join("archive/s/0"), ".parquet").remove(0);
    let state = files(&store.join("views/v"), ".parquet").remove(0);
    let names = [&segment, &state].map(|path| path.file_name().unwrap().to_str().unwrap().to_string());
    flip(&segment);
    flip(&state);
    refuses(dir.path(), &["query", "SELECT count(*) FROM s"]);
    refuses(dir.path(), &["query", "SELECT * FROM v"]);
    let (code, said) = repair(dir.path(), &["--dry-run"]);
    assert!(code == Some(1) && names.iter().all(|name| said.contains(name)), "{said}");
    refuses(dir.path(), &["query", "SELECT count(*) FROM s"]);

    let (code, said) = repair(dir.path(), &[]);
    assert!(code == Some(0) && said.contains("from the log") && said.contains("batch run"), "{said}");
    assert_eq!(csv(dir.path(), "SELECT count(*) AS c FROM s"), "c\n2\n");
    assert_eq!(csv(dir.path(), "SELECT * FROM v ORDER BY k"), "k,c,n\na,1,1\nb,1,2\n");
    let kept = files(&store.join("quarantine"), ".parquet");
    assert!(names.iter().all(|name| kept.iter().any(|path| path.ends_with(name))), "{kept:?}");
    assert_eq!(repair(dir.path(), &[]), (Some(0), "nothing is damaged\n".to_string()));
}

#[test]
fn what_only_a_backup_has_is_refused_until_it_is_there() {
    let dir = project();
    let toml = dir.path().join("twofold.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, text.replace("300ms", "0s")).unwrap();
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n");
    for _ in 0..2 {
        // The log is trimmed when the next process sees what the batch run has covered.
        succeeds(dir.path(), &["batch"]);
        ingest(dir.path(), b"{\"k\":\"b\",\"n\":2}\n");
        succeeds(dir.path(), &["query", "SELECT * FROM v"]);
    }
    let segment = files(&dir.path().join("data/store/archive/s/0"), ".parquet").remove(0);
    let good = flip(&segment);
    for _ in 0..2 {
        let (code, said) = repair(dir.path(), &[]);
        assert!(code == Some(1) && said.contains("restore it from a backup"), "{said}");
        refuses(dir.path(), &["query", "SELECT count(*) FROM s"]);
        assert_eq!(csv(dir.path(), "SELECT * FROM v ORDER BY k"), "k,c,n\na,1,1\nb,2,4\n");
    }
    std::fs::write(&segment, good).unwrap();
    assert_eq!(repair(dir.path(), &[]).0, Some(0));
    assert_eq!(csv(dir.path(), "SELECT count(*) AS c FROM s"), "c\n3\n");
}
