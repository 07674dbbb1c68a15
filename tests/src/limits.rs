//! A machine that runs out: what cannot be done is refused, what was there stays, and all goes on by itself.

use crate::bad_input::{csv, ingest, project};
use crate::process::Server;
use std::net::TcpStream;
use std::time::Duration;

/// Clients take every file handle that a server may have, and let go of them.
#[test]
#[cfg(target_os = "linux")]
fn a_server_out_of_file_handles_goes_on_when_there_are_some() {
    let dir = project();
    let server = Server::start_within("ulimit -n 96", dir.path(), &["up"], "serve");
    ingest(dir.path(), b"{\"k\":\"a\",\"n\":1}\n");
    let address = server.url.strip_prefix("http://").unwrap().to_string();
    let held: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(held.len() > 96, "{} connections", held.len());
    std::thread::sleep(Duration::from_secs(1));
    drop(held);
    ingest(dir.path(), b"{\"k\":\"b\",\"n\":2}\n");
    assert_eq!(csv(dir.path(), "SELECT * FROM v ORDER BY k"), "k,c,n\na,1,1\nb,1,2\n");
    server.stop();
}
