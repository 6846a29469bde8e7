//! Reading the files that a configuration includes.
//!
//! Must not understand them. Nothing here waits, and there is a limit to everything but the
//! number of files in a directory that is searched.

use super::super::error::ConfigError;
use super::super::input::{Include, Source};
use super::read;
use glob::{MatchOptions, Pattern};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files that one configuration may include.
const MAX_INCLUDED: usize = 1_000;

/// What was included, and what went wrong.
pub struct Included {
    pub sources: Vec<Source>,
    pub problems: Vec<ConfigError>,
}

/// As a shell matches: hidden files are not meant, such as the lock files of an editor.
const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Reads them in the order of the list, those of one pattern in the order of their names; each
/// once, and the main file not again. All of them together may have `left` bytes.
pub fn read_included(main: &Source, home: &Path, list: &[Include], left: u64) -> Included {
    let mut reading = Reading {
        main: &main.file,
        found: Included { sources: Vec::new(), problems: Vec::new() },
        seen: fs::canonicalize(&main.file).into_iter().collect(),
        left,
    };
    for include in list {
        let paths = match include.is_pattern() {
            true => reading.matches(home, include),
            false => vec![home.join(&include.pattern).components().collect()],
        };
        for path in paths {
            if reading.found.sources.len() >= MAX_INCLUDED {
                let text = format!("include brings in more than {MAX_INCLUDED} files");
                reading.problem(include, text);
                return reading.found;
            }
            reading.read(include, path);
        }
    }
    reading.found
}

struct Reading<'a> {
    main: &'a Path,
    found: Included,
    /// Files by the names that they really have.
    seen: BTreeSet<PathBuf>,
    left: u64,
}

impl Reading<'_> {
    fn problem(&mut self, include: &Include, text: String) {
        let (file, line) = (self.main.to_owned(), Some(include.line));
        self.found.problems.push(ConfigError { file, line, text });
    }

    /// The files that match, in the order of their names.
    fn matches(&mut self, home: &Path, include: &Include) -> Vec<PathBuf> {
        let pattern = match Path::new(&include.pattern).is_absolute() {
            true => include.pattern.clone(),
            // the home is no pattern, whatever characters it has
            false => format!("{}/{}", Pattern::escape(&home.to_string_lossy()), include.pattern),
        };
        let mut paths = Vec::new();
        let found = glob::glob_with(&pattern, AS_A_SHELL).into_iter().flatten();
        // one more than there may be, so that it is seen
        for path in found.take(MAX_INCLUDED + 1) {
            match path {
                Ok(path) => paths.push(path),
                Err(error) => {
                    let (path, cause) = (error.path().display(), error.error());
                    self.problem(include, format!("cannot search {path} for include: {cause}"));
                }
            }
        }
        paths.sort();
        paths
    }

    fn read(&mut self, include: &Include, path: PathBuf) {
        let result = fs::canonicalize(&path).and_then(|real| match self.seen.insert(real) {
            true => self.text(&path).map(Some),
            false => Ok(None),
        });
        match result {
            Ok(Some(text)) => self.found.sources.push(Source { file: path, text }),
            Ok(None) => {}
            Err(cause) => {
                let text = format!("cannot read {}, which is included: {cause}", path.display());
                self.problem(include, text);
            }
        }
    }

    fn text(&mut self, path: &Path) -> io::Result<String> {
        if path.to_str().is_none() {
            return Err(io::Error::other("its path is not UTF-8; rename it"));
        }
        let bytes = read(path, self.left)?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = 1 + valid.filter(|byte| **byte == b'\n').count();
            io::Error::other(format!("line {line} is not UTF-8, which a TOML file must be"))
        })
    }
}
