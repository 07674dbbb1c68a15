//! Stopping: whatever a client does, a server that is asked to stop does so, and keeps what it acknowledged.

use crate::bad_input::{csv, ingest, project};
use crate::process::Server;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_client_that_stalls_does_not_keep_a_server_from_stopping() {
    let dir = project();
    let server = Server::start(dir.path(), &["up"], "serve");
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n");
    let address = server.url.strip_prefix("http://").unwrap().to_string();
    let mut stalled = TcpStream::connect(address).unwrap();
    let half = "POST /v1/streams/s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n\
                Content-Length: 100\r\n\r\n{\"k\":\"b\",";
    stalled.write_all(half.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    server.stop_within(Duration::from_secs(20));
    assert_eq!(csv(dir.path(), "SELECT * FROM v"), "k,c,n\na,1,1\n");
    drop(stalled);
}
