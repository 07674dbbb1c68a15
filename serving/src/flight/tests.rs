use super::service::Flight;
use super::*;
use crate::testing::{EVENTS, World, canonical};
use arrow::array::{Int64Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo,
};
use axum::body::Body;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::time::Duration;
use tonic::{Code, Request};
use tower::ServiceExt;

/// More rows than anybody waits for, of which few are held.
const ENDLESS: &str = "SELECT a.delay FROM flights a, flights b, generate_series(1, 1000000) c";
/// The same without a row before the end.
const SILENT: &str =
    "SELECT sum(a.value + b.value) AS n FROM generate_series(1, 100000) a, generate_series(1, 100000000) b";

async fn ask(flight: &Flight, sql: &str) -> Result<FlightInfo, Status> {
    let command = CommandStatementQuery { query: sql.into(), transaction_id: None };
    info(flight, &command).await
}

async fn info(flight: &Flight, command: &impl ProstMessageExt) -> Result<FlightInfo, Status> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    Ok(flight.get_flight_info(Request::new(descriptor)).await?.into_inner())
}

async fn get(flight: &Flight, info: &FlightInfo) -> Result<FlightRecordBatchStream, Status> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let messages = flight.do_get(Request::new(ticket)).await?.into_inner();
    Ok(FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from)))
}

async fn rows(flight: &Flight, sql: &str) -> Vec<RecordBatch> {
    let info = ask(flight, sql).await.unwrap();
    let mut stream = get(flight, &info).await.unwrap();
    let batches: Vec<_> = stream.by_ref().try_collect().await.unwrap();
    let schema = info.try_decode_schema().unwrap();
    assert_eq!(stream.schema().unwrap().fields(), schema.fields(), "{sql}: what was announced");
    batches
}

async fn cancel(flight: &Flight, info: &FlightInfo) -> CancelStatus {
    let body = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let action = Request::new(Action::new("CancelFlightInfo", body));
    let result = flight.do_action(action).await.unwrap().into_inner().next().await.unwrap().unwrap();
    CancelFlightInfoResult::decode(result.body).unwrap().status()
}

async fn nothing_runs(flight: &Flight) {
    for _ in 0..1000 {
        if flight.runs.len() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} queries still run", flight.runs.len());
}

#[tokio::test]
async fn an_answer_is_that_of_the_plain_query_with_its_coverage() {
    let world = World::new().await;
    world.batch_to("delays", [10, 20]).await;
    let flight = Flight::new(world.serving());
    for sql in
        ["SELECT * FROM delays", "SELECT count(*) AS n, sum(delay) AS d FROM flights", "SELECT * FROM worst"]
    {
        assert_eq!(canonical(&rows(&flight, sql).await), canonical(&world.plain(sql).await), "{sql}");
    }
    let info = ask(&flight, "SELECT * FROM delays").await.unwrap();
    let mut stream = get(&flight, &info).await.unwrap();
    while stream.next().await.is_some() {}
    let metadata = stream.schema().unwrap().metadata().clone();
    assert!(
        metadata["twofold.coverage"].contains(&format!("\"batch\":[0,20],\"speed\":[20,{EVENTS}]")),
        "{metadata:?}"
    );
    assert_eq!(metadata["twofold.watermark"], "2013-01-01T10:00:00Z");
    assert!(!metadata.contains_key("twofold.version"));
}

#[tokio::test]
async fn a_schema_is_given_without_asking_for_a_row() {
    let world = World::new().await;
    let flight = Flight::new(world.serving());
    let info = ask(&flight, "SELECT * FROM totals").await.unwrap();
    assert_eq!(info.try_decode_schema().unwrap().field(0).name(), "n");
    assert!(world.speed.script(|s| s.asked.is_empty()), "nothing was run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_its_query() {
    let world = World::new().await;
    let flight = Flight::new(world.serving());
    let info = ask(&flight, ENDLESS).await.unwrap();
    let mut stream = get(&flight, &info).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    assert_eq!(flight.runs.len(), 1);
    drop(stream);
    nothing_runs(&flight).await;
    // And one that goes before there is a row.
    let stream = get(&flight, &ask(&flight, SILENT).await.unwrap()).await.unwrap();
    assert_eq!(flight.runs.len(), 1);
    drop(stream);
    nothing_runs(&flight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_ends_with_an_error_and_its_ticket_is_of_no_use() {
    let world = World::new().await;
    let flight = Flight::new(world.serving());
    for sql in [ENDLESS, SILENT] {
        let info = ask(&flight, sql).await.unwrap();
        let stream = get(&flight, &info).await.unwrap();
        assert_eq!(cancel(&flight, &info).await, CancelStatus::Cancelled);
        // Though the client takes nothing, all is let go of.
        nothing_runs(&flight).await;
        let ended = stream.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(Status::from(ended).code(), Code::Cancelled);
        assert_eq!(get(&flight, &info).await.err().map(|e| e.code()), Some(Code::Cancelled));
    }
    let unused = ask(&flight, "SELECT * FROM totals").await.unwrap();
    assert_eq!(cancel(&flight, &unused).await, CancelStatus::Cancelled);
    assert_eq!(get(&flight, &unused).await.err().map(|e| e.code()), Some(Code::Cancelled));
    assert_eq!(cancel(&flight, &FlightInfo::new()).await, CancelStatus::NotCancellable);
}

#[tokio::test]
async fn a_query_that_fails_between_two_rows_does_not_end_well() {
    let world = World::new().await;
    let flight = Flight::new(world.serving());
    let sql = "SELECT 1 / (a.delay - 10) AS x FROM flights a, flights b WHERE a.delay IS NOT NULL";
    let plain = world.plain("SELECT delay FROM flights WHERE delay = 10").await;
    assert!(plain.iter().any(|batch| batch.num_rows() > 0), "the division fails on a row");
    let stream = get(&flight, &ask(&flight, sql).await.unwrap()).await.unwrap();
    let status = Status::from(stream.try_collect::<Vec<_>>().await.unwrap_err());
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("Divide by zero"), "{status}");
    nothing_runs(&flight).await;
}

#[tokio::test]
async fn a_prepared_statement_runs_with_the_values_that_were_bound_before_it_was_asked_for() {
    let world = World::new().await;
    let flight = Flight::new(world.serving());
    let asked = ActionCreatePreparedStatementRequest {
        query: "SELECT count(*) AS n FROM flights WHERE carrier = ? AND delay > ?".into(),
        transaction_id: None,
    };
    let action = Action::new("CreatePreparedStatement", asked.as_any().encode_to_vec());
    let result =
        flight.do_action(Request::new(action)).await.unwrap().into_inner().next().await.unwrap().unwrap();
    let result: ActionCreatePreparedStatementResult =
        Any::decode(result.body).unwrap().unpack().unwrap().unwrap();
    let types =
        arrow::datatypes::Schema::try_from(arrow_flight::IpcMessage(result.parameter_schema)).unwrap();
    let types: Vec<_> = types.fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types, ["Utf8", "Int64"]);
    let handle = result.prepared_statement_handle;
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    let refused = info(&flight, &command).await.unwrap_err();
    assert!(refused.message().contains("has 2 parameters, and 0 values were given"), "{refused}");
    let mut infos = Vec::new();
    for least in [0i64, 1_000_000] {
        flight.prepared.bind(&handle, vec!["UA".into(), least.into()]).unwrap();
        infos.push(info(&flight, &command).await.unwrap());
    }
    // The first ticket is of values that are there no more: no answer is better than another one's.
    assert_eq!(get(&flight, &infos[0]).await.err().map(|e| e.code()), Some(Code::Aborted));
    let batches: Vec<_> = get(&flight, &infos[1]).await.unwrap().try_collect().await.unwrap();
    assert_eq!(batches[0].column(0).as_ref(), &Int64Array::from(vec![0]));
}

#[tokio::test]
async fn what_is_no_ticket_and_what_is_too_large_is_refused() {
    let world = World::new().await;
    let flight = Flight::new(world.serving());
    let large = ask(&flight, &format!("SELECT '{}'", "x".repeat(SQL_LIMIT))).await.unwrap_err();
    assert!(
        large.code() == Code::InvalidArgument && large.message().contains("larger than 1 MiB"),
        "{large}"
    );
    for ticket in [&b"\xff\xff"[..], b"", b"\x0a\x03abc"] {
        let refused =
            flight.do_get(Request::new(arrow_flight::Ticket::new(ticket.to_vec()))).await.err().unwrap();
        assert!([Code::InvalidArgument, Code::Unimplemented].contains(&refused.code()), "{refused}");
    }
    let forged = message::Statement { sql: "SELECT 1".into(), ..message::Statement::default() }.ticket();
    let refused = flight.do_get(Request::new(forged)).await.err().unwrap();
    assert!(refused.message().contains("GetFlightInfo"), "{refused}");
}

#[tokio::test]
async fn another_service_is_told_what_is_here() {
    let world = World::new().await;
    let request = axum::http::Request::post("/grpc.health.v1.Health/Check").body(Body::empty()).unwrap();
    let response = flight_app(world.serving(), Gate::open()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
}
