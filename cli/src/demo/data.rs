//! The example project, inside the binary: what `examples/flights` holds.

use anyhow::{Context, Result};
use std::path::Path;

macro_rules! example {
    ($($file:literal),*) => {
        [$(($file, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/", $file)).as_slice())),*]
    };
}

/// The events, and the stream that they belong to.
pub(super) const EVENTS: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/flights.parquet"));
pub(super) const STREAM: &str = "flights";

const FILES: [(&str, &[u8]); 5] =
    example!["twofold.toml", "flights.sql", "airlines.csv", "planes.csv", "weather.parquet"];

/// Writes the project into `dir`.
pub(super) fn write(dir: &Path) -> Result<()> {
    for (file, contents) in FILES {
        let path = dir.join(file);
        std::fs::write(&path, contents).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::{Catalog, Project};

    #[tokio::test]
    async fn the_embedded_project_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let catalog = Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap();
        assert!(catalog.streams().contains_key(STREAM));
        assert!(catalog.views().contains_key("delays_by_airline"));
    }
}
