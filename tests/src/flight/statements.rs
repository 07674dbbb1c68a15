//! Values of parameters, and what is refused.

use super::{World, column, connect, fetch, multi_thread, query, refused, rows};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, TimeUnit};
use arrow_flight::sql::{CommandStatementIngest, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor};
use prost::Message;
use std::sync::Arc;
use tonic::Code;

#[test]
fn values_are_bound_to_prepared_statements() {
    let world = World::new(&["up"]);
    multi_thread().block_on(async {
        world.clicks(0, 30).await;
        let mut client = connect(world.dir.path()).await;
        let sql = "SELECT k, c FROM counts WHERE k = ? AND c >= ?";
        let mut prepared = client.prepare(sql.into(), None).await.unwrap();
        let types: Vec<_> =
            prepared.parameter_schema().unwrap().fields().iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Int64]);
        assert_eq!(prepared.dataset_schema().unwrap().field(1).name(), "c");
        let values = |k: &str, c: i64| {
            let columns: [(&str, ArrayRef); 2] =
                [("1", Arc::new(StringArray::from(vec![k]))), ("2", Arc::new(Int64Array::from(vec![c])))];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        for (k, c, found) in [("a", 10, 1), ("b", 11, 0), ("' OR true --", 0, 0), ("c", -1, 1)] {
            prepared.set_parameters(values(k, c)).unwrap();
            let info = prepared.execute().await.unwrap();
            let (_, batches) = fetch(&mut client, info).await.unwrap();
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), found, "{k}");
        }
        let twice =
            arrow::compute::concat_batches(&values("a", 1).schema(), &[values("a", 1), values("b", 1)])
                .unwrap();
        prepared.set_parameters(twice).unwrap();
        let status = refused(prepared.execute().await.unwrap_err());
        assert!(status.message().contains("expected one row, found 2"), "{status}");
        prepared.close().await.unwrap();

        // Other types than the column's, nulls, and a number of rows.
        let mut prepared = client
            .prepare("SELECT count(*) AS c FROM clicks WHERE n < $1 OR k = $2".into(), None)
            .await
            .unwrap();
        let columns: [(&str, ArrayRef); 2] =
            [("1", Arc::new(Float64Array::from(vec![2.5]))), ("2", new_null_array(&DataType::Utf8, 1))];
        prepared.set_parameters(RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(column(&fetch(&mut client, info).await.unwrap().1, "c"), ["3"]);
        let mut prepared =
            client.prepare("SELECT n FROM clicks ORDER BY n LIMIT ?".into(), None).await.unwrap();
        prepared
            .set_parameters(
                RecordBatch::try_from_iter([("1", Arc::new(Int64Array::from(vec![2])) as ArrayRef)]).unwrap(),
            )
            .unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(column(&fetch(&mut client, info).await.unwrap().1, "n"), ["0", "1"]);
        // Asked for in the unit that JDBC writes, and taken in any.
        let mut prepared =
            client.prepare("SELECT count(*) AS c FROM clicks WHERE ts > ?".into(), None).await.unwrap();
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert_eq!(prepared.parameter_schema().unwrap().field(0).data_type(), &millis);
        for (unit, at, found) in [
            (TimeUnit::Millisecond, 1_767_225_601_123, "30"),
            (TimeUnit::Millisecond, 1_767_225_601_124, "0"),
            (TimeUnit::Nanosecond, 1_767_225_601_123_456_788, "30"),
            (TimeUnit::Nanosecond, 1_767_225_601_123_456_789, "0"),
        ] {
            let at =
                arrow::compute::cast(&Int64Array::from(vec![at]), &DataType::Timestamp(unit, None)).unwrap();
            prepared.set_parameters(RecordBatch::try_from_iter([("1", at)]).unwrap()).unwrap();
            let info = prepared.execute().await.unwrap();
            assert_eq!(column(&fetch(&mut client, info).await.unwrap().1, "c"), [found], "{unit:?}");
        }
        let mut prepared = client.prepare(sql.into(), None).await.unwrap();
        let status = refused(prepared.execute().await.unwrap_err());
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains("2 parameters, and 0 values"),
            "{status}"
        );
    });
    world.server.stop();
}

#[test]
fn what_is_wrong_or_would_change_something_is_refused_with_its_reason() {
    let world = World::new(&["up"]);
    multi_thread().block_on(async {
        world.clicks(0, 3).await;
        let mut client = connect(world.dir.path()).await;
        for (sql, code, part) in [
            ("SELEC 1", Code::InvalidArgument, "SELEC"),
            ("SELECT nope FROM counts", Code::InvalidArgument, "nope"),
            ("SELECT * FROM nope", Code::NotFound, "there are: all_kinds, counts"),
            ("SELECT 1; SELECT 2", Code::InvalidArgument, "expected one query"),
            ("", Code::InvalidArgument, "expected a query"),
            ("CREATE TABLE x (a INT)", Code::InvalidArgument, "DDL"),
            ("DROP TABLE names", Code::InvalidArgument, "DDL"),
            ("INSERT INTO names VALUES ('a', 'b')", Code::InvalidArgument, "DML"),
            ("DELETE FROM names", Code::InvalidArgument, "DML"),
            ("COPY names TO '/tmp/x.csv'", Code::InvalidArgument, "DML"),
            ("SET datafusion.execution.batch_size = 1", Code::InvalidArgument, "Statement"),
            ("SELECT ? + $1", Code::InvalidArgument, "both ? and $1"),
            ("SELECT $x", Code::InvalidArgument, "found $x"),
        ] {
            let status = query(&mut client, sql).await.unwrap_err();
            assert_eq!(status.code(), code, "{sql}: {status}");
            assert!(status.message().contains(part), "{sql}: {status}");
        }
        let update = refused(client.execute_update("DELETE FROM names".into(), None).await.unwrap_err());
        assert!(
            update.code() == Code::Unimplemented && update.message().contains("changes nothing"),
            "{update}"
        );
        let begun = refused(client.begin_transaction().await.unwrap_err());
        assert!(begun.code() == Code::Unimplemented && begun.message().contains("one moment"), "{begun}");
        let within = refused(client.execute("SELECT 1".into(), Some("tx".into())).await.unwrap_err());
        assert_eq!(within.code(), Code::Unimplemented, "{within}");
        let ingest = CommandStatementIngest { table: "names".into(), ..Default::default() };
        let descriptor = FlightDescriptor::new_cmd(ingest.as_any().encode_to_vec());
        let message = arrow_flight::FlightData::new().with_descriptor(descriptor);
        let put = client.inner_mut().do_put(futures::stream::iter([message])).await.err().unwrap();
        assert!(put.message().contains("POST /v1/streams"), "{put}");
        // All is as it was, and answered.
        assert_eq!(column(&rows(&mut client, "SELECT count(*) AS c FROM names").await, "c"), ["3"]);

        // Bytes that are no messages, and values that are no rows, neither stop the server nor the connection.
        let mut state = 7u64;
        for round in 0..200 {
            let mut bytes = CommandStatementQuery { query: "SELECT 1".into(), transaction_id: None }
                .as_any()
                .encode_to_vec();
            for _ in 0..=round % 4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] ^= (state >> 20) as u8;
            }
            let inner = client.inner_mut();
            let info = inner.get_flight_info(FlightDescriptor::new_cmd(bytes.clone())).await;
            let got = inner.do_get(arrow_flight::Ticket::new(bytes.clone())).await.map(drop);
            let action = inner.do_action(Action::new("CreatePreparedStatement", bytes)).await.map(drop);
            for status in [info.map(drop), got, action].into_iter().filter_map(Result::err) {
                assert!(
                    ![Code::Unknown, Code::Internal, Code::Unavailable].contains(&status.code()),
                    "{status}"
                );
            }
        }
        let large = "x".repeat(5 << 20);
        let status = query(&mut client, &format!("SELECT '{large}'")).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        assert_eq!(column(&rows(&mut client, "SELECT 1 AS one").await, "one"), ["1"]);
    });
    world.server.stop();
}
