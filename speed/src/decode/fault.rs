//! Why an event is rejected: syntax with its place, or a value with the path of its column.

use arrow::datatypes::DataType;
use std::borrow::Cow;
use std::fmt;
use twofold_common::sql_type;

/// The result of decoding a part of an event. Boxed, because the good path should move one word.
pub(crate) type Checked<T = ()> = Result<T, Box<Fault>>;

/// Why an event is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is not JSON.
    Syntax { at: usize, what: Cow<'static, str> },
    /// A column's value is wrong; the path grows on the way out.
    Value { path: String, what: String },
    /// The event as a whole is wrong.
    Event(String),
}

impl Fault {
    pub(crate) fn syntax<T>(at: usize, what: impl Into<Cow<'static, str>>) -> Checked<T> {
        Err(Box::new(Fault::Syntax { at, what: what.into() }))
    }

    pub(crate) fn value<T>(what: impl Into<String>) -> Checked<T> {
        Err(Box::new(Fault::Value { path: String::new(), what: what.into() }))
    }

    pub(crate) fn event<T>(what: impl Into<String>) -> Checked<T> {
        Err(Box::new(Fault::Event(what.into())))
    }

    /// The fault of a value inside the column or struct field `name`.
    pub(crate) fn in_field(mut self: Box<Self>, name: &str) -> Box<Self> {
        if let Fault::Value { path, .. } = self.as_mut() {
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            *path = format!("{name}{dot}{path}");
        }
        self
    }

    /// The fault of the value at `index` of a list.
    pub(crate) fn in_element(self: Box<Self>, index: usize) -> Box<Self> {
        self.in_field(&format!("[{index}]"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Syntax { at, what } => write!(f, "malformed JSON at byte {at}: {what}"),
            Fault::Value { path, what } => write!(f, "column {path}: {what}"),
            Fault::Event(what) => f.write_str(what),
        }
    }
}

/// How a value fails to be of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It is not written as such a value is.
    Shape,
    /// The type would have to round it.
    Inexact,
    /// It is too large or too small for the type.
    Range,
}

impl Misfit {
    /// The fault of a value, described as `found`, in a column of `expected`.
    pub(crate) fn of<T>(self, expected: &DataType, found: &str) -> Checked<T> {
        let expected = sql_type(expected);
        let more = match self {
            Misfit::Shape => "",
            Misfit::Inexact => ", which would have to be rounded",
            Misfit::Range => ", which is out of range",
        };
        Fault::value(format!("expected {expected}, found {found}{more}"))
    }
}

/// At most 40 characters of `text`.
pub(crate) fn preview(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]).into(),
        None => text.into(),
    }
}
