//! The documents as a book: every link leads somewhere, and every page is in the table of contents.
//!
//! Must read the documents only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Every Markdown file of the project that people are sent to, by its path in the project.
pub fn documents(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for top in ["docs", "conf"] {
        walk(root, &root.join(top), &mut found);
    }
    for name in ["README.md", "CHANGELOG.md", "fuzz/README.md"] {
        let text =
            fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        found.insert(name.into(), text);
    }
    found
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).expect("a directory of documents").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            let name = path.strip_prefix(root).expect("it is below the root").to_owned();
            found.insert(name, fs::read_to_string(&path).expect("a document"));
        }
    }
}

/// The text without code: neither blocks nor what is between backquotes.
fn prose(text: &str) -> String {
    let mut is_block = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        if is_block || is_fence || line.starts_with("    ") {
            continue;
        }
        let outside = line.split('`').enumerate().filter(|(at, _)| at % 2 == 0);
        lines.push(outside.map(|(_, part)| part).collect::<Vec<_>>().join("`"));
    }
    lines.join("\n")
}

/// Where the links of a document lead, as they are written.
pub fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The names of a document's headings in links, as GitHub and mdBook make them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_block = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        is_block ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if is_block || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase().replace(' ', "-");
        found.insert(
            kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect(),
        );
    }
    found
}

/// `a/b/../c` is `a/c`.
pub fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}
