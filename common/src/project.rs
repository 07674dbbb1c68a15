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
use crate::ddl::{Statement, ViewDef};
use crate::definition::Definition;
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
    /// All of that but the configuration, as it was read.
    pub definition: Arc<Definition>,
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
        Self::of(Arc::new(Definition::read(dir, functions)?), config, dir, functions)
    }

    /// The project of a definition, as if its files stood in `dir`.
    ///
    /// # Errors
    /// Those of [`Project::load`].
    pub fn of(
        definition: Arc<Definition>,
        config: Config,
        dir: &Path,
        functions: &Functions,
    ) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(|e| Error::io(dir, e))?;
        let (mut streams, mut tables, mut views) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for statement in definition.statements(functions)? {
            match statement {
                Statement::Stream(stream, _) => drop(streams.insert(stream.name.clone(), stream)),
                Statement::Table(decl) => {
                    let table = Table::of(&decl, &dir, definition.table(&decl.name)?)?;
                    tables.insert(decl.name, Arc::new(table));
                }
                Statement::View(view) => views.push(*view),
            }
        }
        Ok(Self { dir, config, streams, tables, views, definition })
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
