//! PostgreSQL's wire, as a driver uses it, against the real process: values in both formats, parameters, portals,
//! cancelling, SQLSTATEs, and answers while events come in.

use crate::bad_input::{ingest, project};
use crate::process::{Client as Http, Server};
use futures::{TryStreamExt, pin_mut};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Starts a server that speaks to clients of PostgreSQL on a port of its own.
pub fn start(project: &Path) -> (Server, String) {
    let server = Server::start(project, &["up", "--pg-listen", "127.0.0.1:0"], "serve");
    let file = std::fs::read(project.join("data/run/serve.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    (server, file["pg"].as_str().expect("the run file names the address").to_string())
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&format!("{url}?user=ada"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn code(e: &tokio_postgres::Error) -> String {
    e.code().unwrap_or_else(|| panic!("no SQLSTATE: {e:?}")).code().to_string()
}

/// A value as its bytes, whatever its type.
#[derive(Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Bytes {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first value of the first row, as text.
async fn text(client: &Client, sql: &str) -> Option<String> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.unwrap_or_else(|| panic!("{sql}: no row")).get(0).map(str::to_string)
}

/// Expression, type, text, binary in hexadecimal, and what HTTP gives.
fn values() -> Vec<(&'static str, &'static str, Option<&'static str>, String, Value)> {
    let since_2000 = |us: i64| hex(&(us - 946_684_800_000_000).to_be_bytes());
    let binary = |text: &str| hex(text.as_bytes());
    vec![
        (
            "CAST(9007199254740993 AS BIGINT)",
            "int8",
            Some("9007199254740993"),
            "0020000000000001".into(),
            json!(9_007_199_254_740_993_i64),
        ),
        ("CAST(-7 AS INT)", "int4", Some("-7"), "fffffff9".into(), json!(-7)),
        ("CAST(-7 AS SMALLINT)", "int2", Some("-7"), "fff9".into(), json!(-7)),
        ("CAST(-7 AS TINYINT)", "int2", Some("-7"), "fff9".into(), json!(-7)),
        ("CAST(4294967295 AS INT UNSIGNED)", "int8", Some("4294967295"), "00000000ffffffff".into(), json!(4_294_967_295_u32)),
        (
            "CAST(18446744073709551615 AS BIGINT UNSIGNED)",
            "numeric",
            Some("18446744073709551615"),
            format!("0005000400000000{}", groups(&[1844, 6744, 737, 955, 1615])),
            json!(18_446_744_073_709_551_615_u64),
        ),
        ("'ä\"\\'", "text", Some("ä\"\\"), binary("ä\"\\"), json!("ä\"\\")),
        ("true", "bool", Some("t"), "01".into(), json!(true)),
        ("CAST(0.1 AS DOUBLE)", "float8", Some("0.1"), hex(&0.1f64.to_be_bytes()), json!(0.1)),
        ("CAST(1e300 AS DOUBLE)", "float8", Some("1e+300"), hex(&1e300f64.to_be_bytes()), json!(1e300)),
        ("CAST('NaN' AS DOUBLE)", "float8", Some("NaN"), hex(&f64::NAN.to_be_bytes()), Value::Null),
        ("CAST('-inf' AS DOUBLE)", "float8", Some("-Infinity"), hex(&f64::NEG_INFINITY.to_be_bytes()), Value::Null),
        ("CAST(0.1 AS REAL)", "float4", Some("0.1"), hex(&0.1f32.to_be_bytes()), json!(0.1)),
        (
            "CAST('12345678901234567890123456789012345678' AS DECIMAL(38, 0))",
            "numeric",
            Some("12345678901234567890123456789012345678"),
            format!("000a000900000000{}", groups(&[12, 3456, 7890, 1234, 5678, 9012, 3456, 7890, 1234, 5678])),
            serde_json::from_str("12345678901234567890123456789012345678").unwrap(),
        ),
        (
            "CAST('-1234.0500' AS DECIMAL(20, 4))",
            "numeric",
            Some("-1234.0500"),
            format!("0002000040000004{}", groups(&[1234, 500])),
            json!(-1234.05),
        ),
        (
            "TIMESTAMP '2013-01-01 10:00:00.123456789'",
            "timestamp",
            Some("2013-01-01 10:00:00.123456"),
            since_2000(1_357_034_400_123_456),
            json!("2013-01-01T10:00:00.123456789"),
        ),
        (
            "TIMESTAMP '1969-12-31 23:59:59.9999999'",
            "timestamp",
            Some("1969-12-31 23:59:59.999999"),
            since_2000(-1),
            json!("1969-12-31T23:59:59.999999900"),
        ),
        ("DATE '1999-12-31'", "date", Some("1999-12-31"), "ffffffff".into(), json!("1999-12-31")),
        ("decode('00ff5c', 'hex')", "bytea", Some("\\x00ff5c"), "00ff5c".into(), json!("00ff5c")),
        (
            "make_array(CAST(1 AS BIGINT), NULL, 3)",
            "_int8",
            Some("{1,NULL,3}"),
            "0000000100000001000000140000000300000001000000080000000000000001ffffffff000000080000000000000003".into(),
            json!([1, null, 3]),
        ),
        (
            "make_array('a', 'b c', '', 'null', '\"')",
            "_text",
            Some("{a,\"b c\",\"\",\"null\",\"\\\"\"}"),
            format!(
                "00000001000000000000001900000005000000010000000161{}{}{}{}",
                "00000003622063", "00000000", "000000046e756c6c", "0000000122"
            ),
            json!(["a", "b c", "", "null", "\""]),
        ),
        (
            "named_struct('a', 1, 'b', 'x', 'c', NULL)",
            "json",
            Some("{\"a\":1,\"b\":\"x\",\"c\":null}"),
            binary("{\"a\":1,\"b\":\"x\",\"c\":null}"),
            json!({"a": 1, "b": "x", "c": null}),
        ),
        (
            "make_array(make_array(1, 2), make_array(3))",
            "json",
            Some("[[1,2],[3]]"),
            binary("[[1,2],[3]]"),
            json!([[1, 2], [3]]),
        ),
        (
            "INTERVAL '1 month 2 days 3 hours'",
            "interval",
            Some("1 mon 2 days 03:00:00"),
            format!("{}0000000200000001", hex(&10_800_000_000_i64.to_be_bytes())),
            Value::String(String::new()),
        ),
        ("CAST(NULL AS BIGINT)", "int8", None, String::new(), Value::Null),
    ]
}

/// Groups of four decimal digits, as a numeric has them.
fn groups(groups: &[i16]) -> String {
    groups.iter().map(|group| hex(&group.to_be_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_the_same_in_text_and_binary_and_over_http() {
    let dir = project();
    let (server, url) = start(dir.path());
    let (client, http) = (connect(&url).await, Http::new(&server.url));
    for (expression, type_name, as_text, binary, over_http) in values() {
        let sql = format!("SELECT {expression} AS x");
        assert_eq!(text(&client, &sql).await.as_deref(), as_text, "{sql}");
        let row = client.query_one(&sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(row.columns()[0].type_().name(), type_name, "{sql}");
        let value: Option<Bytes> = row.get(0);
        assert_eq!(value.map(|value| hex(&value.0)), as_text.map(|_| binary), "{sql}");
        if type_name != "interval" {
            let (status, answer) = http.sql(&sql).await;
            assert_eq!((status, &answer["rows"][0]["x"]), (200, &over_http), "{sql}");
        }
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_streams_and_views_are_those_of_http() {
    let dir = project();
    let (server, url) = start(dir.path());
    ingest(
        dir.path(),
        b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":null}\n{\"k\":\"a\",\"n\":9007199254740993}\n",
    );
    let (client, http) = (connect(&url).await, Http::new(&server.url));
    for sql in [
        "SELECT * FROM v ORDER BY k",
        "SELECT k, n, _offset FROM s ORDER BY _offset",
        "SELECT * FROM s ORDER BY k, n",
    ] {
        let (_, over_http) = http.sql(sql).await;
        let rows = client.query(sql, &[]).await.unwrap();
        assert_eq!(rows.len(), over_http["rows"].as_array().unwrap().len(), "{sql}");
        for (row, over_http) in rows.iter().zip(over_http["rows"].as_array().unwrap()) {
            for (i, column) in row.columns().iter().enumerate() {
                let value = match column.type_().name() {
                    "text" => json!(row.get::<_, Option<String>>(i)),
                    "int8" => json!(row.get::<_, Option<i64>>(i)),
                    other => panic!("{other}"),
                };
                assert_eq!(value, over_http[column.name()], "{sql}");
            }
        }
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_what_the_columns_are_and_statements_run_again() {
    let dir = project();
    let (server, url) = start(dir.path());
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":5}\n{\"k\":\"a\",\"n\":7}\n");
    let client = connect(&url).await;
    let statement =
        client.prepare("SELECT k, n FROM s WHERE n > $1 AND k = $2 ORDER BY n LIMIT $3").await.unwrap();
    let types: Vec<_> = statement.params().iter().map(Type::name).collect();
    assert_eq!(types, ["int8", "text", "int8"]);
    let found = async |least: Option<i64>, k: &str, limit: i64| -> Vec<i64> {
        let rows = client.query(&statement, &[&least, &k, &limit]).await.unwrap();
        rows.iter().map(|row| row.get(1)).collect()
    };
    assert_eq!(found(Some(0), "a", 10).await, [1, 7]);
    assert_eq!(found(Some(1), "a", 10).await, [7]);
    assert_eq!(found(Some(0), "a", 1).await, [1]);
    assert_eq!(found(None, "a", 10).await, [0i64; 0], "nothing is greater than null");
    // A statement sees what came after it was prepared.
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":9}\n");
    assert_eq!(found(Some(1), "a", 10).await, [7, 9]);
    // A fraction between two whole numbers is not cut off.
    let typed = client.prepare_typed("SELECT count(*) FROM s WHERE n > $1", &[Type::FLOAT8]).await.unwrap();
    let above: i64 = client.query_one(&typed, &[&6.5f64]).await.unwrap().get(0);
    assert_eq!(above, 2, "7 and 9");
    let typed =
        client.prepare_typed("SELECT count(*) FROM s WHERE k = ANY($1)", &[Type::TEXT_ARRAY]).await.unwrap();
    let of: i64 = client.query_one(&typed, &[&vec!["b", "c"]]).await.unwrap().get(0);
    assert_eq!(of, 1);
    let echoed = client.query_one("SELECT $1 AS x, $2::BIGINT + 1 AS y", &[&"é", &41i64]).await.unwrap();
    assert_eq!((echoed.get::<_, &str>(0), echoed.get::<_, i64>(1)), ("é", 42));
    let numeric = client.prepare_typed("SELECT $1::DECIMAL(20, 4) AS x", &[Type::NUMERIC]).await.unwrap();
    let sent = Bytes(vec![0, 2, 0, 0, 0x40, 0, 0, 4, 4, 0xd2, 1, 0xf4]);
    assert_eq!(client.query_one(&numeric, &[&sent]).await.unwrap().get::<_, Bytes>(0), sent);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_fetched_piece_by_piece() {
    let dir = project();
    let (server, url) = start(dir.path());
    let events: String = (0..1000).map(|n| format!("{{\"k\":\"a\",\"n\":{n}}}\n")).collect();
    ingest(dir.path(), events.as_bytes());
    let mut client = connect(&url).await;
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("SELECT n FROM s ORDER BY n").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let mut all: Vec<i64> = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 300).await.unwrap();
        // What comes in meanwhile is not in this answer.
        ingest(dir.path(), b"{\"k\":\"a\",\"n\":-1}\n");
        assert!(rows.len() <= 300);
        all.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        if rows.len() < 300 {
            break;
        }
    }
    assert_eq!(all, (0..1000).collect::<Vec<i64>>());
    transaction.batch_execute("DECLARE c CURSOR FOR SELECT n FROM s WHERE n >= 0 ORDER BY n").await.unwrap();
    let rows = transaction.query("FETCH 3 FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [0, 1, 2]);
    transaction.batch_execute("MOVE 994 IN c").await.unwrap();
    let rows = transaction.query("FETCH ALL FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [997, 998, 999]);
    transaction.commit().await.unwrap();
    assert_eq!(code(&client.batch_execute("FETCH 1 FROM c").await.unwrap_err()), "34000");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_and_the_connection_goes_on() {
    let dir = project();
    let (server, url) = start(dir.path());
    let client = connect(&url).await;
    let token = client.cancel_token();
    let started = Instant::now();
    let cancelled = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    let heavy = "SELECT value FROM generate_series(1, 400000000) ORDER BY -value";
    let error = client.query(heavy, &[]).await.unwrap_err();
    assert_eq!(code(&error), "57014", "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    cancelled.await.unwrap();
    let one: i64 = client.query_one("SELECT CAST(1 AS BIGINT)", &[]).await.unwrap().get(0);
    assert_eq!(one, 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_by_their_sqlstate_and_nothing_is_written() {
    let dir = project();
    let (server, url) = start(dir.path());
    let client = connect(&url).await;
    for (sql, expected) in [
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nothing FROM s", "42703"),
        ("SELECT * FROM s WHERE", "42601"),
        ("SELEC 1", "42601"),
        ("SELECT nofunction(n) FROM s", "42883"),
        ("SELECT 1 / (SELECT count(*) FROM s)", "22012"),
        ("SELECT CAST(k AS BIGINT) FROM (VALUES ('x')) AS t(k)", "22P02"),
        ("SELECT 'open", "42601"),
        ("INSERT INTO s VALUES ('a', 1)", "25006"),
        ("UPDATE s SET n = 1", "25006"),
        ("DELETE FROM s", "25006"),
        ("CREATE TABLE x (a INT)", "25006"),
        ("DROP TABLE s", "25006"),
        ("COPY s TO '/tmp/x'", "25006"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "25006"),
        ("SET datafusion.execution.batch_size = 1", "42704"),
        ("SET TIME ZONE 'Europe/Vienna'", "22023"),
        ("SET transaction_read_only = off", "25006"),
        ("FETCH 1 FROM nothing", "34000"),
        ("DECLARE c CURSOR FOR SELECT 1", "25P01"),
        ("DEALLOCATE nothing", "26000"),
    ] {
        let simple = client.simple_query(sql).await.expect_err(sql);
        assert_eq!(code(&simple), expected, "{sql}: {simple:?}");
        // The extended protocol says the same; of a cursor that is not there, and of DECLARE, when it is run.
        let extended = client.query(sql, &[]).await.expect_err(sql);
        assert_eq!(code(&extended), expected, "{sql}: {extended:?}");
    }
    for sql in [
        "SET client_encoding = 'UTF8'",
        "SET extra_float_digits = 3",
        "SET TIME ZONE 'UTC'",
        "DISCARD ALL",
        "RESET ALL",
        "BEGIN READ ONLY",
        "COMMIT",
    ] {
        client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    assert_eq!(text(&client, "SHOW TimeZone").await.as_deref(), Some("UTC"));
    assert_eq!(text(&client, "SELECT current_user").await.as_deref(), Some("ada"));
    let explained = client.query("EXPLAIN SELECT * FROM v", &[]).await.unwrap();
    assert!(!explained.is_empty());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_is_of_one_moment_while_events_come_in() {
    let dir = project();
    let (server, url) = start(dir.path());
    let http = Http::new(&server.url);
    let feeding = tokio::spawn(async move {
        for round in 0..60 {
            let events: String =
                (0..50).map(|n| format!("{{\"k\":\"k{}\",\"n\":{n}}}\n", (round + n) % 7)).collect();
            let (status, receipt) = http.post("/v1/streams/s", "application/x-ndjson", events).await;
            assert_eq!(status, 200, "{receipt}");
        }
    });
    let sql = "SELECT (SELECT sum(c) FROM v)::BIGINT, (SELECT sum(n) FROM v)::BIGINT, (SELECT count(*) FROM s), \
               (SELECT sum(n) FROM s)::BIGINT";
    let asking = (0..4).map(async |_| {
        let client = connect(&url).await;
        let statement = client.prepare(sql).await.unwrap();
        let (mut last, mut different) = (0, 0);
        while last < 3000 {
            let row = client.query_one(&statement, &[]).await.unwrap();
            let of = |i| row.get::<_, Option<i64>>(i).unwrap_or(0);
            assert_eq!((of(0), of(1)), (of(2), of(3)), "view and stream are of one moment");
            assert!(of(2) >= last, "time goes forward");
            assert_eq!(of(2) % 50, 0, "a request is in it wholly or not at all");
            different += u32::from(of(2) != last);
            last = of(2);
        }
        different
    });
    let different = futures::future::join_all(asking).await;
    feeding.await.unwrap();
    assert!(different.iter().all(|seen| *seen > 1), "they looked while events came: {different:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_are_listed_with_their_columns() {
    let dir = project();
    let (server, url) = start(dir.path());
    let client = connect(&url).await;
    let rows = async |sql: &str| -> Vec<Vec<String>> {
        let answer = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                let row: tokio_postgres::SimpleQueryRow = row;
                Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_string()).collect())
            }
            _ => None,
        };
        answer.into_iter().filter_map(row).collect()
    };
    let kinds = rows(
        "SELECT c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'public' ORDER BY 1",
    );
    let kinds = kinds.await;
    for (name, kind) in [("s", "r"), ("s_rejected", "r"), ("v", "m"), ("twofold_late_events", "v")] {
        assert!(kinds.contains(&vec![name.to_string(), kind.to_string()]), "{name}: {kinds:?}");
    }
    let columns = rows(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = 'public' \
         AND table_name = 's' ORDER BY ordinal_position",
    );
    assert_eq!(columns.await, [["k", "text", "NO"], ["n", "bigint", "YES"]]);
    let columns = rows(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = 'v'::regclass AND a.attnum > 0 ORDER BY a.attnum",
    );
    assert_eq!(columns.await, [["k", "text"], ["c", "bigint"], ["n", "bigint"]]);
    assert_eq!(rows("SELECT datname FROM pg_database").await, [["twofold"]]);
    // What Grafana's query builder asks, and a panel's query.
    for sql in GRAFANA {
        client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    let found = rows(GRAFANA[1]).await;
    assert!(found.iter().any(|row| row[0].ends_with('v')), "{found:?}");
    assert_eq!(rows(GRAFANA[2]).await, [["k", "text"], ["n", "bigint"]]);
    server.stop();
}

/// As Grafana's data source for PostgreSQL sends them: is it there, which tables, which columns, what version.
const GRAFANA: [&str; 5] = [
    "SELECT 1",
    r#"SELECT
        CASE WHEN
              quote_ident(table_schema) IN (
              SELECT
                CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
              FROM
                generate_series(
                  array_lower(string_to_array(current_setting('search_path'),','),1),
                  array_upper(string_to_array(current_setting('search_path'),','),1)
                ) as i,
                string_to_array(current_setting('search_path'),',') s
              )
          THEN quote_ident(table_name)
          ELSE quote_ident(table_schema) || '.' || quote_ident(table_name)
        END AS "table"
        FROM information_schema.tables
        WHERE quote_ident(table_schema) NOT IN ('information_schema',
                                 'pg_catalog',
                                 '_timescaledb_cache',
                                 '_timescaledb_catalog',
                                 '_timescaledb_internal',
                                 '_timescaledb_config',
                                 'timescaledb_information',
                                 'timescaledb_experimental')
        ORDER BY CASE WHEN
              quote_ident(table_schema) IN (
              SELECT
                CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
              FROM
                generate_series(
                  array_lower(string_to_array(current_setting('search_path'),','),1),
                  array_upper(string_to_array(current_setting('search_path'),','),1)
                ) as i,
                string_to_array(current_setting('search_path'),',') s
              ) THEN 0 ELSE 1 END, 1"#,
    r#"SELECT quote_ident(column_name) AS "column", data_type AS "type"
        FROM information_schema.columns
        WHERE
          CASE WHEN array_length(parse_ident('public.s'),1) = 2
            THEN quote_ident(table_schema) = (parse_ident('public.s'))[1]
              AND quote_ident(table_name) = (parse_ident('public.s'))[2]
            ELSE quote_ident(table_name) = 'public.s'
              AND
              quote_ident(table_schema) IN (
              SELECT
                CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
              FROM
                generate_series(
                  array_lower(string_to_array(current_setting('search_path'),','),1),
                  array_upper(string_to_array(current_setting('search_path'),','),1)
                ) as i,
                string_to_array(current_setting('search_path'),',') s
              )
          END"#,
    "SELECT current_setting('server_version_num')::int/100 as version",
    "SELECT _ingest_time AS \"time\", k AS metric, n FROM s WHERE _ingest_time BETWEEN '2024-01-01T00:00:00Z' AND '2030-01-01T00:00:00Z' ORDER BY 1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_connections_that_are_idle_and_lets_an_answer_end() {
    let dir = project();
    let (server, url) = start(dir.path());
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n");
    let (idle, busy) = (connect(&url).await, connect(&url).await);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let answer = tokio::spawn(async move {
        let rows =
            busy.query_raw("SELECT value FROM generate_series(1, 100000)", &[] as &[&str]).await.unwrap();
        pin_mut!(rows);
        let mut count = u64::from(rows.try_next().await.unwrap().is_some());
        begun.send(()).unwrap();
        while rows.try_next().await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    begins.await.unwrap();
    server.stop_within(Duration::from_secs(60));
    assert_eq!(answer.await.unwrap(), 100_000);
    let error = idle.query("SELECT 1", &[]).await.unwrap_err();
    assert!(error.is_closed() || code(&error) == "57P01", "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projects_on_one_machine_both_answer() {
    let (one, other) = (project(), project());
    let start = |dir: &Path| {
        let server = Server::start(dir, &["up"], "serve");
        let file: Value =
            serde_json::from_slice(&std::fs::read(dir.join("data/run/serve.json")).unwrap()).unwrap();
        (server, file["pg"].as_str().unwrap().to_string())
    };
    let ((first, first_url), (second, second_url)) = (start(one.path()), start(other.path()));
    assert_ne!(first_url, second_url);
    for url in [first_url, second_url] {
        assert_eq!(text(&connect(&url).await, "SELECT count(*) FROM s").await.as_deref(), Some("0"));
    }
    first.stop();
    second.stop();
    let off = Server::start(one.path(), &["up", "--pg-listen", "off"], "serve");
    let file: Value =
        serde_json::from_slice(&std::fs::read(one.path().join("data/run/serve.json")).unwrap()).unwrap();
    assert_eq!(file.get("pg"), None);
    off.stop();
}
