//! What a project may define, what is refused and with which words, and when a view becomes another one.

use crate::views::{NAMES, STREAMS};
use tempfile::TempDir;
use twofold_common::{Catalog, Digest, Error, Project};

fn write(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

async fn load(streams: &str, views: &str, names: &str) -> Result<Catalog, Error> {
    let dir = write(&[("a.sql", streams), ("names.csv", names), ("b.sql", views)]);
    Catalog::new(&Project::load(dir.path())?).await
}

async fn refusal(views: &str) -> String {
    load(STREAMS, views, NAMES).await.unwrap_err().to_string()
}

async fn fingerprint(streams: &str, query: &str, names: &str) -> Digest {
    let catalog = load(streams, &format!("CREATE MATERIALIZED VIEW v AS {query}"), names).await.unwrap();
    catalog.view("v").unwrap().fingerprint()
}

#[tokio::test]
async fn volatile_functions_are_refused_by_name_with_an_alternative() {
    for (query, function) in [
        ("SELECT count(*) FROM clicks WHERE ts > now()", "now"),
        ("SELECT k, random() AS r FROM clicks", "random"),
        ("SELECT uuid() AS id, k FROM clicks", "uuid"),
        ("SELECT k FROM clicks WHERE n IN (SELECT n FROM orders WHERE ts < current_date())", "current_date"),
    ] {
        let message = refusal(&format!("CREATE MATERIALIZED VIEW v AS {query}")).await;
        assert!(message.starts_with("b.sql:1:1: view v calls "), "{message}");
        assert!(message.contains(function) && message.contains("use "), "{message}");
    }
    let message = refusal("CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM clicks WHERE ts > now()").await;
    assert!(message.contains("_ingest_time"), "{message}");
    // Also when a query-time view brings it in; by itself that one may call what it likes.
    let recent = "CREATE VIEW recent AS SELECT * FROM clicks WHERE ts > now();";
    assert!(load(STREAMS, recent, NAMES).await.is_ok());
    let message =
        refusal(&format!("{recent} CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM recent")).await;
    assert!(message.contains("now"), "{message}");
}

#[tokio::test]
async fn what_cannot_be_planned_is_told_with_its_place() {
    for (views, part) in [
        ("CREATE MATERIALIZED VIEW v AS SELECT nope FROM clicks", "nope"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM nothing", "nothing"),
        ("CREATE MATERIALIZED VIEW v AS SELECT k FROM names", "reads no stream"),
        ("CREATE MATERIALIZED VIEW v AS SELECT k, k FROM clicks", "k"),
        (
            "CREATE MATERIALIZED VIEW v (a) AS SELECT k, n FROM clicks",
            "names 1 columns, but its query gives 2",
        ),
        ("CREATE VIEW a AS SELECT * FROM b;\nCREATE VIEW b AS SELECT * FROM a", "in a circle: a -> b -> a"),
    ] {
        let message = refusal(views).await;
        assert!(message.starts_with("b.sql:") && message.contains(part), "{message}");
        assert!(!message.contains('\n'), "one line: {message}");
    }
}

#[tokio::test]
async fn a_fingerprint_changes_with_the_meaning_and_with_nothing_else() {
    let query = "SELECT t.name, count(*) AS c FROM clicks JOIN names t USING (k) GROUP BY t.name";
    let first = fingerprint(STREAMS, query, NAMES).await;
    assert_eq!(first, fingerprint(STREAMS, query, NAMES).await, "the same project");
    let spaced = query.replace(' ', "\n  ");
    assert_eq!(first, fingerprint(STREAMS, &spaced, NAMES).await, "white space");
    let wider = STREAMS.replace("ok BOOLEAN,\n", "ok BOOLEAN, extra TEXT,\n");
    assert_ne!(wider, STREAMS);
    assert_eq!(first, fingerprint(&wider, query, NAMES).await, "a column that the view does not read");

    let other = query.replace("count(*)", "count(n)");
    assert_ne!(first, fingerprint(STREAMS, &other, NAMES).await, "another query");
    let grown = format!("{NAMES}y,Yan,5\n");
    assert_ne!(first, fingerprint(STREAMS, query, &grown).await, "another table");
    let retyped = STREAMS.replace("k TEXT, n BIGINT", "k TEXT NOT NULL, n BIGINT");
    assert_ne!(first, fingerprint(&retyped, query, NAMES).await, "another type of a column that it reads");
}

/// Constants are part of the meaning, however long: what plans print of them may be cut short.
#[tokio::test]
async fn a_fingerprint_tells_every_constant_apart() {
    let hex = "00".repeat(20);
    let numbers: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let text = "x".repeat(300);
    for (query, last) in [
        (
            format!("SELECT count(*) AS c FROM clicks WHERE arrow_cast(k, 'Binary') = X'{hex}01'"),
            ("01'", "02'"),
        ),
        (format!("SELECT count(*) AS c FROM clicks WHERE n IN ({})", numbers.join(", ")), ("59)", "61)")),
        (format!("SELECT count(*) AS c FROM clicks WHERE k = '{text}a'"), ("xa'", "xb'")),
        (
            "SELECT count(*) AS c FROM clicks JOIN (VALUES (1), (2), (3), (4), (5), (6), (7)) v (m) ON n = m"
                .into(),
            ("(7)", "(8)"),
        ),
        ("SELECT k, count(*) AS c FROM clicks WHERE x > 0.0 GROUP BY k".into(), ("0.0", "-0.0")),
    ] {
        let other = query.replacen(last.0, last.1, 1);
        assert_ne!(query, other);
        let (a, b) = (fingerprint(STREAMS, &query, NAMES).await, fingerprint(STREAMS, &other, NAMES).await);
        assert_ne!(a, b, "{query}");
    }
}

#[tokio::test]
async fn stored_columns_are_there_for_those_who_name_them() {
    let views = "CREATE MATERIALIZED VIEW plain AS SELECT * FROM clicks;
                 CREATE MATERIALIZED VIEW meta AS SELECT *, _offset AS o FROM clicks";
    let catalog = load(STREAMS, views, NAMES).await.unwrap();
    let columns = |view: &str| -> Vec<String> {
        catalog.view(view).unwrap().schema().fields().iter().map(|f| f.name().clone()).collect()
    };
    assert_eq!(columns("plain"), ["ts", "k", "n", "x", "ok"]);
    assert_eq!(columns("meta"), ["ts", "k", "n", "x", "ok", "_partition", "_offset", "_ingest_time", "o"]);
}

#[tokio::test]
async fn queries_only_read() {
    let catalog = load(STREAMS, "", NAMES).await.unwrap();
    for sql in
        ["DROP TABLE names", "INSERT INTO names VALUES ('x', 'y', 1)", "CREATE TABLE t (a INT)", "SET a = 1"]
    {
        assert!(catalog.plan(sql).await.is_err(), "{sql}");
    }
    assert!(catalog.plan("SELECT 1; SELECT 2").await.is_err());
    assert!(catalog.plan("SELECT now(), count(*) FROM clicks").await.is_ok());
}
