//! Where a protocol beside HTTP is answered: an address, or not at all.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address to listen on, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// There; port 0 is a free one.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl Listening {
    /// What is expected where one is told.
    pub const EXPECTED: &str = "an IP address and a port, as \"127.0.0.1:8663\", or \"off\"";
}

impl FromStr for Listening {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|_| format!("expected {}", Self::EXPECTED)),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}
