//! The columns of an object: of an event, or of a struct inside it.
//!
//! Producers write the same keys in the same order, event after event: so the keys of the first object are
//! remembered by their position, as they are written, and a key that stands where it stood is passed by one comparison.

use super::column::Column;
use super::fault::{Checked, Fault};
use super::json::{Scanner, Written};
use arrow::array::StructArray;
use arrow::buffer::NullBuffer;
use arrow::datatypes::Fields;
use arrow::error::ArrowError;
use std::collections::HashMap;

/// How many positions are remembered.
const REMEMBERED: usize = 256;

/// Columns that objects are written into, key by key.
#[derive(Debug)]
pub(crate) struct Object {
    fields: Fields,
    columns: Vec<Column>,
    len: usize,
    keys: Keys,
    /// For each column the last object that had it; objects count from 1.
    seen: Vec<u64>,
    objects: u64,
}

/// Which column a key names.
#[derive(Debug)]
struct Keys {
    by_name: HashMap<Box<str>, usize>,
    by_position: Vec<(Option<Written>, Option<usize>)>,
}

impl Keys {
    /// Passes the key of a member, and says which column it names.
    #[inline]
    fn pass(
        &mut self,
        position: usize,
        scanner: &mut Scanner<'_>,
        scratch: &mut String,
    ) -> Checked<Option<usize>> {
        if let Some((Some(written), column)) = self.by_position.get(position)
            && scanner.passes(written)?
        {
            return Ok(*column);
        }
        let key = scanner.string(scratch)?;
        let column = self.by_name.get(key).copied();
        if position == self.by_position.len() && position < REMEMBERED {
            self.by_position.push((Written::new(key), column));
        }
        scanner.expect(b':')?;
        Ok(column)
    }
}

impl Object {
    pub(crate) fn new(fields: &Fields, capacity: usize) -> Result<Self, String> {
        let column = |field: &arrow::datatypes::FieldRef| {
            Column::new(field, capacity).map_err(|what| format!("column {}: {what}", field.name()))
        };
        Ok(Self {
            columns: fields.iter().map(column).collect::<Result<_, _>>()?,
            keys: Keys {
                by_name: fields.iter().enumerate().map(|(i, f)| (f.name().as_str().into(), i)).collect(),
                by_position: Vec::new(),
            },
            seen: vec![0; fields.len()],
            objects: 0,
            len: 0,
            fields: fields.clone(),
        })
    }

    /// Appends the object at which `scanner` stands. After a fault, [`truncate`](Self::truncate).
    pub(crate) fn push_json(&mut self, scanner: &mut Scanner<'_>, scratch: &mut String) -> Checked {
        self.objects += 1;
        scanner.expect(b'{')?;
        if scanner.peek()? == b'}' {
            scanner.expect(b'}')?;
        } else {
            self.push_members(scanner, scratch)?;
        }
        for (i, column) in self.columns.iter_mut().enumerate() {
            if self.seen[i] != self.objects {
                column.push_absent("missing").map_err(|fault| fault.in_field(self.fields[i].name()))?;
            }
        }
        self.len += 1;
        Ok(())
    }

    fn push_members(&mut self, scanner: &mut Scanner<'_>, scratch: &mut String) -> Checked {
        for position in 0.. {
            match self.keys.pass(position, scanner, scratch)? {
                Some(i) => self.push_member(i, scanner, scratch)?,
                None => scanner.skip()?,
            }
            if !scanner.more_members()? {
                return Ok(());
            }
        }
        Ok(())
    }

    #[inline]
    fn push_member(&mut self, i: usize, scanner: &mut Scanner<'_>, scratch: &mut String) -> Checked {
        let pushed = if self.seen[i] == self.objects {
            Fault::value("given twice in one object")
        } else {
            self.seen[i] = self.objects;
            self.columns[i].push_json(scanner, scratch)
        };
        pushed.map_err(|fault| fault.in_field(self.fields[i].name()))
    }

    /// Appends one CSV record; `cell` gives the field of a column, and whether it was quoted.
    pub(crate) fn push_fields<'a>(
        &mut self,
        cell: impl Fn(usize) -> Checked<Option<(&'a str, bool)>>,
        scratch: &mut String,
    ) -> Checked {
        for (i, column) in self.columns.iter_mut().enumerate() {
            let pushed = match cell(i) {
                Ok(Some((text, quoted))) => column.push_field(text, quoted, scratch),
                Ok(None) => column.push_absent("missing"),
                Err(fault) => Err(fault),
            };
            pushed.map_err(|fault| fault.in_field(self.fields[i].name()))?;
        }
        self.len += 1;
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends what stands below a struct that is null.
    pub(crate) fn push_placeholder(&mut self) {
        self.columns.iter_mut().for_each(Column::push_placeholder);
        self.len += 1;
    }

    /// Cuts back to the first `len` objects, whatever a failed push left behind.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
        self.len = len;
    }

    /// The objects as an array; there are none afterwards.
    pub(crate) fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<StructArray, ArrowError> {
        let len = std::mem::take(&mut self.len);
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        StructArray::try_new_with_length(self.fields.clone(), arrays, nulls, len)
    }
}
