//! What is wrong with a configuration: every error with its file and line.
//!
//! Must not print; whoever loads the configuration shows these.

use std::fmt;
use std::path::PathBuf;

/// One error of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named by the caller; empty when the text names it.
    pub file: PathBuf,
    /// Counted from 1; `None` when the error is about the file as a whole.
    pub line: Option<u32>,
    pub text: String,
}

/// All errors of a configuration, in the order of their lines; shown one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            None if self.file.as_os_str().is_empty() => f.write_str(&self.text),
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.text),
            None => write!(f, "{}: {}", self.file.display(), self.text),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
