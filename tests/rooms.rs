//! The rooms and their arrows: who may import whom. `docs/architecture.md` shows the same picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms in layers, lowest first; a room may import rooms of lower layers and the leaves, and nothing of its own layer
/// or above.
const LAYERS: &[&[&str]] = &[
    &["record", "sqlite", "batch", "failpoints", "file_lock"],
    &["topology", "web", "telemetry"],
    &["config"],
    &["upstream"],
    &["transport", "store", "blob", "sink", "warc", "demo"],
    &["registry"],
    &["engine", "jobs", "dlq", "topics"],
    &["fetch", "extract", "enrich", "index", "relay", "monitor"],
    &["pipeline"],
    &["server"],
    &["cli"],
];

/// Imports within a layer or upwards that are meant, each with its reason.
const MEANT: &[(&str, &str, &str)] = &[];

/// The concrete transport is for those who put things together; all others know the trait.
const KNOW_CONCRETE: &[&str] = &["pipeline", "transport", "cli"];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Room of a file: its first folder, or its own name.
fn room(root: &Path, file: &Path) -> String {
    let first = file.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The code of a file up to its unit tests, comments left out: what tests import is no arrow.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    body.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn arrows() -> BTreeMap<(String, String), PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&root, &mut files);
    let mut found = BTreeMap::new();
    for file in files {
        let from = room(&root, &file);
        if matches!(from.as_str(), "main" | "lib") {
            continue;
        }
        for part in code(&file).split("crate::").skip(1) {
            let to: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if to != from {
                found.insert((from.clone(), to), file.clone());
            }
        }
    }
    found
}

#[test]
fn arrows_go_one_way() {
    let layer = |room: &str| LAYERS.iter().position(|l| l.contains(&room));
    let mut wrong = vec![];
    for ((from, to), file) in arrows() {
        let (Some(a), Some(b)) = (layer(&from), layer(&to)) else {
            wrong.push(format!("{from} -> {to} ({}): a room that has no layer", file.display()));
            continue;
        };
        let meant = MEANT.iter().any(|(f, t, _)| *f == from && *t == to);
        if b >= a && !meant {
            wrong.push(format!("{from} -> {to} ({})", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_meant_is_there() {
    let arrows: BTreeSet<_> = arrows().into_keys().collect();
    for (from, to, why) in MEANT {
        assert!(
            arrows.contains(&((*from).to_owned(), (*to).to_owned())),
            "{from} -> {to} ({why}) is gone: take it out"
        );
    }
}

#[test]
fn only_those_who_put_things_together_know_the_concrete_transport() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&root, &mut files);
    for file in files {
        if !KNOW_CONCRETE.contains(&room(&root, &file).as_str()) {
            for concrete in ["transport::sqlite", "transport::kafka"] {
                assert!(!code(&file).contains(concrete), "{}", file.display());
            }
        }
    }
}
