//! `${...}` in the values of a server's table, before they are read: so every key has it.
//!
//! Pure; must not know what the keys mean, but for those that must stay as they are.

use super::document::{Document, Value};
use super::input::Unset;
use super::units::quoted;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Keys of a server that make its instances, and are not expanded.
const PLAIN_KEYS: [&str; 3] = ["name", "instances", "vars"];

/// Keys whose value is a command, wherever they stand: one string is split before it is expanded,
/// so that a value with spaces stays one word.
const COMMAND_KEYS: [&str; 3] = ["command", "exec", "check"];

/// The table all of whose keys are commands when they are texts.
const COMMANDS: &str = "hooks.";

/// Tables whose keys are free: a variable `command` is no command.
const FREE_TABLES: [&str; 2] = ["env", "vars"];

/// A longer argument or variable can't be given to a program (MAX_ARG_STRLEN, execve(2)).
const MAX_TEXT: usize = 128 << 10;

/// All texts of all servers, in bytes: what files of 16 MiB hold. Copies in instances count.
const MAX_TOTAL: usize = 16 << 20;

/// What a value costs beside its text, in a copy of its table.
const VALUE_COST: usize = 16;

/// What `${...}` in one table stands for.
pub struct Scope<'a> {
    /// What the node manager gives, and the server's `vars`.
    pub known: BTreeMap<Cow<'a, str>, String>,
    pub environment: &'a BTreeMap<String, String>,
    pub unset: Unset,
}

/// Why a text was not expanded.
#[derive(Debug, PartialEq, Eq)]
pub enum Unexpanded {
    /// The variable is not set and has no default.
    NotSet(String),
    Wrong(String),
}

impl Scope<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let known = self.known.get(name).or_else(|| self.environment.get(name));
        known.map(String::as_str)
    }

    /// The text with `${NAME}` and `${NAME:-default}` replaced, and `$$` as a dollar. What was put
    /// in is not expanded again; any other `$` stays.
    pub fn expand(&self, text: &str) -> Result<String, Unexpanded> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((inside, after)) = after.split_once('}') else {
                    let text = "a \"${\" is not closed by \"}\"; write $$ for a dollar";
                    return Err(Unexpanded::Wrong(text.to_owned()));
                };
                expanded.push_str(self.replace(inside)?);
                rest = after;
            } else {
                expanded.push('$');
            }
            if expanded.len() > MAX_TEXT {
                break;
            }
        }
        expanded.push_str(rest);
        if expanded.len() > MAX_TEXT && expanded.len() > text.len() {
            let text =
                format!("becomes longer than {MAX_TEXT} bytes, which no program can be given");
            return Err(Unexpanded::Wrong(text));
        }
        Ok(expanded)
    }

    /// What `${inside}` stands for.
    fn replace<'t>(&'t self, inside: &'t str) -> Result<&'t str, Unexpanded> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable(name) {
            let text = format!(
                "{} is neither ${{NAME}} nor ${{NAME:-default}}; write $$ for a dollar",
                quoted(&format!("${{{inside}}}"))
            );
            return Err(Unexpanded::Wrong(text));
        }
        match (self.value(name), default) {
            (Some(""), Some(default)) | (None, Some(default)) => Ok(default),
            (Some(value), _) => Ok(value),
            (None, None) if name == "instance" => {
                let text = "${instance} needs the key instances; write $$ for a dollar";
                Err(Unexpanded::Wrong(text.to_owned()))
            }
            (None, None) => Err(Unexpanded::NotSet(format!(
                "${{{name}}} is not set; write ${{{name}:-default}}, or $$ for a dollar"
            ))),
        }
    }
}

/// Letters, digits and `_`, not beginning with a digit.
pub fn is_variable(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// Counts what all servers take together.
pub struct Budget(Cell<usize>);

impl Budget {
    pub fn new() -> Self {
        Budget(Cell::new(MAX_TOTAL))
    }

    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    fn spend(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_sub(bytes));
    }
}

/// Expands the table of one instance.
pub struct Expansion<'a> {
    pub document: &'a Document<'a>,
    /// As people call the server: `[[server]] web`.
    pub title: &'a str,
    pub scope: &'a Scope<'a>,
    pub budget: &'a Budget,
    /// It is not the first instance, so all of its table is a copy.
    pub is_copy: bool,
}

impl Expansion<'_> {
    /// The server's table, its values expanded, with the places of what was written. What can't be
    /// expanded is noted and left out.
    pub fn server<'t>(&self, table: &DeTable<'t>) -> DeTable<'t> {
        let mut expanded = DeTable::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let value = match name {
                _ if PLAIN_KEYS.contains(&name) => Some(value.clone()),
                _ => self.entry(name, value, name, false),
            };
            if let Some(value) = value {
                expanded.insert(key.clone(), value);
            }
        }
        expanded
    }

    /// One value of a table. `path` is what people call it: `env.MODE`.
    fn entry<'t>(
        &self,
        key: &str,
        value: &Value<'t>,
        path: &str,
        is_free: bool,
    ) -> Option<Value<'t>> {
        let is_command = COMMAND_KEYS.contains(&key) || path.strip_prefix(COMMANDS) == Some(key);
        let split = match value.get_ref() {
            DeValue::String(text) if is_command && !is_free => shlex::split(text),
            _ => None,
        };
        let Some(words) = split else { return self.value(value, path, false) };
        let mut command = DeArray::new();
        for word in words {
            let word = Spanned::new(value.span(), DeValue::String(Cow::Owned(word)));
            command.push(self.value(&word, path, true)?);
        }
        Some(Spanned::new(value.span(), DeValue::Array(command)))
    }

    /// `None`: it can't be expanded. In an array nothing is left out without an error: the number
    /// of its elements counts.
    fn value<'t>(&self, value: &Value<'t>, path: &str, in_array: bool) -> Option<Value<'t>> {
        if self.is_copy {
            self.budget.spend(VALUE_COST);
        }
        if self.budget.is_spent() {
            return None;
        }
        let expanded = match value.get_ref() {
            DeValue::String(text) => DeValue::String(self.text(text, value, path, in_array)?),
            DeValue::Array(values) => {
                let mut array = DeArray::new();
                for one in values.iter() {
                    array.push(self.value(one, path, true)?);
                }
                DeValue::Array(array)
            }
            DeValue::Table(table) => {
                let is_free = FREE_TABLES.contains(&path);
                let mut inner = DeTable::new();
                for (key, value) in table {
                    let name: &str = key.get_ref();
                    self.budget.spend(name.len());
                    let path = format!("{path}.{name}");
                    if let Some(value) = self.entry(name, value, &path, is_free) {
                        inner.insert(key.clone(), value);
                    }
                }
                DeValue::Table(inner)
            }
            other => other.clone(),
        };
        Some(Spanned::new(value.span(), expanded))
    }

    fn text<'t>(
        &self,
        text: &Cow<'t, str>,
        value: &Value<'t>,
        path: &str,
        in_array: bool,
    ) -> Option<Cow<'t, str>> {
        let expanded = match text.contains('$') {
            false => text.clone(),
            true => match (self.scope.expand(text), self.scope.unset) {
                (Ok(expanded), _) => Cow::Owned(expanded),
                (Err(Unexpanded::NotSet(_)), Unset::Leave) if in_array => text.clone(),
                (Err(Unexpanded::NotSet(_)), Unset::Leave) => return None,
                (Err(Unexpanded::NotSet(problem) | Unexpanded::Wrong(problem)), _) => {
                    self.error(value, path, &problem);
                    // its key has the default then, so that no other error comes of it
                    return in_array.then(|| text.clone());
                }
            },
        };
        self.budget.spend(expanded.len());
        Some(expanded)
    }

    fn error(&self, value: &Value<'_>, path: &str, problem: &str) {
        let path = path.replace(char::is_control, "?");
        let line = self.document.line(value.span().start);
        self.document.error(Some(line), format!("{path} of {}: {problem}", self.title));
    }
}
