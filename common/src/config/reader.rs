//! Reads typed values out of a TOML document and says where it went wrong.
//!
//! The document is walked by hand, not through serde, because its spans give each error the line of its key and
//! the value as it was written.

use super::duration;
use crate::error::{Error, Result};
use crate::suggest;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A parsed file.
pub(super) struct Document<'a> {
    source: Source<'a>,
    table: DeTable<'a>,
}

/// A table of the document, whose keys are all known; a section that the file does not have is empty.
pub(super) struct Section<'a> {
    source: Source<'a>,
    /// Empty for the top level.
    name: &'a str,
    table: Option<&'a DeTable<'a>>,
    elsewhere: &'a [(&'a str, &'a [&'a str])],
}

#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Document<'a> {
    pub(super) fn parse(text: &'a str, file: &'a str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source { file, text };
        let table = DeTable::parse(text).map_err(|e| {
            source.error(e.span().unwrap_or_default(), e.message().lines().collect::<Vec<_>>().join(", "))
        })?;
        Ok(Self { source, table: table.into_inner() })
    }

    /// The top level, which may have the keys `known`; `elsewhere` are the sections and their keys.
    pub(super) fn top(
        &'a self,
        known: &'a [&'a str],
        elsewhere: &'a [(&'a str, &'a [&'a str])],
    ) -> Result<Section<'a>> {
        let section = Section { source: self.source, name: "", table: Some(&self.table), elsewhere };
        section.check_keys(known, known)?;
        Ok(section)
    }
}

impl<'a> Section<'a> {
    /// The section `name` of the top level, which may have the keys `known`.
    pub(super) fn section(&self, name: &'a str, known: &[&str]) -> Result<Section<'a>> {
        let table = match self.get(name) {
            None => None,
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => return Err(self.unexpected(name, &format!("a section [{name}]"), value)),
            },
        };
        let section = Section { source: self.source, name, table, elsewhere: self.elsewhere };
        section.check_keys(known, super::TOP)?;
        Ok(section)
    }

    /// A text that `parse` accepts.
    pub(super) fn text<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        self.read(key, expected, |value| value.as_str().and_then(parse))
    }

    /// A path that is not empty.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        self.text(key, "a directory", |text| (!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// A path of a file that is not empty.
    pub(super) fn file(&self, key: &str) -> Result<Option<PathBuf>> {
        self.text(key, "a file", |text| (!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// A list of texts that `parse` accepts; none if the key is not there.
    pub(super) fn texts(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>> {
        let list = self.read(key, expected, |value| {
            value.as_array()?.iter().map(|item| item.get_ref().as_str().and_then(&parse)).collect()
        });
        Ok(list?.unwrap_or_default())
    }

    /// The error for a key that needs another beside it.
    pub(super) fn lacks(&self, key: &str, other: &str) -> Error {
        let span = self.get(key).map(|value| value.span()).unwrap_or_default();
        self.source.error(span, format!("`{key}`{} needs {other}, beside it", self.place()))
    }

    /// An address to listen on.
    pub(super) fn address(&self, key: &str) -> Result<Option<SocketAddr>> {
        self.text(key, "an IP address and a port, as \"127.0.0.1:8660\"", |text| text.parse().ok())
    }

    /// A whole number above zero.
    pub(super) fn count<T: TryFrom<u64>>(&self, key: &str) -> Result<Option<T>> {
        self.read(key, "a whole number of at least 1", |value| {
            let integer = value.as_integer()?;
            let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            if number == 0 { None } else { T::try_from(number).ok() }
        })
    }

    /// A duration above zero.
    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let expected = format!("a duration above zero, {}", duration::EXAMPLE);
        self.text(key, &expected, |text| duration::parse(text).filter(|d| !d.is_zero()))
    }

    /// A duration.
    pub(super) fn duration_or_zero(&self, key: &str) -> Result<Option<Duration>> {
        self.text(key, &format!("a duration, {}", duration::EXAMPLE), duration::parse)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.get(key)
            .map(|value| parse(value.get_ref()).ok_or_else(|| self.unexpected(key, expected, value)))
            .transpose()
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value)
    }

    fn unexpected(&self, key: &str, expected: &str, found: &Spanned<DeValue<'_>>) -> Error {
        let span = found.span();
        let found = self.source.text.get(span.clone()).and_then(|t| t.lines().next()).unwrap_or_default();
        self.source.error(span, format!("`{key}`{}: expected {expected}, found {found}", self.place()))
    }

    /// Refuses the first key, in the order of the file, that is not `known`.
    fn check_keys(&self, known: &[&str], top: &[&str]) -> Result<()> {
        let keys = self.table.iter().flat_map(|table| table.keys());
        let unknown = keys.filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let (span, key) = (key.span(), key.get_ref());
        let hint = self.belongs(key, top).unwrap_or_else(|| suggest::hint(key, known));
        Err(self.source.error(span, format!("unknown key `{key}`{}; {hint}", self.place())))
    }

    fn belongs(&self, key: &str, top: &[&str]) -> Option<String> {
        if !self.name.is_empty() && top.contains(&key) {
            return Some("it belongs at the top, before the sections".to_string());
        }
        let (section, _) = self.elsewhere.iter().find(|(_, keys)| keys.contains(&key))?;
        Some(format!("it belongs in [{section}]"))
    }

    fn place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) }
    }
}

impl Source<'_> {
    fn error(&self, span: Range<usize>, message: String) -> Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        Error::Invalid(format!("{}:{line}: {message}", self.file))
    }
}
