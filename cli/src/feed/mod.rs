//! Feeds: files and stdin as bodies of requests, none of them too large, each with whole events.
//!
//! ```text
//! concatenation of the bodies' events = the events of the input, in its order
//! ```
//!
//! A feed reads ahead by one body on its own thread, while the one before is being answered.

mod parquet;
mod text;

use crate::args::Input;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use twofold_speed::Format;

/// About how large a body is.
const BODY_BYTES: usize = 4 << 20;

/// One body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// How many bytes of the input it stands for.
    pub(crate) read: u64,
}

type Bodies = Box<dyn Iterator<Item = Result<Body>> + Send>;

/// An input of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feed {
    /// `None` is stdin.
    path: Option<PathBuf>,
    format: Input,
}

impl Feed {
    /// The feeds of the command line: none, or `-`, is stdin. Looks whether the files are there.
    pub(crate) fn all(files: &[PathBuf], format: Option<Input>) -> Result<Vec<Feed>> {
        if files.is_empty() {
            return Ok(vec![Self::new(None, format)?]);
        }
        let is_stdin = |path: &Path| path == Path::new("-");
        if files.iter().filter(|path| is_stdin(path)).count() > 1 {
            bail!("stdin (-) can be read only once");
        }
        files.iter().map(|path| Self::new((!is_stdin(path)).then_some(path), format)).collect()
    }

    fn new(path: Option<&PathBuf>, format: Option<Input>) -> Result<Feed> {
        let Some(path) = path else {
            return Ok(Feed { path: None, format: format.unwrap_or(Input::Ndjson) });
        };
        let Some(format) = format.or_else(|| guess(path)) else {
            bail!(
                "{}: its name does not tell how its events are written: say --format ndjson, csv or parquet",
                path.display()
            );
        };
        let feed = Feed { path: Some(path.clone()), format };
        feed.size()?;
        Ok(feed)
    }

    /// The input as messages call it.
    pub(crate) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdin".into(), |path| path.display().to_string())
    }

    /// How its events are written.
    pub(crate) fn format(&self) -> Input {
        self.format
    }

    /// Its size in bytes; `None` if nobody knows.
    pub(crate) fn size(&self) -> Result<Option<u64>> {
        let Some(path) = &self.path else { return Ok(None) };
        let about = std::fs::metadata(path).with_context(|| self.name())?;
        if about.is_dir() {
            bail!("{}: is a directory: name the files in it", self.name());
        }
        Ok(about.is_file().then_some(about.len()))
    }

    /// Its bodies, read on a thread of their own.
    pub(crate) fn start(self) -> mpsc::Receiver<Result<Body>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            let name = self.name();
            match self.bodies() {
                Ok(bodies) => {
                    for body in bodies {
                        if sender.blocking_send(body.with_context(|| name.clone())).is_err() {
                            return;
                        }
                    }
                }
                Err(e) => drop(sender.blocking_send(Err(e.context(name)))),
            }
        });
        receiver
    }

    fn bodies(&self) -> Result<Bodies> {
        Ok(match (self.format, &self.path) {
            (Input::Parquet, Some(path)) => Box::new(parquet::bodies(File::open(path)?)?),
            (Input::Parquet, None) => {
                // Parquet is read from its end.
                let mut bytes = Vec::new();
                stdin().lock().read_to_end(&mut bytes)?;
                Box::new(parquet::bodies(Bytes::from(bytes))?)
            }
            (format, Some(path)) => text_bodies(format, File::open(path)?),
            (format, None) => text_bodies(format, stdin()),
        })
    }
}

fn text_bodies(format: Input, reader: impl Read + Send + 'static) -> Bodies {
    match format {
        Input::Csv => Box::new(text::Bodies::csv(reader, BODY_BYTES)),
        _ => Box::new(text::Bodies::ndjson(reader, BODY_BYTES)),
    }
}

fn guess(path: &Path) -> Option<Input> {
    Format::from_path(path).map(|format| match format {
        Format::Ndjson => Input::Ndjson,
        Format::Csv => Input::Csv,
        Format::Parquet => Input::Parquet,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdin_is_ndjson_unless_told_otherwise() {
        let feeds = Feed::all(&[], None).unwrap();
        assert_eq!(feeds, [Feed { path: None, format: Input::Ndjson }]);
        assert_eq!(Feed::all(&["-".into()], Some(Input::Csv)).unwrap()[0].format, Input::Csv);
        assert!(Feed::all(&["-".into(), "-".into()], None).is_err());
    }

    #[test]
    fn a_file_must_be_there_and_tell_its_format() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        assert!(Feed::all(std::slice::from_ref(&file), None).unwrap_err().to_string().contains("a.jsonl"));
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(Feed::all(&[file], None).unwrap()[0].format, Input::Ndjson);
        let message = Feed::all(&[dir.path().join("a.txt")], None).unwrap_err().to_string();
        assert!(message.contains("say --format"), "{message}");
        assert!(
            Feed::all(&[dir.path().into()], Some(Input::Csv)).unwrap_err().to_string().contains("directory")
        );
    }

    #[tokio::test]
    async fn bodies_come_in_order_and_an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.parquet");
        std::fs::write(&file, "no parquet").unwrap();
        let mut bodies = Feed::all(std::slice::from_ref(&file), None).unwrap().remove(0).start();
        let message = format!("{:#}", bodies.recv().await.unwrap().unwrap_err());
        assert!(message.contains("a.parquet"), "{message}");
        let mut bodies = Feed::all(&[file], Some(Input::Ndjson)).unwrap().remove(0).start();
        assert_eq!(bodies.recv().await.unwrap().unwrap().bytes, "no parquet");
        assert!(bodies.recv().await.is_none());
    }
}
