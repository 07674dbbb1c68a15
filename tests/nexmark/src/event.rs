//! The three kinds of events, and how they look as NDJSON.
//!
//! Keys are the names of the streams' columns, in lower case, as unquoted names are. Times are integers:
//! milliseconds since 1970, UTC.

use std::fmt::Write;

/// Somebody joins.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Person {
    pub id: u64,
    pub name: String,
    pub email_address: String,
    pub credit_card: String,
    pub city: &'static str,
    pub state: &'static str,
    pub date_time: u64,
    pub extra: String,
}

/// Something is for sale until `expires`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Auction {
    pub id: u64,
    pub item_name: String,
    pub description: String,
    pub initial_bid: u64,
    pub reserve: u64,
    pub date_time: u64,
    pub expires: u64,
    pub seller: u64,
    pub category: u64,
    pub extra: String,
}

/// Somebody offers a price, in cents.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Bid {
    pub auction: u64,
    pub bidder: u64,
    pub price: u64,
    pub channel: String,
    pub url: String,
    pub date_time: u64,
    pub extra: String,
}

/// One event of one of the three streams.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Person(Person),
    Auction(Auction),
    Bid(Bid),
}

impl Event {
    /// The stream that it belongs to: `person`, `auction` or `bid`.
    pub fn stream(&self) -> &'static str {
        match self {
            Event::Person(_) => "person",
            Event::Auction(_) => "auction",
            Event::Bid(_) => "bid",
        }
    }

    /// When it happened, in milliseconds since 1970, UTC.
    pub fn date_time(&self) -> u64 {
        match self {
            Event::Person(Person { date_time, .. })
            | Event::Auction(Auction { date_time, .. })
            | Event::Bid(Bid { date_time, .. }) => *date_time,
        }
    }

    /// Appends it to `out` as one JSON object, without a line break.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Event::Person(p) => Object::new(out)
                .number("id", p.id)
                .text("name", &p.name)
                .text("emailaddress", &p.email_address)
                .text("creditcard", &p.credit_card)
                .text("city", p.city)
                .text("state", p.state)
                .number("datetime", p.date_time)
                .text("extra", &p.extra)
                .end(),
            Event::Auction(a) => Object::new(out)
                .number("id", a.id)
                .text("itemname", &a.item_name)
                .text("description", &a.description)
                .number("initialbid", a.initial_bid)
                .number("reserve", a.reserve)
                .number("datetime", a.date_time)
                .number("expires", a.expires)
                .number("seller", a.seller)
                .number("category", a.category)
                .text("extra", &a.extra)
                .end(),
            Event::Bid(b) => Object::new(out)
                .number("auction", b.auction)
                .number("bidder", b.bidder)
                .number("price", b.price)
                .text("channel", &b.channel)
                .text("url", &b.url)
                .number("datetime", b.date_time)
                .text("extra", &b.extra)
                .end(),
        }
    }
}

/// Writes an object member by member. Texts hold no character that JSON escapes: see `market`.
struct Object<'a> {
    out: &'a mut String,
    separator: char,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut String) -> Self {
        Self { out, separator: '{' }
    }

    fn number(self, key: &str, value: u64) -> Self {
        self.member(format_args!("\"{key}\":{value}"))
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.member(format_args!("\"{key}\":\"{value}\""))
    }

    fn member(mut self, member: std::fmt::Arguments<'_>) -> Self {
        self.out.push(self.separator);
        self.out.write_fmt(member).expect("a String takes any text");
        self.separator = ',';
        self
    }

    fn end(self) {
        self.out.push('}');
    }
}
