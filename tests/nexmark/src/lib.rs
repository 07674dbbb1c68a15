//! Nexmark's events: people who join an auction house, auctions that they open, bids that they make.
//!
//! Of 50 events one is a person, three are auctions and 46 are bids, in this order; most auctions come from a few
//! sellers, most bids come from a few bidders and go to a few auctions. Nothing but the [`Config`] decides what is
//! generated:
//!
//! ```text
//! event n = f(seed, rate, start, n)
//! ```
//!
//! with integers only, so that the same events come out on every machine. Events may arrive out of order: that
//! changes their order and nothing else.
//!
//! Proportions, identifiers and skew follow the generator of Nexmark's published implementations; the values
//! themselves are of this crate's own making, so that counts differ from theirs.

mod event;
mod generator;
mod market;
mod rng;

pub use event::{Auction, Bid, Event, Person};
pub use generator::{Config, Generator};
pub use rng::Rng;

/// The names of the streams, in the order in which a joined row can first exist.
pub const STREAMS: [&str; 3] = ["person", "auction", "bid"];

/// The events as one NDJSON body for each of [`STREAMS`], in its order.
pub fn bodies(events: impl IntoIterator<Item = Event>) -> [(&'static str, String); 3] {
    let mut bodies = STREAMS.map(|stream| (stream, String::new()));
    for event in events {
        if let Some((_, body)) = bodies.iter_mut().find(|(stream, _)| *stream == event.stream()) {
            event.write_json(body);
            body.push('\n');
        }
    }
    bodies
}
