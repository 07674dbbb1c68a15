//! A definition: what a project's files say, as their bytes. From it a project is planned again, elsewhere and later,
//! when the files themselves have changed.
//!
//! ```text
//! Project::of(Definition::read(dir), config) = Project::load(dir)        whatever stands in `dir` later
//! ```
//!
//! `twofold.toml` is no part of it: where things live changes no answer. Neither are functions of the user's own, whose
//! versions are in the fingerprints of the views that use them.

use crate::ddl::{self, Location, Statement};
use crate::error::{Error, Result};
use crate::functions::Functions;
use crate::table::Table;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The statements and tables of a project, as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// The name and text of each `*.sql` file, in the order in which they are read.
    pub sql: Vec<(String, String)>,
    /// The bytes of each table's file, by the table's name.
    pub tables: BTreeMap<String, Bytes>,
}

impl Definition {
    /// What stands in `dir`; `functions` as in [`Project::load_with`](crate::Project::load_with).
    ///
    /// # Errors
    /// `Invalid` for the first statement that is wrong, or table that cannot be read.
    pub fn read(dir: &Path, functions: &Functions) -> Result<Self> {
        let mut definition = Self::default();
        for path in sql_files(dir)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
            let text = String::from_utf8(bytes).map_err(|e| not_utf8(&file, &e))?;
            definition.sql.push((file, text));
        }
        definition.read_tables(dir, functions)?;
        Ok(definition)
    }

    /// The same statements over the tables as they stand in `dir` now.
    ///
    /// # Errors
    /// `Invalid` if a table cannot be read.
    pub fn with_tables_of(&self, dir: &Path, functions: &Functions) -> Result<Self> {
        let mut definition = Self { sql: self.sql.clone(), tables: BTreeMap::new() };
        definition.read_tables(dir, functions)?;
        Ok(definition)
    }

    fn read_tables(&mut self, dir: &Path, functions: &Functions) -> Result<()> {
        for statement in self.statements(functions)? {
            if let Statement::Table(decl) = statement {
                self.tables.insert(decl.name.clone(), Table::bytes(&decl, dir)?);
            }
        }
        Ok(())
    }

    /// The statements, no name declared twice.
    pub(crate) fn statements(&self, functions: &Functions) -> Result<Vec<Statement>> {
        let mut statements = Vec::new();
        for (file, text) in &self.sql {
            statements.extend(ddl::parse_with(file, text, functions)?);
        }
        check_names(&statements)?;
        Ok(statements)
    }

    /// The bytes of a table.
    pub(crate) fn table(&self, name: &str) -> Result<Bytes> {
        let bytes = self.tables.get(name).cloned();
        bytes.ok_or_else(|| Error::corrupt("a project's definition", format!("table {name} is missing")))
    }
}

fn sql_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> Error {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = good.iter().filter(|b| **b == b'\n').count() + 1;
    Error::Invalid(format!("{file}:{line}: is not UTF-8 text"))
}

fn check_names(statements: &[Statement]) -> Result<()> {
    let mut places: BTreeMap<String, (&str, &Location)> = BTreeMap::new();
    for statement in statements {
        let (name, location) = (statement.name(), statement.location());
        if let Some((other, at)) = places.insert(name.to_ascii_lowercase(), (name, location)) {
            let message = if other == name {
                format!("`{name}` is already declared at {at}; choose another name")
            } else {
                format!("`{name}` differs from `{other}` at {at} in case only; choose another name")
            };
            return Err(location.error(message));
        }
    }
    Ok(())
}
