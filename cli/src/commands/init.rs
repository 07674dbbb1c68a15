//! `twofold init`: a new project. Nothing that is there is written over.

use crate::args::InitArgs;
use crate::text::print;
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use twofold_common::{CONFIG_FILE, template};

pub(crate) fn run(args: &InitArgs) -> Result<()> {
    let dir = &args.dir;
    create(dir)?;
    let shown = dir.display();
    print(format!("{shown} is a project now: read its files, then run `twofold -p {shown} up`\n"))
}

fn create(dir: &Path) -> Result<()> {
    let shown = dir.display();
    if dir.join(CONFIG_FILE).exists() {
        bail!("{shown} is a project already: it has a {CONFIG_FILE}");
    }
    std::fs::create_dir_all(dir).with_context(|| shown.to_string())?;
    let absolute = std::path::absolute(dir)?;
    let name = absolute.file_name().map_or_else(|| "new".into(), |name| name.to_string_lossy());
    let files = template(&name);
    if let Some((file, _)) = files.iter().find(|(file, _)| dir.join(file).exists()) {
        bail!("{shown} has a {file} already: choose an empty directory, or move that file away");
    }
    for (file, contents) in files {
        let path = dir.join(file);
        let new = OpenOptions::new().write(true).create_new(true).open(&path);
        new.and_then(|mut file| file.write_all(contents.as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::Project;

    #[test]
    fn a_new_project_loads() {
        let dir = tempfile::tempdir().unwrap();
        let shop = dir.path().join("deep/shop");
        create(&shop).unwrap();
        assert!(!Project::load(&shop).unwrap().views.is_empty());
    }

    #[test]
    fn what_is_there_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("views.sql"), "mine").unwrap();
        assert!(create(dir.path()).unwrap_err().to_string().contains("has a views.sql already"));
        assert!(!dir.path().join(CONFIG_FILE).exists());
        std::fs::write(dir.path().join(CONFIG_FILE), "").unwrap();
        assert!(create(dir.path()).unwrap_err().to_string().contains("is a project already"));
        assert_eq!(std::fs::read_to_string(dir.path().join("views.sql")).unwrap(), "mine");
    }
}
