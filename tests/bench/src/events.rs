//! The events of the Yahoo streaming benchmark: advertisements that are viewed, clicked and bought, 1,000 of them in 100
//! campaigns, about 229 bytes of JSON each. Of 100 events 5 are late, by up to 5 s. The same events on every run.

use std::fmt::Write as _;

/// How many advertisements there are.
pub(crate) const ADS: u64 = 1_000;
/// In how many campaigns.
pub(crate) const CAMPAIGNS: u64 = 100;
/// How many events there are in a second of event time.
pub(crate) const PER_SECOND: u64 = 20_000;
/// 2026-01-01T00:00:00Z in seconds since the epoch.
const START: u64 = 1_767_225_600;
/// About how many bytes an event has.
pub(crate) const BYTES: usize = 229;

const AD_TYPES: [&str; 5] = ["banner", "modal", "sponsored-search", "mail", "mobile"];
const EVENT_TYPES: [&str; 3] = ["view", "click", "purchase"];

/// Numbers that look drawn, and are the same for the same seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Events `from..to` of `users` users, a line each.
pub(crate) fn ndjson(from: u64, to: u64, users: u64) -> String {
    let mut text = String::with_capacity(usize::try_from(to - from).unwrap_or(0) * (BYTES + 8));
    for n in from..to {
        let mut random = Random(n);
        let late = if random.below(100) < 5 { random.below(5_000) } else { 0 };
        let millis = (n * 1_000 / PER_SECOND).saturating_sub(late);
        let (user, page, ad) = (random.below(users), random.below(10_000), random.below(ADS));
        let ad_type = AD_TYPES[random.below(5) as usize];
        let event_type = EVENT_TYPES[random.below(3) as usize];
        let address = random.next();
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{{\"user_id\":\"{}\",\"page_id\":\"{}\",\"ad_id\":\"{}\",\"ad_type\":\"{ad_type}\",\
             \"event_type\":\"{event_type}\",\"event_time\":{},\"ip_address\":\"10.{}.{}.{}\"}}",
            id(user),
            id(page + 1_000_000_000),
            ad_id(ad),
            START * 1_000 + millis,
            address & 255,
            (address >> 8) & 255,
            (address >> 16) & 255,
        );
    }
    text
}

/// A number as an identifier of 36 characters.
fn id(n: u64) -> String {
    let (a, b) = (Random(n).next(), Random(!n).next());
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// An advertisement's identifier, of 20 characters.
fn ad_id(ad: u64) -> String {
    format!("ad-{:016x}-", Random(ad).next())
}

/// The table of campaigns, as CSV.
pub(crate) fn campaigns() -> String {
    let mut text = String::from("ad_id,campaign_id\n");
    for ad in 0..ADS {
        let _ = writeln!(text, "{},campaign-{:03}", ad_id(ad), ad % CAMPAIGNS);
    }
    text
}
