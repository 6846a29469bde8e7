//! What a configuration comes to, and where each value is from: a line of a file, or the default.
//!
//! Knows no single key: the defaults are those that the annotated example shows, which a test holds
//! equal to the ones that are used. Must not hide anything: what is secret is shown.

use super::assemble::{Tables, with_tables};
use super::document::{Document, Notes, Value};
use super::error::ConfigErrors;
use super::input::Input;
use super::instances::{Instance, Instances};
use super::reader::integer;
use super::sections::{NODE_KEYS, SERVER_KEYS};
use super::servers::Written;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue};

/// The annotated example. A line `# key = value` in it shows a default.
const EXAMPLE: &str = include_str!("../../conf/nodemanager.toml");

const DEFAULT: &str = "default";

/// The keys of `[nodeManager]` that are defaults of every server's restart table.
const RESTART_DEFAULTS: [(&str, &str); 4] = [
    ("serverAutoRestart", "when"),
    ("serverRestartTryCount", "tries"),
    ("serverRestartDurationTime", "window"),
    ("serverRetryRestart", "then"),
];

/// A whole configuration, each value with where it is from.
pub struct Effective {
    file: PathBuf,
    home: PathBuf,
    included: Vec<PathBuf>,
    node: Vec<Entry>,
    servers: Vec<Server>,
}

struct Server {
    name: String,
    program: String,
    from: String,
    entries: Vec<Entry>,
}

/// One value.
struct Entry {
    /// `restart.tries`, as TOML writes it.
    key: String,
    toml: String,
    json: serde_json::Value,
    from: String,
}

/// The values of all files, with the defaults.
///
/// # Errors
/// All that is wrong with them.
pub fn effective(input: &Input) -> Result<Effective, ConfigErrors> {
    let notes = Notes::default();
    let defaults_text = defaults_text();
    let defaults =
        DeTable::parse(&defaults_text).map(toml::Spanned::into_inner).unwrap_or_default();
    let read = with_tables(input, &notes, |tables| {
        let node = node(tables, &defaults);
        let mut servers = Vec::new();
        let instances = Instances::new(input, &tables.node);
        for one in &tables.servers {
            instances.each(&one.keys, one.table, &one.program, one.line, |instance| {
                servers.push(server(tables, one, &instance, &defaults));
            });
        }
        (node, servers)
    });
    notes.finish(&input.main.file)?;
    let (_, (node, servers)) = read.ok_or_else(|| ConfigErrors(Vec::new()))?;
    let included = input.included.iter().map(|source| source.file.clone()).collect();
    let (file, home) = (input.main.file.clone(), input.home.clone());
    Ok(Effective { file, home, included, node, servers })
}

/// The example's headers, and its defaults as keys.
pub(super) fn defaults_text() -> String {
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let shown = if line.starts_with('[') { Some(line) } else { default_in(line) };
        let _ = writeln!(text, "{}", shown.unwrap_or_default());
    }
    text
}

/// The `key = value` of a line `# key = value`.
pub(super) fn default_in(line: &str) -> Option<&str> {
    let shown = line.strip_prefix("# ")?;
    let (key, _) = shown.split_once(" = ")?;
    key.chars().all(|c| c.is_ascii_alphanumeric()).then_some(shown)
}

fn node(tables: &Tables<'_>, defaults: &DeTable<'_>) -> Vec<Entry> {
    let written = tables.top.value("nodeManager").and_then(|node| node.get_ref().as_table());
    let defaults = defaults.get("nodeManager").and_then(|node| node.get_ref().as_table());
    let writer = Writer { document: tables.top.document };
    let mut entries = Vec::new();
    for key in NODE_KEYS {
        writer.entry(String::new(), key, written, defaults, &mut entries);
    }
    entries
}

fn server(
    tables: &Tables<'_>,
    written: &Written<'_>,
    instance: &Instance<'_>,
    defaults: &DeTable<'_>,
) -> Server {
    let document = written.keys.document;
    let first = defaults.get("server").and_then(|list| list.get_ref().as_array()?.first());
    let defaults = first.and_then(|first| first.get_ref().as_table());
    let writer = Writer { document };
    let mut entries = Vec::new();
    for key in SERVER_KEYS {
        match *key {
            // it has made the servers
            "instances" => {}
            "vars" => entries.extend(instance.vars.iter().map(|(name, (text, line))| Entry {
                key: dotted("vars", name),
                toml: string(text),
                json: text.as_str().into(),
                from: document.place(*line),
            })),
            key => writer.entry(String::new(), key, Some(&instance.table), defaults, &mut entries),
        }
    }
    for entry in &mut entries {
        if entry.key == "name" {
            (entry.toml, entry.json) = (string(&instance.name), instance.name.as_str().into());
        }
        if let Some(key) = entry.key.strip_prefix("restart.").filter(|_| entry.from == DEFAULT) {
            let names = RESTART_DEFAULTS.iter().find(|(_, of)| *of == key);
            if let Some((value, from)) = names.and_then(|(name, _)| node_default(tables, name)) {
                (entry.toml, entry.json, entry.from) = (string(&value), value.into(), from);
            }
            if key == "tries" {
                let tries = tables.policy.tries;
                (entry.toml, entry.json) = (tries.to_string(), tries.into());
            }
        }
    }
    let from = document.place(written.line);
    Server { name: instance.name.clone(), program: written.program.clone(), from, entries }
}

/// What a key of `[nodeManager]` makes of a server's restart table, when it is written.
fn node_default(tables: &Tables<'_>, key: &str) -> Option<(String, String)> {
    let node = tables.top.value("nodeManager")?.get_ref().as_table()?;
    let (name, value) = node.get_key_value(key)?;
    let text = match (key, value.get_ref()) {
        ("serverAutoRestart", DeValue::Boolean(true)) => "on-failure".to_owned(),
        ("serverAutoRestart", _) => "never".to_owned(),
        ("serverRetryRestart", DeValue::Boolean(true)) => "slow".to_owned(),
        ("serverRetryRestart", _) => "fail".to_owned(),
        (_, DeValue::String(text)) => text.to_string(),
        (_, value) => format!("{}ms", integer(value).unwrap_or_default()),
    };
    let document = tables.top.document;
    let place = document.place(document.line(name.span().start));
    Some((text, format!("{place}, {key}")))
}

/// Writes values with their places.
struct Writer<'a> {
    document: &'a Document<'a>,
}

impl Writer<'_> {
    /// The value of a key, or each value of its table.
    fn entry(
        &self,
        around: String,
        key: &str,
        written: Option<&DeTable<'_>>,
        defaults: Option<&DeTable<'_>>,
        entries: &mut Vec<Entry>,
    ) {
        let found = written.and_then(|table| table.get_key_value(key));
        let default = defaults.and_then(|table| table.get(key)).map(Value::get_ref);
        let (value, from) = match (found, default) {
            (Some((name, value)), _) => {
                let line = self.document.line(name.span().start);
                (value.get_ref(), self.document.place(line))
            }
            (None, Some(default)) => (default, DEFAULT.to_owned()),
            (None, None) => return,
        };
        let key = if around.is_empty() { bare(key) } else { dotted(&around, key) };
        let inner = found.and_then(|(_, value)| value.get_ref().as_table());
        let inner_defaults = default.and_then(DeValue::as_table);
        let tables = [inner, inner_defaults].into_iter().flatten();
        let keys: BTreeSet<&str> =
            tables.flat_map(|table| table.keys().map(|key| key.get_ref().as_ref())).collect();
        if keys.is_empty() {
            let (toml, json) = (toml_of(value), json_of(value));
            return entries.push(Entry { key, toml, json, from });
        }
        for inner_key in keys {
            self.entry(key.clone(), inner_key, inner, inner_defaults, entries);
        }
    }
}

fn dotted(around: &str, key: &str) -> String {
    format!("{around}.{}", bare(key))
}

/// A key without quotes where TOML allows it.
fn bare(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => string(key),
    }
}

/// A string in quotes. TOML has the escapes of JSON, and one character more that must be escaped.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn toml_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => string(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(values) => {
            let values: Vec<_> = values.iter().map(|value| toml_of(value.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        DeValue::Table(table) if table.is_empty() => "{}".to_owned(),
        DeValue::Table(table) => {
            let pair = |(key, value): (&toml::Spanned<_>, &Value<'_>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                format!("{} = {}", bare(key), toml_of(value.get_ref()))
            };
            let pairs: Vec<_> = table.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn json_of(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => match integer(value) {
            Some(number) => number.into(),
            None => number.to_string().into(),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => number.into(),
            _ => number.to_string().into(),
        },
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(values) => values.iter().map(|value| json_of(value.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref())))
            .collect(),
    }
}

impl Effective {
    /// As TOML, with where each value is from in comments. Each instance has a table of its own.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let plain = |path: &PathBuf| path.display().to_string().replace(char::is_control, "?");
        let mut head = |title: &str, path: &PathBuf| {
            // writing to a String can't fail
            let _ = writeln!(text, "# {title} {}", plain(path));
        };
        head("file", &self.file);
        head("home", &self.home);
        self.included.iter().for_each(|path| head("included", path));
        text.push_str("\n[nodeManager]\n");
        write_entries(&mut text, &self.node);
        for server in &self.servers {
            let _ = writeln!(text, "\n[[server]]  # {}", comment(&server.from));
            write_entries(&mut text, &server.entries);
        }
        text
    }

    /// The same as JSON: `values` has each key with its `value` and `from`.
    pub fn to_json(&self) -> serde_json::Value {
        let servers = self.servers.iter().map(|server| {
            serde_json::json!({
                "name": server.name,
                "program": server.program,
                "from": server.from,
                "values": values(&server.entries),
            })
        });
        serde_json::json!({
            "file": self.file.to_string_lossy(),
            "home": self.home.to_string_lossy(),
            "included": self.included.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "nodeManager": { "values": values(&self.node) },
            "servers": servers.collect::<Vec<_>>(),
        })
    }
}

fn write_entries(text: &mut String, entries: &[Entry]) {
    for entry in entries {
        let _ = writeln!(text, "{} = {}  # {}", entry.key, entry.toml, comment(&entry.from));
    }
}

/// A comment of TOML has no control characters.
fn comment(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn values(entries: &[Entry]) -> serde_json::Value {
    let value = |entry: &Entry| {
        (entry.key.clone(), serde_json::json!({ "value": entry.json, "from": entry.from }))
    };
    entries.iter().map(value).collect()
}
