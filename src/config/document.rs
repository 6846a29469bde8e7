//! A file as a whole: its TOML, its lines; and what is wrong with all files so far.
//!
//! Must not know any key.

use super::error::{ConfigError, ConfigErrors};
use super::units::quoted;
use std::cell::{Cell, RefCell};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place in the text.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// More errors or warnings than this help nobody.
const MAX_NOTES: usize = 100;

/// Up to this size of the text all errors of its syntax are collected; the parser's memory for them
/// is a hundred times the text.
const MAX_TEXT_FOR_ALL_ERRORS: usize = 256 << 10;

/// What is wrong with the files of a configuration so far.
#[derive(Default)]
pub struct Notes {
    /// Each with the place of its file in the order of the files.
    errors: RefCell<Vec<(usize, ConfigError)>>,
    /// Errors that are counted only.
    more_errors: Cell<usize>,
    warnings: RefCell<Vec<String>>,
}

impl Notes {
    /// Notes an error of the file in that place. The same error twice, as instances of one server
    /// have it, is one.
    pub fn error(&self, order: usize, error: ConfigError) {
        let mut errors = self.errors.borrow_mut();
        if errors.iter().any(|(_, known)| *known == error) {
            return;
        }
        if errors.len() < MAX_NOTES {
            errors.push((order, error));
        } else {
            self.more_errors.set(self.more_errors.get() + 1);
        }
    }

    pub fn warn(&self, warning: &ConfigError) {
        let mut warnings = self.warnings.borrow_mut();
        let text = warning.to_string();
        if warnings.len() < MAX_NOTES && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Further errors are counted only.
    pub fn is_full(&self) -> bool {
        self.errors.borrow().len() >= MAX_NOTES
    }

    /// The warnings, or the errors in the order of the files and their lines. `file` is the one
    /// that stands for all of them.
    pub fn finish(self, file: &Path) -> Result<Vec<String>, ConfigErrors> {
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            return Ok(self.warnings.into_inner());
        }
        errors.sort_by_key(|(order, error)| (*order, error.line));
        let mut errors: Vec<_> = errors.into_iter().map(|(_, error)| error).collect();
        if self.more_errors.get() > 0 {
            let text = format!("and {} more errors", self.more_errors.get());
            errors.push(ConfigError { file: file.to_owned(), line: None, text });
        }
        Err(ConfigErrors(errors))
    }
}

/// One file: its lines, and where its errors go.
pub struct Document<'a> {
    pub file: &'a Path,
    pub home: &'a Path,
    pub notes: &'a Notes,
    /// Its place in the order of the files.
    order: usize,
    /// Where each line ends in the text.
    line_ends: Vec<usize>,
}

impl<'a> Document<'a> {
    pub fn new(text: &str, file: &'a Path, home: &'a Path, notes: &'a Notes, order: usize) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Document { file, home, notes, order, line_ends }
    }

    /// The line, from 1, of a place in the text.
    pub fn line(&self, at: usize) -> u32 {
        let before = self.line_ends.partition_point(|end| *end < at);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A place in the text as people read it.
    pub fn place(&self, line: u32) -> String {
        format!("{}:{line}", self.file.display())
    }

    pub fn error(&self, line: Option<u32>, text: String) {
        self.notes.error(self.order, ConfigError { file: self.file.to_owned(), line, text });
    }

    pub fn warn(&self, line: Option<u32>, text: String) {
        self.notes.warn(&ConfigError { file: self.file.to_owned(), line, text });
    }

    /// The text as TOML; `None` when it is not, after noting why. A mistake makes the parser
    /// stumble over what follows, so of each line only the first one counts.
    pub fn parse<'t>(&self, text: &'t str) -> Option<Spanned<DeTable<'t>>> {
        let syntax_errors = match syntax_errors(text) {
            Ok(table) => return Some(table),
            Err(errors) => errors,
        };
        let mut last = None;
        for error in &syntax_errors {
            let line = match error.span() {
                Some(span) => Some(self.line(span.start)),
                None => Some(self.line_of_the_placeless(text)),
            };
            if line != last {
                let at = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
                let at = if at.is_empty() { String::new() } else { format!(" at {}", quoted(at)) };
                self.error(line, format!("not valid TOML{at}: {}", error.message()));
            }
            last = line;
        }
        None
    }

    /// The parser gives no place for what is nested too deep: it is the line with which such an
    /// error first comes.
    fn line_of_the_placeless(&self, text: &str) -> u32 {
        let is_hit = |end: usize| {
            let part = syntax_errors(text.get(..end).unwrap_or_default());
            part.is_err_and(|errors| errors.iter().any(|error| error.span().is_none()))
        };
        let before = self.line_ends.partition_point(|end| !is_hit(*end));
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Refuses NUL in every key and string: it would end them early in a system call. The depth is
    /// limited by the TOML parser.
    pub fn refuse_nul(&self, table: &DeTable<'_>) {
        for (key, value) in table {
            if key.get_ref().contains('\0') {
                let text = format!("the key {} contains a NUL character", quoted(key.get_ref()));
                self.error(Some(self.line(key.span().start)), text);
            }
            self.refuse_nul_in(value);
        }
    }

    fn refuse_nul_in(&self, value: &Value<'_>) {
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                let text = format!("the string {} contains a NUL character", quoted(text));
                self.error(Some(self.line(value.span().start)), text);
            }
            DeValue::Array(values) => values.iter().for_each(|value| self.refuse_nul_in(value)),
            DeValue::Table(table) => self.refuse_nul(table),
            _ => {}
        }
    }
}

/// The table, or all that is wrong with its syntax; of a long text the first error only.
fn syntax_errors(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<toml::de::Error>> {
    match DeTable::parse(text) {
        Ok(table) => Ok(table),
        Err(_) if text.len() <= MAX_TEXT_FOR_ALL_ERRORS => Err(DeTable::parse_recoverable(text).1),
        Err(first) => Err(vec![first]),
    }
}
