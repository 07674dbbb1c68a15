//! Settings: what clients set when they connect, and what they ask.
//!
//! A setting is accepted if it says what is so anyway, or what only the client needs to remember, and `statement_timeout`
//! works. What would change answers and cannot be is refused, so that nobody believes in it: times are in UTC, texts in
//! UTF-8, and nothing is written.

use super::failure::{Failure, state};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a setting may be.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// It means nothing to the server.
    Anything,
    /// One of these, in any case of letters; the reason why no other.
    OneOf(&'static [&'static str], &'static str),
    /// It begins so.
    Begins(&'static str, &'static str),
    /// A time, zero for none.
    Time,
    /// It is as it is.
    Fixed,
}

/// Each setting with its default; those in the case of letters in which clients are told of them are told.
const SETTINGS: &[(&str, &str, Rule)] = &[
    ("application_name", "", Rule::Anything),
    ("client_encoding", "UTF8", Rule::OneOf(&["utf8", "utf-8", "unicode"], "texts are in UTF-8")),
    ("DateStyle", "ISO, MDY", Rule::Begins("iso", "times are written as ISO 8601")),
    ("IntervalStyle", "postgres", Rule::OneOf(&["postgres"], "intervals are written so")),
    ("TimeZone", "UTC", Rule::OneOf(UTC, "times are in UTC: convert them in the client, or in the query")),
    ("standard_conforming_strings", "on", Rule::OneOf(ON, "texts are read so")),
    ("bytea_output", "hex", Rule::OneOf(&["hex"], "bytes are written so")),
    ("extra_float_digits", "1", Rule::Anything),
    ("search_path", "\"$user\", public", Rule::Anything),
    ("client_min_messages", "notice", Rule::Anything),
    ("statement_timeout", "0", Rule::Time),
    ("lock_timeout", "0", Rule::Time),
    ("idle_in_transaction_session_timeout", "0", Rule::Time),
    ("idle_session_timeout", "0", Rule::Time),
    ("transaction_timeout", "0", Rule::Time),
    ("default_transaction_isolation", "read committed", Rule::Anything),
    ("transaction_isolation", "read committed", Rule::Anything),
    ("default_transaction_read_only", "on", Rule::OneOf(ON, "nothing is written here")),
    ("transaction_read_only", "on", Rule::OneOf(ON, "nothing is written here")),
    ("default_transaction_deferrable", "off", Rule::Anything),
    ("row_security", "on", Rule::Anything),
    ("jit", "off", Rule::Anything),
    ("synchronize_seqscans", "on", Rule::Anything),
    ("quote_all_identifiers", "off", Rule::Anything),
    ("server_version", super::functions::SERVER_VERSION, Rule::Fixed),
    ("server_version_num", "160006", Rule::Fixed),
    ("server_encoding", "UTF8", Rule::Fixed),
    ("integer_datetimes", "on", Rule::Fixed),
    ("is_superuser", "off", Rule::Fixed),
    ("in_hot_standby", "off", Rule::Fixed),
    ("max_identifier_length", "63", Rule::Fixed),
    ("max_index_keys", "32", Rule::Fixed),
    ("block_size", "8192", Rule::Fixed),
    ("lc_collate", "C", Rule::Fixed),
    ("lc_ctype", "C", Rule::Fixed),
    ("wal_level", "minimal", Rule::Fixed),
    ("max_connections", "384", Rule::Fixed),
];
/// Those that a client is told of when it connects, and when they change.
const TOLD: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "search_path",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "TimeZone",
];
const UTC: &[&str] = &["utc", "gmt", "etc/utc", "etc/gmt", "zulu", "z", "0", "+00", "+00:00", "gmt0", "utc0"];
const ON: &[&str] = &["on", "true", "yes", "1", "t", "y"];

/// The settings of a connection that differ from the defaults.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// Sets what a client asks for; without a value, back to the default. Gives the name and the value that the client is
    /// to be told of, if it is.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Option<(String, String)>, Failure> {
        let (name, default, rule) = find(name).ok_or_else(|| unknown(name))?;
        let value = value.unwrap_or(default);
        check(name, value, rule, default)?;
        self.0.insert(name, value.to_string());
        Ok(TOLD.contains(&name).then(|| (name.to_string(), value.to_string())))
    }

    /// Sets what a client says when it connects. A time zone is no reason to turn it away, since it is told that it is
    /// UTC; nor is what is not known.
    pub(super) fn set_at_start(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        match find(name) {
            None | Some(("TimeZone", ..)) => Ok(()),
            Some(_) => self.set(name, Some(value)).map(drop),
        }
    }

    /// What it is now.
    pub(super) fn get(&self, name: &str) -> Result<&str, Failure> {
        let name = match name {
            "time zone" => "TimeZone",
            "transaction isolation level" => "transaction_isolation",
            "session authorization" => return Err(unknown(name)),
            name => name,
        };
        let (name, default, _) = find(name).ok_or_else(|| unknown(name))?;
        Ok(self.0.get(name).map_or(default, String::as_str))
    }

    /// Back to the defaults.
    pub(super) fn reset(&mut self) {
        self.0.clear();
    }

    /// All names and values.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS.iter().map(|(name, default, _)| (*name, self.0.get(name).map_or(*default, String::as_str)))
    }

    /// What a client is told when it has connected.
    pub(super) fn told(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.all().filter(|(name, _)| TOLD.contains(name))
    }

    /// How long a statement may take.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        time(self.get("statement_timeout").ok()?).filter(|time| !time.is_zero())
    }
}

/// What a setting is if nobody sets it.
pub(super) fn default(name: &str) -> Option<&'static str> {
    find(name).map(|(_, default, _)| default)
}

fn find(name: &str) -> Option<(&'static str, &'static str, Rule)> {
    SETTINGS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).copied()
}

fn unknown(name: &str) -> Failure {
    Failure::new(state::NO_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

fn check(name: &str, value: &str, rule: Rule, default: &str) -> Result<(), Failure> {
    let lower = value.to_lowercase();
    let (holds, why) = match rule {
        Rule::Anything => (true, ""),
        Rule::OneOf(values, why) => (values.contains(&lower.as_str()), why),
        Rule::Begins(start, why) => (lower.starts_with(start), why),
        Rule::Time => (time(value).is_some(), "expected milliseconds, or a number with ms, s, min, h or d"),
        Rule::Fixed => (false, "it cannot be changed"),
    };
    if holds {
        return Ok(());
    }
    let code = if name.ends_with("read_only") { state::READ_ONLY } else { state::BAD_PARAMETER };
    Err(Failure::new(code, format!("{name} cannot be \"{value}\": {why}; it is \"{default}\" by default")))
}

fn time(text: &str) -> Option<Duration> {
    let digits = text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len());
    let (number, unit) = text.trim().split_at(digits);
    let milliseconds = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_anyway_is_accepted_and_what_would_matter_is_not() {
        let mut settings = Settings::default();
        for (name, value) in [
            ("client_encoding", "utf-8"),
            ("datestyle", "ISO, YMD"),
            ("TIMEZONE", "Etc/UTC"),
            ("extra_float_digits", "3"),
            ("search_path", "public"),
            ("application_name", "x"),
        ] {
            assert!(settings.set(name, Some(value)).is_ok(), "{name}");
        }
        for (name, value, code) in [
            ("client_encoding", "LATIN1", state::BAD_PARAMETER),
            ("datestyle", "German", state::BAD_PARAMETER),
            ("timezone", "Europe/Vienna", state::BAD_PARAMETER),
            ("default_transaction_read_only", "off", state::READ_ONLY),
            ("server_version", "17", state::BAD_PARAMETER),
            ("datafusion.execution.batch_size", "1", state::NO_OBJECT),
            ("statement_timeout", "soon", state::BAD_PARAMETER),
        ] {
            assert_eq!(settings.set(name, Some(value)).unwrap_err().code(), code, "{name}");
        }
        assert_eq!(
            settings.set("application_name", Some("y")).unwrap(),
            Some(("application_name".into(), "y".into()))
        );
        assert_eq!(settings.get("time zone").unwrap(), "Etc/UTC");
        settings.reset();
        assert_eq!(settings.get("TimeZone").unwrap(), "UTC");
    }

    #[test]
    fn a_timeout_is_read_with_and_without_its_unit() {
        let mut settings = Settings::default();
        assert_eq!(settings.statement_timeout(), None);
        for (text, milliseconds) in [("250", 250), ("2s", 2_000), ("1 min", 60_000), ("3ms", 3)] {
            settings.set("statement_timeout", Some(text)).unwrap();
            assert_eq!(settings.statement_timeout(), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        settings.set("statement_timeout", None).unwrap();
        assert_eq!(settings.statement_timeout(), None);
    }

    #[test]
    fn a_client_elsewhere_in_the_world_may_connect() {
        let mut settings = Settings::default();
        settings.set_at_start("TimeZone", "Europe/Vienna").unwrap();
        assert_eq!(settings.get("TimeZone").unwrap(), "UTC");
        settings.set_at_start("something_new", "1").unwrap();
        assert!(settings.set_at_start("client_encoding", "LATIN1").is_err());
    }
}
