//! A project: a directory with `twofold.toml`, `*.sql` and the files of its tables.
//!
//! The `*.sql` files stand directly in the directory and are read in the order of their names; a file whose name
//! begins with `.` is none. Streams, tables and views share one space of names, and so do the streams of rejected
//! events; two names may not differ in case only, because they become names of files.
//!
//! A loaded project is consistent in itself: every statement is well formed, every name is there once, every
//! table is read. Whether a view's query makes sense, and whether the project has anything to do, is for those who
//! plan and run it; views may use each other in any order.

use crate::config::Config;
use crate::ddl::{self, Location, Statement, ViewDef};
use crate::error::{Error, Result};
use crate::functions::Functions;
use crate::stream::StreamDef;
use crate::table::Table;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A project as its files declare it.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// The project's directory, absolute.
    pub dir: PathBuf,
    /// What `twofold.toml` says.
    pub config: Config,
    /// The declared streams by name, without those of rejected events.
    pub streams: BTreeMap<String, StreamDef>,
    /// The tables by name, with their rows.
    pub tables: BTreeMap<String, Arc<Table>>,
    /// The views as they are declared: files by name, statements in order.
    pub views: Vec<ViewDef>,
}

impl Project {
    /// The project in `dir`, which uses no functions of the user's own.
    ///
    /// # Errors
    /// `NotFound` if `dir` is not a project; `Invalid` for the first thing in it that is wrong.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::load_with(dir, &Functions::default())
    }

    /// The project in `dir`, whose watermarks may use `functions`.
    ///
    /// # Errors
    /// Those of [`Project::load`].
    pub fn load_with(dir: &Path, functions: &Functions) -> Result<Self> {
        let config = Config::load(dir)?;
        let dir = std::path::absolute(dir).map_err(|e| Error::io(dir, e))?;
        let mut project = Self {
            config,
            streams: BTreeMap::new(),
            tables: BTreeMap::new(),
            views: Vec::new(),
            dir: dir.clone(),
        };
        for statement in statements(&dir, functions)? {
            match statement {
                Statement::Stream(stream, _) => {
                    project.streams.insert(stream.name.clone(), stream);
                }
                Statement::Table(decl) => {
                    let table = Arc::new(Table::load(&decl, &dir)?);
                    project.tables.insert(decl.name, table);
                }
                Statement::View(view) => project.views.push(*view),
            }
        }
        Ok(project)
    }

    /// The declared streams, each followed by the stream of its rejected events.
    pub fn all_streams(&self) -> impl Iterator<Item = StreamDef> + '_ {
        self.streams.values().flat_map(|stream| [stream.clone(), stream.rejected()])
    }

    /// The directory of the log and the states, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.config.data
    }
}

/// What the `*.sql` files of `dir` say, no name declared twice.
fn statements(dir: &Path, functions: &Functions) -> Result<Vec<Statement>> {
    let mut statements: Vec<Statement> = Vec::new();
    for path in sql_files(dir)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let text = String::from_utf8(bytes).map_err(|e| not_utf8(&file, &e))?;
        statements.extend(ddl::parse_with(&file, &text, functions)?);
    }
    check_names(&statements)?;
    Ok(statements)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn project(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            std::fs::write(dir.path().join(name), contents).unwrap();
        }
        dir
    }

    fn error(files: &[(&str, &str)]) -> String {
        Project::load(project(files).path()).unwrap_err().to_string()
    }

    #[test]
    fn files_are_read_by_name_and_statements_in_order() {
        let dir = project(&[
            ("twofold.toml", ""),
            ("b.sql", "CREATE VIEW v3 AS SELECT 3"),
            ("a.sql", "CREATE VIEW v2 AS SELECT * FROM v3; CREATE VIEW v1 AS SELECT 1;"),
            (".hidden.sql", "nonsense"),
            ("notes.txt", "nonsense"),
        ]);
        let project = Project::load(dir.path()).unwrap();
        let names: Vec<_> = project.views.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["v2", "v1", "v3"]);
        assert_eq!(project.views[2].location.to_string(), "b.sql:1:1");
        assert_eq!(project.data_dir(), dir.path().join("data"));
    }

    #[test]
    fn each_stream_has_one_of_rejected_events() {
        let dir =
            project(&[("twofold.toml", ""), ("a.sql", "CREATE STREAM s (a INT); CREATE STREAM r (a INT)")]);
        let project = Project::load(dir.path()).unwrap();
        let names: Vec<_> = project.all_streams().map(|s| s.name).collect();
        assert_eq!(names, ["r", "r_rejected", "s", "s_rejected"]);
    }

    #[test]
    fn a_table_is_read_from_beside_the_statement() {
        let dir = project(&[
            ("twofold.toml", ""),
            ("a.sql", "CREATE TABLE t (id BIGINT) WITH (path = 't.csv')"),
            ("t.csv", "id\n5\n6\n"),
        ]);
        let project = Project::load(dir.path()).unwrap();
        assert_eq!(project.tables["t"].num_rows(), 2);
        assert_eq!(project.tables["t"].def.path, dir.path().join("t.csv"));
    }

    #[test]
    fn a_name_declared_twice_is_told_with_both_places() {
        let files = [
            ("twofold.toml", ""),
            ("a.sql", "CREATE STREAM s (a INT)"),
            ("b.sql", "\nCREATE VIEW s AS SELECT 1"),
        ];
        assert_eq!(error(&files), "b.sql:2:1: `s` is already declared at a.sql:1:1; choose another name");
        let files =
            [("twofold.toml", ""), ("a.sql", "CREATE STREAM s (a INT); CREATE VIEW \"S\" AS SELECT 1")];
        assert!(error(&files).contains("`S` differs from `s` at a.sql:1:1 in case only"));
    }

    #[test]
    fn an_empty_project_loads() {
        let dir = project(&[("twofold.toml", "")]);
        assert!(Project::load(dir.path()).unwrap().views.is_empty());
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_line() {
        let dir = project(&[("twofold.toml", "")]);
        std::fs::write(dir.path().join("a.sql"), b"-- a\n-- \xff").unwrap();
        assert_eq!(Project::load(dir.path()).unwrap_err().to_string(), "a.sql:2: is not UTF-8 text");
    }
}
