//! Queries read, and read nothing but the project's relations.

use super::{Asker, EVENTS, project, up};
use crate::bad_input::csv;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_as_a_query_changes_or_reads_anything_else() {
    let dir = project("", "", "");
    let server = up(dir.path());
    let asker = Asker::new(&server.url, None);
    assert_eq!(asker.post("/v1/streams/s", EVENTS).await.0, 200);
    let secret = dir.path().join("secret.csv");
    std::fs::write(&secret, "word\nhunter2\n").unwrap();
    let (file, out) = (secret.display(), dir.path().join("out"));
    let url = format!("file://{file}");
    let statements = [
        "CREATE TABLE x (a INT)".into(),
        "CREATE TABLE x AS SELECT 1".into(),
        "CREATE VIEW x AS SELECT 1".into(),
        "CREATE SCHEMA x".into(),
        "CREATE DATABASE x".into(),
        "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN $1 + 1".into(),
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{file}'"),
        "DROP TABLE s".into(),
        "DROP VIEW v".into(),
        "DROP SCHEMA public CASCADE".into(),
        "ALTER TABLE s ADD COLUMN x INT".into(),
        "TRUNCATE TABLE s".into(),
        "INSERT INTO s VALUES ('x', 1)".into(),
        "INSERT INTO v SELECT * FROM v".into(),
        "UPDATE s SET n = 0".into(),
        "DELETE FROM s".into(),
        "MERGE INTO s USING t ON s.k = t.k WHEN MATCHED THEN DELETE".into(),
        format!("COPY s TO '{}'", out.display()),
        format!("COPY (SELECT 1) TO '{}' STORED AS PARQUET", out.display()),
        format!("COPY s FROM '{file}'"),
        "SET datafusion.execution.batch_size = 1".into(),
        "SET datafusion.catalog.information_schema = false".into(),
        "RESET datafusion.execution.batch_size".into(),
        "PREPARE p AS SELECT 1".into(),
        "EXECUTE p".into(),
        "DEALLOCATE p".into(),
        "BEGIN".into(),
        "COMMIT".into(),
        "EXPLAIN ANALYZE INSERT INTO s VALUES ('x', 1)".into(),
        "WITH x AS (SELECT 1) INSERT INTO s SELECT 'x', 1".into(),
        "SELECT 1; DROP TABLE s".into(),
        format!("SELECT * FROM '{file}'"),
        format!("SELECT * FROM \"{file}\""),
        format!("SELECT * FROM '{url}'"),
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'".into(),
        format!("SELECT * FROM read_csv('{file}')"),
        format!("SELECT * FROM csv_scan('{file}')"),
        format!("SELECT * FROM parquet_metadata('{file}')"),
        format!("SELECT pg_read_file('{file}')"),
        "SELECT * FROM metadata_cache()".into(),
        "LOAD 'x'".into(),
        "CALL x()".into(),
        "VACUUM".into(),
        "GRANT ALL ON s TO x".into(),
    ];
    for sql in &statements {
        let (status, body) = asker.sql(sql).await;
        assert!([400, 404].contains(&status), "{sql}: {status} {body}");
        assert!(!body.to_string().contains("hunter2"), "{sql}: {body}");
    }
    assert!(!out.exists());
    assert_eq!(csv(dir.path(), "SELECT k, n FROM s ORDER BY k"), "k,n\na,1\nb,2\n");
    assert_eq!(csv(dir.path(), "SELECT k, n FROM v ORDER BY k"), "k,n\na,1\nb,2\n");
    let (_, tables) =
        asker.sql("SELECT count(*) AS n FROM information_schema.tables WHERE table_name = 'x'").await;
    assert_eq!(tables["rows"][0]["n"], 0);
    let setting =
        "SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.execution.batch_size'";
    assert_ne!(asker.sql(setting).await.1["rows"][0]["value"], "1");
    server.stop();
}
