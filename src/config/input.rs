//! What a configuration is made of before it is understood: texts, and the environment.
//!
//! Plain values; must not read anything (see `file`).

use super::document::{Document, Notes, Value};
use super::error::ConfigError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// The characters that make a name of `include` a pattern.
const GLOB_CHARACTERS: [char; 3] = ['*', '?', '['];

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As messages name it.
    pub file: PathBuf,
    pub text: String,
}

/// What becomes of a `${VAR}` that is not set and has no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// It is an error: this configuration is to be run.
    Refuse,
    /// The key has its default. For a command to a running pair, whose environment is another one.
    Leave,
}

/// Everything that decides what a configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The one that was named, with `[nodeManager]`.
    pub main: Source,
    /// In their order.
    pub included: Vec<Source>,
    /// What went wrong while they were read.
    pub problems: Vec<ConfigError>,
    /// Absolute: where relative paths start.
    pub home: PathBuf,
    /// For `${VAR}`.
    pub environment: BTreeMap<String, String>,
    pub unset: Unset,
}

impl Input {
    /// One file, and an empty environment.
    pub fn new(text: &str, file: &Path, home: &Path) -> Input {
        Input {
            main: Source { file: file.to_owned(), text: text.to_owned() },
            included: Vec::new(),
            problems: Vec::new(),
            home: home.to_owned(),
            environment: BTreeMap::new(),
            unset: Unset::Refuse,
        }
    }

    /// All files, the main one first.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.main).chain(&self.included)
    }
}

/// An element of `include`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// A path or a pattern of paths, not empty.
    pub pattern: String,
    pub line: u32,
}

impl Include {
    /// Whether it may match many files or none, where a path means one file that must be there.
    pub fn is_pattern(&self) -> bool {
        self.pattern.contains(GLOB_CHARACTERS)
    }
}

/// What the main file includes, to be read before all of it is parsed. What is wrong with it is
/// left out here, and noted when the file is parsed.
pub fn includes(main: &Source) -> Vec<Include> {
    let notes = Notes::default();
    let document = Document::new(&main.text, &main.file, Path::new("/"), &notes, 0);
    let Ok(table) = toml::de::DeTable::parse(&main.text) else { return Vec::new() };
    let node = table.get_ref().get("nodeManager").and_then(|node| node.get_ref().as_table());
    let list = node.and_then(|node| node.get("include")).map(Value::get_ref);
    let Some(DeValue::Array(list)) = list else { return Vec::new() };
    let of = |value: &Value<'_>| {
        let pattern =
            value.get_ref().as_str().filter(|text| problem_of(text).is_none())?.to_owned();
        Some(Include { pattern, line: document.line(value.span().start) })
    };
    list.iter().filter_map(of).collect()
}

/// What is wrong with an element of `include`.
pub fn problem_of(pattern: &str) -> Option<String> {
    if pattern.is_empty() || pattern.contains('\0') {
        return Some("a path must not be empty".to_owned());
    }
    if pattern.contains("**") {
        return Some("\"**\" would search whole trees: name each directory".to_owned());
    }
    let error = glob::Pattern::new(pattern).err()?;
    Some(format!("the pattern is wrong at character {}: {}", error.pos + 1, error.msg))
}
