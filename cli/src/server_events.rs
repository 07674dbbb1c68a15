//! Server-Sent Events, as they come over a connection.
//!
//! An event is whole or not there: what a connection breaks off in is left out.

use reqwest::Response;
use std::time::Duration;
use tokio::time::timeout;

/// Servers send a heartbeat every 15 s: one that is silent for longer is gone.
const SILENT_FOR: Duration = Duration::from_secs(50);

/// The events of one answer.
#[derive(Debug)]
pub(crate) struct ServerEvents {
    response: Response,
    received: Received,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// What has come and was not taken yet.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    /// Before this there is no end of an event.
    searched: usize,
}

impl ServerEvents {
    pub(crate) fn new(response: Response) -> Self {
        Self { response, received: Received::default() }
    }

    /// The next event; none when the connection has ended, however it did.
    pub(crate) async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some(event) = self.received.take() {
                return Some(event);
            }
            let chunk = timeout(SILENT_FOR, self.response.chunk()).await;
            self.received.bytes.extend_from_slice(&chunk.ok()?.ok()??);
        }
    }
}

impl Received {
    /// The first event that is whole. Comments are none.
    fn take(&mut self) -> Option<ServerEvent> {
        loop {
            let from = self.searched.saturating_sub(1);
            let Some(end) = self.bytes[from..].windows(2).position(|pair| pair == b"\n\n") else {
                self.searched = self.bytes.len();
                return None;
            };
            let rest = self.bytes.split_off(from + end + 2);
            let text = String::from_utf8_lossy(&std::mem::replace(&mut self.bytes, rest)).into_owned();
            self.searched = 0;
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                return Some(ServerEvent { name: name.to_string(), data: data.to_string() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = "event: rows\nid: 1\ndata: {\"a\":\"é\"}\n\n: still here\n\nevent: changes\ndata: 2\n\nevent: half\n";
        for size in 1..text.len() {
            let (mut received, mut events) = (Received::default(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                received.bytes.extend_from_slice(chunk);
                while let Some(event) = received.take() {
                    events.push((event.name, event.data));
                }
            }
            let expected = [("rows", "{\"a\":\"é\"}"), ("changes", "2")];
            assert_eq!(events, expected.map(|(n, d)| (n.to_string(), d.to_string())), "{size}");
        }
    }
}
