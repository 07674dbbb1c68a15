//! What happens at the auction house: the `n`-th event, made from the seed and `n` alone.
//!
//! An event speaks only of people and auctions that came before it. All texts are ASCII without quotes, backslashes
//! and control characters, so that they stand in JSON as they are.

use crate::event::{Auction, Bid, Event, Person};
use crate::generator::Config;
use crate::rng::Rng;

/// Of so many events the first is a person, the next three are auctions, and all others are bids.
const ROUND: u64 = 50;
const AUCTIONS: u64 = 3;

/// The first identifiers, as in Nexmark.
const FIRST_ID: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// How many of the newest people sell and bid, and how many of the newest auctions get bids, if they are not hot.
const ACTIVE_PEOPLE: u64 = 1000;
const OPEN_AUCTIONS: u64 = 100;
/// One in so many people and auctions is hot for a while.
const HOT_EVERY: u64 = 100;

/// Events have about this many bytes, counting eight for a number and leaving out a bid's channel and address.
const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_BYTES: u64 = 100;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const PLACES: [(&str, &str); 10] = [
    ("Phoenix", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Redmond", "WA"),
    ("Seattle", "WA"),
    ("Kent", "WA"),
    ("Cheyenne", "WY"),
];
/// The channels through which half of the bids come; the others have a number.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// Kinds of sequences: events by number, channels by number.
const EVENTS: u64 = 0;
const ADDRESSES: u64 = 1;

/// The `n`-th event.
pub(crate) fn event(config: &Config, n: u64) -> Event {
    let mut rng = Rng::new(config.seed, EVENTS, n);
    match n % ROUND {
        0 => Event::Person(person(config, n, &mut rng)),
        1..=AUCTIONS => Event::Auction(auction(config, n, &mut rng)),
        _ => Event::Bid(bid(config, n, &mut rng)),
    }
}

/// How many people there are after event `n`.
fn people(n: u64) -> u64 {
    n / ROUND + 1
}

/// How many auctions there are after event `n`.
fn auctions(n: u64) -> u64 {
    n / ROUND * AUCTIONS + (n % ROUND).min(AUCTIONS)
}

fn person(config: &Config, n: u64, rng: &mut Rng) -> Person {
    let (first, last) = (rng.pick(&FIRST_NAMES), rng.pick(&LAST_NAMES));
    let (city, state) = rng.pick(&PLACES);
    let email_address = format!("{}@{}.com", rng.text(7, false), rng.text(5, false));
    let digits: Vec<String> = (0..4).map(|_| format!("{:04}", rng.below(10_000))).collect();
    let credit_card = digits.join(" ");
    let name = format!("{first} {last}");
    let size = 16 + name.len() + email_address.len() + credit_card.len() + city.len() + state.len();
    let id = FIRST_ID + people(n) - 1;
    let extra = padding(rng, size, PERSON_BYTES);
    Person { id, name, email_address, credit_card, city, state, date_time: config.time(n), extra }
}

fn auction(config: &Config, n: u64, rng: &mut Rng) -> Auction {
    let (item_name, description) = (rng.text(20, true), rng.text(100, true));
    let initial_bid = price(rng);
    let size = 64 + item_name.len() + description.len();
    let date_time = config.time(n);
    // It lasts, on the average, until as many auctions have come as may be open.
    let open = config.time(n + OPEN_AUCTIONS * ROUND / AUCTIONS) - date_time;
    Auction {
        id: FIRST_ID + auctions(n) - 1,
        initial_bid,
        reserve: initial_bid + price(rng),
        date_time,
        expires: date_time + 1 + rng.below(2 * open),
        seller: FIRST_ID + hot_or_recent(rng, 4, 0, ACTIVE_PEOPLE, people(n)),
        category: FIRST_CATEGORY + rng.below(CATEGORIES),
        extra: padding(rng, size, AUCTION_BYTES),
        item_name,
        description,
    }
}

fn bid(config: &Config, n: u64, rng: &mut Rng) -> Bid {
    let (channel, url) = channel(config.seed, rng);
    Bid {
        auction: FIRST_ID + hot_or_recent(rng, 2, 0, OPEN_AUCTIONS, auctions(n)),
        // Not the one who sells most.
        bidder: FIRST_ID + hot_or_recent(rng, 4, 1, ACTIVE_PEOPLE, people(n)),
        price: price(rng),
        channel,
        url,
        date_time: config.time(n),
        extra: padding(rng, 32, BID_BYTES),
    }
}

/// Which of the first `count` things: once in `cold` any of the `recent` ones, else the hot one of now, which is
/// the `nth` of the newest hundred.
fn hot_or_recent(rng: &mut Rng, cold: u64, nth: u64, recent: u64, count: u64) -> u64 {
    let newest = count.saturating_sub(1);
    if rng.once_in(cold) {
        newest - rng.below(recent.min(count))
    } else {
        (newest / HOT_EVERY * HOT_EVERY + nth).min(newest)
    }
}

/// From one dollar to a million, in cents: each power of ten as likely as any other.
fn price(rng: &mut Rng) -> u64 {
    let power = 10u64.pow(rng.below(6) as u32);
    100 * power + rng.below(900 * power)
}

/// A channel and an address. What belongs to one channel is always the same, and nine in ten numbered channels
/// name themselves in their address.
fn channel(seed: u64, rng: &mut Rng) -> (String, String) {
    if rng.once_in(2) {
        let hot = rng.below(HOT_CHANNELS.len() as u64);
        return (
            HOT_CHANNELS[hot as usize].to_string(),
            address(&mut Rng::new(seed, ADDRESSES, CHANNELS + hot)),
        );
    }
    let number = rng.below(CHANNELS);
    let mut of_channel = Rng::new(seed, ADDRESSES, number);
    let mut url = address(&mut of_channel);
    if !of_channel.once_in(10) {
        url += &format!("&channel_id={}", of_channel.below(1 << 31));
    }
    (format!("channel-{number}"), url)
}

fn address(rng: &mut Rng) -> String {
    let directories = [rng.text(5, false), rng.text(5, false), rng.text(5, false)].join("/");
    format!("https://www.nexmark.com/{directories}/item.htm?query=1")
}

/// Letters that bring an event of `size` bytes to `wanted`, a fifth of them more or less.
fn padding(rng: &mut Rng, size: usize, wanted: u64) -> String {
    let missing = wanted.saturating_sub(size as u64);
    let spread = missing / 5;
    let length = missing - spread + rng.below(2 * spread + 1);
    rng.text(length, false)
}
