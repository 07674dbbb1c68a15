//! Work for `scripts/guard` to count the instructions of: decoding the events of a file, or decoding and folding them.

use crate::project::{STREAM, TUMBLING, USERS, catalog, folder, stream};
use anyhow::{Result, bail, ensure};
use std::path::Path;
use twofold_speed::Decoder;

pub(crate) async fn work(of: &str, file: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let catalog = catalog(dir.path(), &[TUMBLING, USERS]).await?;
    let view = match of {
        "decode" => None,
        "windows" => Some(TUMBLING),
        "users" => Some(USERS),
        other => bail!("there is no work {other}: there are decode, windows, users"),
    };
    let mut folder = match view {
        Some(view) => Some(folder(&catalog, view).await?),
        None => None,
    };
    let decoded = Decoder::new(stream(&catalog)?)?.decode_ndjson(&std::fs::read(file)?)?;
    ensure!(decoded.rejected.num_rows() == 0, "an event was rejected");
    if let Some(folder) = &mut folder
        && decoded.rows.num_rows() > 0
    {
        let state = folder.fold(STREAM, std::slice::from_ref(&decoded.rows)).await?;
        ensure!(state.rows() > 0, "nothing was folded");
    }
    Ok(())
}
