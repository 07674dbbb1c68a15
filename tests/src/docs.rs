//! The examples of `docs/sql.md`: they load and they plan, so that the page stays true.
//!
//! Blocks fenced as `sql` are checked. The first one declares the relations that the page is about; each
//! other one is a part of a project beside it, or queries. A block fenced as `sql refused` must fail, in each
//! of its statements. Grammars and outputs are fenced as `text`, and not looked at.

use twofold_common::{Catalog, Error, Project};

const PAGE: &str = include_str!("../../docs/sql.md");
const COUNTRIES: &str = "country,continent\nDE,Europe\n";

/// A fenced block: the line that it begins at, what stands beside its fence, and its text.
struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        match (open.take(), line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: i + 1, info: info.trim().into(), text: String::new() })
            }
            (Some(block), Some(_)) => blocks.push(block),
            (Some(mut block), None) => {
                block.text += line;
                block.text += "\n";
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

async fn load(declarations: &str) -> Result<Catalog, Error> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("twofold.toml", ""), ("countries.csv", COUNTRIES), ("a.sql", declarations)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Catalog::new(&Project::load(dir.path())?).await
}

/// Plans one block beside the relations of the page.
async fn check(relations: &str, text: &str) -> Result<(), Error> {
    if text.trim_start().starts_with("CREATE") {
        return load(&format!("{relations}\n{text}")).await.map(drop);
    }
    let catalog = load(relations).await?;
    for query in statements(text) {
        catalog.plan(query).await?;
    }
    Ok(())
}

/// The examples have no `;` inside.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}

#[tokio::test]
async fn the_examples_of_the_sql_page_are_right() {
    let blocks = blocks(PAGE);
    let mut examples = blocks.iter().filter(|block| block.info == "sql");
    let relations = &examples.next().unwrap().text;
    let mut wrong = Vec::new();
    for block in examples {
        if let Err(e) = check(relations, &block.text).await {
            wrong.push(format!("docs/sql.md:{}: {e}", block.line));
        }
    }
    for block in blocks.iter().filter(|block| block.info == "sql refused") {
        for statement in statements(&block.text) {
            if check(relations, statement).await.is_ok() {
                wrong.push(format!("docs/sql.md:{}: is not refused: {statement}", block.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_block_says_what_it_is() {
    let known = ["sql", "sql refused", "text"];
    let unknown = blocks(PAGE).into_iter().filter(|block| !known.contains(&block.info.as_str()));
    let unknown: Vec<_> =
        unknown.map(|block| format!("docs/sql.md:{}: {}", block.line, block.info)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(blocks(PAGE).iter().filter(|block| block.info == "sql").count() > 5);
}
