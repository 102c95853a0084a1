//! What extraction costs a page, beside other extractors, and the features that its forests are trained on.
//!
//! ```text
//! tidemill-bench-extract bench CORPUS       CPU and allocations a page, by kind of page (--features peers: other crates too)
//! tidemill-bench-extract dump CORPUS [SCORES]   a JSON line a page: its blocks and their features; with SCORES (a line
//!                                               {"id", "scores": [0-255 a block]} a page) the features that follow from them
//! ```
//! CORPUS holds folders with `gold.jsonl` (id, url, perhaps type) and `pages/ID.html.gz`.

mod bench;

use std::collections::HashMap;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use serde_json::{Value, json};
use tidemill::extract::Limits;
use tidemill::extract::content::features::Parts;
use tidemill::extract::content::second;
use tidemill::extract::tree::Tree;
use tidemill::web::charset;

#[global_allocator]
static COUNTING: bench::Counting = bench::Counting;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A page of the corpus.
pub struct Page {
    pub set: String,
    pub id: String,
    pub url: String,
    pub kind: String,
    pub html: String,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bench", corpus] => bench::run(&corpus_of(corpus)?),
        ["dump", corpus] => dump(&corpus_of(corpus)?, None),
        ["dump", corpus, scores] => dump(&corpus_of(corpus)?, Some(scores)),
        _ => Err("bench CORPUS, or dump CORPUS [SCORES]".into()),
    }
}

fn corpus_of(corpus: &str) -> Result<Vec<Page>> {
    let mut sets: Vec<_> = std::fs::read_dir(corpus)?.collect::<std::io::Result<_>>()?;
    sets.sort_by_key(std::fs::DirEntry::file_name);
    let mut pages = vec![];
    for set in sets.iter().map(std::fs::DirEntry::path).filter(|set| set.join("gold.jsonl").is_file()) {
        for line in std::fs::read_to_string(set.join("gold.jsonl"))?.lines() {
            pages.push(page(&set, &serde_json::from_str(line)?)?);
        }
    }
    Ok(pages)
}

fn page(set: &Path, gold: &Value) -> Result<Page> {
    let text = |key: &str| gold[key].as_str().unwrap_or_default().to_owned();
    let mut body = vec![];
    let file = std::fs::File::open(set.join("pages").join(format!("{}.html.gz", text("id"))))?;
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut body)?;
    Ok(Page {
        set: set.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        id: text("id"),
        url: text("url"),
        kind: gold["type"].as_str().unwrap_or("article").to_owned(),
        html: charset::decode(&body, None).0,
    })
}

fn dump(pages: &[Page], scores: Option<&str>) -> Result<()> {
    let mut of_page: HashMap<String, Vec<u8>> = HashMap::new();
    if let Some(scores) = scores {
        for line in std::fs::read_to_string(scores)?.lines() {
            let mut line: Value = serde_json::from_str(line)?;
            let id = line["id"].as_str().unwrap_or_default().to_owned();
            of_page.insert(id, serde_json::from_value(line["scores"].take())?);
        }
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    for page in pages {
        let tree = Tree::parse(&page.html, &Limits::default());
        let parts = Parts::of(&tree, Some(&page.url));
        let mut line = json!({"set": page.set, "id": page.id});
        let (rows, width) = match (scores, of_page.get(&page.id)) {
            (None, _) => {
                line["texts"] = parts.blocks.blocks.iter().map(|block| parts.blocks.text_of(block)).collect();
                line["page"] = hex::encode(parts.page_row()).into();
                parts.rows(&[], None)
            }
            (_, Some(scores)) => second::rows(&parts, scores, None),
            _ => continue,
        };
        line["width"] = width.into();
        line["rows"] = hex::encode(rows).into();
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}
