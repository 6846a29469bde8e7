//! A table of the file as typed values: what is missing, wrong or unknown is noted with its line.
//!
//! Knows TOML and how errors are worded; must not know what the keys mean (see `sections`).

use super::document::{Document, Value};
use super::sections::SECTIONS;
use super::units::{parse_duration_ms, parse_size, quoted};
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Why a value was not taken.
pub enum Refused {
    /// It is not what the key wants; the message says both.
    NotWanted,
    /// For a reason of its own.
    Because(String),
}

/// One table of the file. Getters take a key and return its value or the default; they note what
/// is wrong and go on, so that all errors come at once.
pub struct Reader<'a> {
    pub document: &'a Document<'a>,
    table: Option<&'a DeTable<'a>>,
    keys: &'static [&'static str],
    /// As people call the table: `[[server]] web`.
    pub title: String,
    /// The table inside of it that this one is: `stop`.
    inner: Option<&'static str>,
    /// The keys of the table around an inner one.
    outer_keys: &'static [&'static str],
}

impl<'a> Reader<'a> {
    /// A table that has these keys; others in it are noted as errors. `None`: the table is absent,
    /// so every key has its default.
    pub fn new(
        document: &'a Document<'a>,
        table: Option<&'a DeTable<'a>>,
        keys: &'static [&'static str],
        title: String,
    ) -> Self {
        let reader = Reader { document, table, keys, title, inner: None, outer_keys: &[] };
        reader.refuse_unknown_keys();
        reader
    }

    /// The table inside this one, by the same rules.
    pub fn inner(&self, key: &'static str, keys: &'static [&'static str]) -> Reader<'a> {
        let table = match self.value(key).map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                self.error(key, format!("must be a table, not {}", shown(other)));
                None
            }
            None => None,
        };
        let (document, title) = (self.document, self.title.clone());
        let outer_keys = self.keys;
        let reader = Reader { document, table, keys, title, inner: Some(key), outer_keys };
        reader.refuse_unknown_keys();
        reader
    }

    /// The tables inside this one under one key: one table, or an array of them.
    pub fn inners(&self, key: &'static str, keys: &'static [&'static str]) -> Vec<Reader<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else { return vec![self.inner(key, keys)] };
        let mut readers = Vec::new();
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                self.error(key, format!("must hold tables, not {}", shown(item.get_ref())));
                continue;
            };
            let (document, title, table) = (self.document, self.title.clone(), Some(table));
            let outer_keys = self.keys;
            let reader = Reader { document, table, keys, title, inner: Some(key), outer_keys };
            reader.refuse_unknown_keys();
            readers.push(reader);
        }
        readers
    }

    /// All that stands there, for a table whose keys are free.
    pub fn entries(&self) -> impl Iterator<Item = (&'a Spanned<Cow<'a, str>>, &'a Value<'a>)> {
        self.table.into_iter().flatten()
    }

    /// The value of a key, as it stands there.
    pub fn value(&self, key: &'static str) -> Option<&'a Value<'a>> {
        debug_assert!(self.keys.contains(&key), "{key} is not in the list of keys");
        self.table?.get(key)
    }

    /// The line of a key, if it is there.
    pub fn line_of(&self, key: &str) -> Option<u32> {
        let (key, _) = self.table?.get_key_value(key)?;
        Some(self.document.line(key.span().start))
    }

    /// Notes an error about a key; the text goes on after the key's name.
    pub fn error(&self, key: &str, text: String) {
        let inner = self.inner.map_or(String::new(), |inner| format!("{inner}."));
        let of = match self.title.as_str() {
            "[nodeManager]" => String::new(),
            title => format!(" of {title}"),
        };
        // Some keys are a user's own.
        let shown = key.escape_debug();
        self.document.error(self.line_of(key), format!("{inner}{shown}{of} {text}"));
    }

    /// Notes an error about this table as a whole.
    pub fn error_here(&self, text: String) {
        let first = self.entries().map(|(key, _)| self.document.line(key.span().start)).min();
        let inner = self.inner.unwrap_or_default();
        self.document.error(first, format!("{inner} of {} {text}", self.title));
    }

    /// The value of a key through `read`. `wanted` says what is right: `a port from 1 to 65535`.
    pub fn get<T>(
        &self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Result<T, Refused>,
    ) -> Option<T> {
        let value = self.value(key)?.get_ref();
        match read(value) {
            Ok(value) => return Some(value),
            Err(Refused::Because(text)) => self.error(key, text),
            Err(Refused::NotWanted) => {
                self.error(key, format!("must be {wanted}, not {}", shown(value)));
            }
        }
        None
    }

    pub fn boolean(&self, key: &'static str, default: bool) -> bool {
        let read = |value: &DeValue<'_>| value.as_bool().ok_or(Refused::NotWanted);
        self.get(key, "true or false", read).unwrap_or(default)
    }

    /// `what`: `a port`.
    pub fn number(&self, key: &'static str, what: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let wanted = format!("{what} from {} to {}", range.start(), range.end());
        self.get(key, &wanted, |value| {
            let number = integer(value).and_then(|number| u32::try_from(number).ok());
            number.filter(|number| range.contains(number)).ok_or(Refused::NotWanted)
        })
    }

    /// Milliseconds. `example` is what the error shows as right.
    pub fn duration(&self, key: &'static str, example: &str, default_ms: u64) -> u64 {
        let wanted = format!("a duration such as {example:?}");
        self.get(key, &wanted, duration).unwrap_or(default_ms)
    }

    /// Milliseconds of a key that takes them as a bare number too.
    pub fn duration_or_ms(&self, key: &'static str, default_ms: u64) -> u64 {
        let read = |value: &DeValue<'_>| match integer(value) {
            Some(ms) => u64::try_from(ms)
                .map_err(|_| Refused::NotWanted)
                .and_then(|ms| parse_duration_ms(&format!("{ms}ms")).map_err(is_refused)),
            None => duration(value),
        };
        let wanted = "a number of milliseconds or a duration such as \"2m\"";
        self.get(key, wanted, read).unwrap_or(default_ms)
    }

    /// Bytes.
    pub fn size(&self, key: &'static str, default: u64) -> u64 {
        let read = |value: &DeValue<'_>| match (value.as_str(), integer(value)) {
            (Some(text), _) => parse_size(text).map_err(is_refused),
            (_, Some(bytes)) => u64::try_from(bytes).map_err(|_| Refused::NotWanted),
            _ => Err(Refused::NotWanted),
        };
        self.get(key, "a size such as \"10MiB\"", read).unwrap_or(default)
    }

    /// One of the named values.
    pub fn choice<T: Copy>(&self, key: &'static str, names: &[(&str, T)], default: T) -> T {
        let all: Vec<_> = names.iter().map(|(name, _)| format!("{name:?}")).collect();
        let read = |value: &DeValue<'_>| {
            let name = value.as_str().ok_or(Refused::NotWanted)?;
            let found = names.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| *value).ok_or(Refused::NotWanted)
        };
        self.get(key, &format!("one of {}", all.join(", ")), read).unwrap_or(default)
    }

    /// A path, taken from the home when it is relative.
    pub fn path(&self, key: &'static str, default: &str) -> PathBuf {
        let read = |value: &'a DeValue<'a>| {
            value.as_str().filter(|path| !path.is_empty()).ok_or(Refused::NotWanted)
        };
        from_home(self.document.home, self.get(key, "a path", read).unwrap_or(default))
    }

    pub fn strings(&self, key: &'static str, wanted: &str) -> Option<Vec<String>> {
        self.get(key, wanted, |value| strings(value).ok_or(Refused::NotWanted))
    }

    /// Refuses a value that is too small; `shown` is the least one as people write it.
    pub fn at_least(&self, key: &str, value: u64, least: u64, shown: &str) {
        if value < least {
            self.error(key, format!("must be at least {shown:?}"));
        }
    }

    /// Where a key belongs that slipped below the header of this inner table.
    pub fn slipped(&self, key: &str) -> Option<String> {
        let inner = self.inner.filter(|_| self.outer_keys.contains(&key))?;
        Some(format!("{key:?} belongs to {} itself: put it above [server.{inner}]", self.title))
    }

    fn refuse_unknown_keys(&self) {
        // the names in such a table are free
        if self.keys.is_empty() {
            return;
        }
        for (key, value) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if self.keys.contains(&name) {
                continue;
            }
            let kind = if value.get_ref().is_table() { "table" } else { "key" };
            let place = match self.inner {
                Some(inner) => format!("{inner} of {}", self.title),
                None => self.title.clone(),
            };
            let hint = self.hint(name).map_or(String::new(), |hint| format!("; {hint}"));
            let text = format!("unknown {kind} {} in {place}{hint}", quoted(name));
            self.document.error(Some(self.document.line(key.span().start)), text);
        }
    }

    /// What an unknown key was probably meant to be.
    fn hint(&self, name: &str) -> Option<String> {
        let elsewhere = || SECTIONS.iter().find(|(_, keys)| keys.contains(&name));
        self.slipped(name)
            .or_else(|| elsewhere().map(|(place, _)| format!("it is a key of {place}")))
            .or_else(|| nearest(name, self.keys).map(|key| format!("did you mean {key:?}?")))
    }
}

/// The program and its arguments under a key. A program with a `/` in it is taken from the home when
/// it is relative; a bare name stays, to be looked up in the server's PATH.
pub fn command(keys: &Reader<'_>, key: &'static str) -> Option<Vec<String>> {
    let wanted = "an array of strings, or one string that is split as a shell splits";
    let mut command = keys.get(key, wanted, |value| match value.as_str() {
        Some(line) => shlex::split(line)
            .ok_or_else(|| Refused::Because("can't be split: a quote is not closed".to_owned())),
        None => strings(value).ok_or(Refused::NotWanted),
    })?;
    match command.first_mut() {
        Some(program) if program.contains('/') => {
            let path = from_home(keys.document.home, program);
            *program = path.to_str().unwrap_or_default().to_owned();
        }
        Some(program) if !program.is_empty() => {}
        _ => keys.error(key, "is empty: it needs a program".to_owned()),
    }
    Some(command)
}

/// The path, taken from the home when it is relative, without `.` parts.
pub fn from_home(home: &Path, path: &str) -> PathBuf {
    home.join(path).components().collect()
}

/// The elements, if all are strings.
pub fn strings(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
}

/// A value as an error shows it.
pub fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => format!("the number {}", number_shown(number)),
        DeValue::Float(number) => format!("the number {:.60}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(values) if values.is_empty() => "an empty array".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A number that fits; TOML has no limit to them.
pub fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The reason that a parser of `units` gave.
pub fn is_refused(cause: String) -> Refused {
    Refused::Because(format!("is wrong: {cause}"))
}

fn number_shown(number: &DeInteger<'_>) -> String {
    let prefix = match number.radix() {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    format!("{prefix}{:.60}", number.as_str())
}

fn duration(value: &DeValue<'_>) -> Result<u64, Refused> {
    parse_duration_ms(value.as_str().ok_or(Refused::NotWanted)?).map_err(is_refused)
}

/// The known key that was probably meant, if one is near enough.
pub fn nearest(name: &str, keys: &[&'static str]) -> Option<&'static str> {
    let (key, distance) = keys
        .iter()
        .filter(|key| name.len() <= 2 * key.len())
        .map(|key| (*key, distance(name, key)))
        .min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + key.len() / 4).then_some(key)
}

/// How many letters must be put in, taken out or changed (Levenshtein); case doesn't count.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let change = diagonal + usize::from(!from.eq_ignore_ascii_case(&to));
            diagonal = *cell;
            left = change.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
