//! A client that costs little: one connection, one request after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A connection that is kept.
pub struct Connection {
    socket: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket: BufReader::new(socket) }
    }

    pub fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    pub fn post(&mut self, path: &str, body: &str) -> String {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        self.send(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// The body of a good answer.
    fn send(&mut self, request: &[u8]) -> String {
        self.socket.get_mut().write_all(request).unwrap();
        let (mut line, mut length, mut good) = (String::new(), 0, None);
        loop {
            line.clear();
            assert!(self.socket.read_line(&mut line).unwrap() > 0, "the connection was closed");
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            good.get_or_insert(header.starts_with("http/1.1 200"));
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(good, Some(true), "{body}");
        body
    }
}
