//! The events in the order in which they arrive.

use crate::event::Event;
use crate::market;
use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What decides what is generated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Another seed, other events.
    pub seed: u64,
    /// Events in a second of event time, of all streams together; not 0. Up to 1,000, no two have the same time.
    pub rate: u64,
    /// When the first event happens, in milliseconds since 1970.
    pub start_ms: u64,
    /// How many events in a hundred arrive late.
    pub late_percent: u64,
    /// How late these arrive at most, in milliseconds.
    pub late_ms: u64,
}

impl Default for Config {
    /// Nexmark's: 10,000 events a second from 2015-07-15 on, all in order.
    fn default() -> Self {
        Self { seed: 1, rate: 10_000, start_ms: 1_436_918_400_000, late_percent: 0, late_ms: 3_000 }
    }
}

impl Config {
    /// When event `n` happens.
    pub(crate) fn time(&self, n: u64) -> u64 {
        self.start_ms + (u128::from(n) * 1000 / u128::from(self.rate.max(1))) as u64
    }

    /// When event `n` arrives.
    fn arrival(&self, n: u64) -> u64 {
        const DELAYS: u64 = 2;
        let mut rng = Rng::new(self.seed, DELAYS, n);
        let late = rng.below(100) < self.late_percent;
        self.time(n) + if late { rng.below(self.late_ms + 1) } else { 0 }
    }
}

/// Gives the first events, each once, by the time at which they arrive.
///
/// It keeps numbers of events only, as many as can be late at a time.
#[derive(Debug)]
pub struct Generator {
    config: Config,
    next: u64,
    count: u64,
    /// Arrival and number of those that happened and have not arrived.
    on_the_way: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Generator {
    /// The first `count` events.
    pub fn new(config: Config, count: u64) -> Self {
        Self { config, next: 0, count, on_the_way: BinaryHeap::new() }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        // No event arrives before it happens: when the next one happens, nothing can overtake what has arrived.
        while self.next < self.count {
            let now = self.config.time(self.next);
            if self.on_the_way.peek().is_some_and(|Reverse((arrival, _))| *arrival <= now) {
                break;
            }
            self.on_the_way.push(Reverse((self.config.arrival(self.next), self.next)));
            self.next += 1;
        }
        let Reverse((_, n)) = self.on_the_way.pop()?;
        Some(market::event(&self.config, n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bid, bodies};
    use std::collections::BTreeMap;

    fn events(config: &Config, count: u64) -> Vec<Event> {
        Generator::new(config.clone(), count).collect()
    }

    fn bids(events: &[Event]) -> Vec<&Bid> {
        events.iter().filter_map(|e| if let Event::Bid(bid) = e { Some(bid) } else { None }).collect()
    }

    #[test]
    fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for event in events(&Config::default(), 5_000) {
            *counts.entry(event.stream()).or_default() += 1;
        }
        assert_eq!(counts, [("person", 100), ("auction", 300), ("bid", 4_600)].into());
    }

    /// A digest of the bytes: whoever changes it changes what everybody's runs are compared with.
    #[test]
    fn the_same_seed_gives_the_same_bytes_on_every_machine() {
        let digest = |seed| {
            let all = bodies(events(&Config { seed, late_percent: 10, ..Config::default() }, 1_000));
            let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
            all.iter().flat_map(|(_, body)| body.bytes()).fold(0xcbf2_9ce4_8422_2325, fnv)
        };
        assert_eq!(digest(1), 15_190_112_675_414_282_525);
        assert_ne!(digest(2), digest(1));
    }

    #[test]
    fn lateness_changes_the_order_and_nothing_else() {
        let in_order = Config { rate: 100, ..Config::default() };
        let late = Config { late_percent: 20, late_ms: 3_000, ..in_order.clone() };
        let (in_order, late) = (events(&in_order, 2_000), events(&late, 2_000));
        assert!(in_order.is_sorted_by_key(Event::date_time));
        let (mut newest, mut worst, mut behind) = (0, 0, 0);
        for event in &late {
            newest = newest.max(event.date_time());
            let lateness = newest - event.date_time();
            worst = worst.max(lateness);
            behind += usize::from(lateness > 0);
        }
        assert!((2_000..=3_000).contains(&worst), "{worst} ms");
        assert!((340..=440).contains(&behind), "{behind} events of 2,000");
        let mut sorted = late.clone();
        sorted.sort_by_key(Event::date_time);
        assert_eq!(sorted, in_order);
    }

    #[test]
    fn events_speak_of_what_came_before_them() {
        let (mut people, mut auctions) = (999, 999);
        for event in events(&Config::default(), 20_000) {
            match event {
                Event::Person(person) => people = person.id,
                Event::Auction(auction) => {
                    auctions = auction.id;
                    assert!((1000..=people).contains(&auction.seller));
                    assert!(auction.expires > auction.date_time && auction.reserve > auction.initial_bid);
                }
                Event::Bid(bid) => {
                    assert!((1000..=people).contains(&bid.bidder));
                    assert!((1000..=auctions).contains(&bid.auction));
                    assert!((100..100_000_000).contains(&bid.price));
                }
            }
        }
        assert_eq!((people, auctions), (1399, 2199));
    }

    #[test]
    fn half_of_the_bids_go_to_hot_auctions_and_most_come_from_hot_bidders() {
        let events = events(&Config::default(), 50_000);
        let bids = bids(&events);
        let share = |hot: &dyn Fn(&Bid) -> bool| bids.iter().filter(|b| hot(b)).count() * 100 / bids.len();
        assert!((48..=54).contains(&share(&|b| b.auction % 100 == 0)));
        assert!((73..=77).contains(&share(&|b| b.bidder % 100 == 1)));
        assert!((48..=52).contains(&share(&|b| !b.channel.starts_with("channel-"))));
        assert!((43..=47).contains(&share(&|b| b.url.contains("&channel_id="))));
    }
}
