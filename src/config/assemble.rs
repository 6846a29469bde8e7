//! From the texts of all files to one configuration, or to all of its errors.
//!
//! Pure. Must not know single keys (see `sections`).

use super::document::{Document, Notes};
use super::error::{ConfigError, ConfigErrors};
use super::events;
use super::input::Input;
use super::instances::Instances;
use super::metrics;
use super::reader::Reader;
use super::sections::{TOP_KEYS, node};
use super::servers::{Written, servers, written};
use super::{Applied, Config, NodeConfig};
use crate::core::restart::Policy;
use std::path::Path;
use toml::Spanned;
use toml::de::DeTable;

/// Tables that only the main file has.
const MAIN_TABLES: [(&str, &str); 4] = [
    ("nodeManager", "[nodeManager]"),
    ("hook", "[[hook]]"),
    ("mail", "[mail]"),
    ("metrics", "[metrics]"),
];

/// The configuration in one text, without files that it includes, and without an environment.
/// `file` is for messages and kept as it is; `home`, an absolute path, is where relative paths
/// start.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &Path, home: &Path) -> Result<Config, ConfigErrors> {
    parse_input(&Input::new(text, file, home))
}

/// The configuration of all files.
///
/// # Errors
/// All that is wrong with them, and what went wrong when they were read.
pub fn parse_input(input: &Input) -> Result<Config, ConfigErrors> {
    let notes = Notes::default();
    let content = with_tables(input, &notes, |tables| {
        let instances = Instances::new(input, &tables.node);
        let run_dir = &tables.node.run_dir;
        let servers =
            servers(&tables.servers, &instances, &tables.policy, tables.is_whole, run_dir);
        (servers, events::alerts(tables.top), metrics::metrics(tables.top))
    });
    let warnings = notes.finish(&input.main.file)?;
    // without content there are errors; the defaults are never seen
    let (node, (servers, alerts, metrics)) = content.ok_or_else(|| ConfigErrors(Vec::new()))?;
    let included = input.included.iter().map(|source| source.file.clone()).collect();
    let (file, home) = (input.main.file.clone(), input.home.clone());
    let applied = Applied::default();
    Ok(Config { file, home, included, node, servers, alerts, metrics, warnings, applied })
}

/// What the files hold, before the servers are read.
pub struct Tables<'a> {
    /// The main file's `[nodeManager]`.
    pub top: &'a Reader<'a>,
    pub node: NodeConfig,
    /// What servers have by default.
    pub policy: Policy,
    pub servers: Vec<Written<'a>>,
    /// No file is missing.
    pub is_whole: bool,
}

/// Reads the files and gives their tables to `act`; `None` when the main one is no TOML.
pub fn with_tables<T>(
    input: &Input,
    notes: &Notes,
    act: impl FnOnce(&Tables<'_>) -> T,
) -> Option<(NodeConfig, T)> {
    for problem in &input.problems {
        notes.error(0, problem.clone());
    }
    let documents: Vec<Document<'_>> = input
        .sources()
        .enumerate()
        .map(|(at, source)| Document::new(&source.text, &source.file, &input.home, notes, at))
        .collect();
    let contents: Vec<Option<Spanned<DeTable<'_>>>> = documents
        .iter()
        .zip(input.sources())
        .map(|(document, source)| document.parse(&source.text))
        .collect();
    if input.home.to_str().is_none() {
        let text = "the path of the home is not UTF-8: rename it".to_owned();
        notes.error(0, ConfigError { file: input.main.file.clone(), line: None, text });
    }
    contents.first()?.as_ref()?;
    let tops: Vec<Reader<'_>> = documents
        .iter()
        .zip(&contents)
        .filter_map(|(document, content)| {
            let table = content.as_ref()?.get_ref();
            document.refuse_nul(table);
            Some(Reader::new(document, Some(table), TOP_KEYS, "the top level".to_owned()))
        })
        .collect();
    let top = tops.first()?;
    for included in tops.iter().skip(1) {
        for (key, shown) in MAIN_TABLES {
            if let Some(line) = included.line_of(key) {
                let text = format!("{shown} belongs into {} alone", input.main.file.display());
                included.document.error(Some(line), text);
            }
        }
    }
    let (node, policy) = node(top);
    let servers = written(&tops);
    if servers.is_empty() {
        top.document.warn(None, "no [[server]], so there is nothing to manage".to_owned());
    }
    let is_whole = tops.len() == documents.len() && input.problems.is_empty();
    let tables = Tables { top, node, policy, servers, is_whole };
    let result = act(&tables);
    Some((tables.node, result))
}
