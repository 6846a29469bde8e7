//! Files of variables, in the format of systemd's EnvironmentFile (systemd.exec(5)).
//!
//! Read at each start of a server, in the loop: so only regular files, and only so many bytes.
//! Unlike systemd, which leaves out what it can't read, a file with an error is refused with its
//! line: a server with half of its variables is worse than none.

use super::file::read_regular;
use super::identity::EnvFile;
use super::servers::MARKS;
use super::units::quoted;
use std::io;

/// More than an exec takes (MAX_ARG_STRLEN is 128 KiB for one variable).
const MAX_BYTES: u64 = 256 << 10;

/// The variables of a file in their order; of a name that comes twice the last one counts.
///
/// # Errors
/// It can't be read, or a line is wrong; the text names the file, and the line where there is one.
pub fn read(file: &EnvFile) -> Result<Vec<(String, String)>, String> {
    let path = file.path.display();
    match read_regular(&file.path, MAX_BYTES, "larger than 256 KiB") {
        Ok(bytes) => {
            parse(&bytes).map_err(|wrong| format!("{path}:{}: {}", wrong.line, wrong.text))
        }
        Err(error) if file.may_be_missing && error.kind() == io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        Err(error) => Err(format!("cannot read envFile {path}: {error}")),
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// From 1.
    pub line: u32,
    pub text: String,
}

/// The variables in these bytes.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, Wrong> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            return Err(wrong(1 + newlines(valid), "not UTF-8"));
        }
    };
    if let Some((before, _)) = text.split_once('\0') {
        return Err(wrong(1 + newlines(before.as_bytes()), "contains a NUL character"));
    }
    let text = text.replace("\r\n", "\n");
    let mut scanner = Scanner { rest: &text, line: 1 };
    let mut variables = Vec::new();
    while let Some(variable) = scanner.next_variable()? {
        variables.push(variable);
    }
    Ok(variables)
}

fn newlines(bytes: &[u8]) -> u32 {
    let count = bytes.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(count).unwrap_or(u32::MAX - 1)
}

fn wrong(line: u32, text: &str) -> Wrong {
    Wrong { line, text: text.to_owned() }
}

/// What is still to be read.
struct Scanner<'a> {
    rest: &'a str,
    line: u32,
}

impl Scanner<'_> {
    fn next_char(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        self.line = self.line.saturating_add(u32::from(next == '\n'));
        Some(next)
    }

    /// All up to the end of the line, which is read too.
    fn skip_line(&mut self) {
        while self.next_char().is_some_and(|next| next != '\n') {}
    }

    fn next_variable(&mut self) -> Result<Option<(String, String)>, Wrong> {
        loop {
            while self.rest.starts_with(|c: char| c.is_ascii_whitespace()) {
                self.next_char();
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            let line = self.rest.split('\n').next().unwrap_or_default();
            match line.split_once('=') {
                Some((name, _)) if !line.starts_with(['#', ';']) => {
                    let (written, number) = (name.len() + 1, self.line);
                    let name =
                        checked_name(name.trim_ascii_end()).map_err(|text| wrong(number, &text))?;
                    self.rest = self.rest.get(written..).unwrap_or_default();
                    return Ok(Some((name, self.value()?)));
                }
                // A comment, or a line without "=": systemd.exec(5) leaves both out.
                _ => self.skip_line(),
            }
        }
    }

    /// A value is made of pieces: quoted ones first, in any number, then plain text to the end of
    /// the line, in which quotes stand for themselves.
    fn value(&mut self) -> Result<String, Wrong> {
        let mut value = String::new();
        loop {
            let line = self.line;
            match self.next_char() {
                None | Some('\n') => return Ok(value),
                Some('\'') => self.single_quoted(&mut value, line)?,
                Some('"') => self.double_quoted(&mut value, line)?,
                Some(blank) if blank.is_ascii_whitespace() => {}
                Some(first) => {
                    self.plain(first, &mut value);
                    return Ok(value);
                }
            }
        }
    }

    fn single_quoted(&mut self, value: &mut String, opened: u32) -> Result<(), Wrong> {
        loop {
            match self.next_char() {
                Some('\'') => return Ok(()),
                Some(other) => value.push(other),
                None => return Err(wrong(opened, "the quote ' that is opened here is not closed")),
            }
        }
    }

    /// A backslash stands for itself here, but before `"`, `\`, a backquote, `$` and a line's end.
    fn double_quoted(&mut self, value: &mut String, opened: u32) -> Result<(), Wrong> {
        loop {
            match self.next_char() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next_char() {
                    Some('\n') => {}
                    Some(special @ ('"' | '\\' | '`' | '$')) => value.push(special),
                    Some(other) => value.extend(['\\', other]),
                    None => {}
                },
                Some(other) => value.push(other),
                None => {
                    return Err(wrong(opened, "the quote \" that is opened here is not closed"));
                }
            }
        }
    }

    /// To the end of the line; a backslash takes the next character as it is, and joins lines.
    /// Blanks at the end are not part of it.
    fn plain(&mut self, first: char, value: &mut String) {
        let mut kept = value.len();
        let mut next = Some(first);
        while let Some(this) = next {
            match this {
                '\n' => break,
                '\\' => {
                    if let Some(escaped) = self.next_char().filter(|escaped| *escaped != '\n') {
                        value.push(escaped);
                    }
                    kept = value.len();
                }
                other => {
                    value.push(other);
                    if !other.is_ascii_whitespace() {
                        kept = value.len();
                    }
                }
            }
            next = self.next_char();
        }
        value.truncate(kept);
    }
}

fn checked_name(name: &str) -> Result<String, String> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if MARKS.contains(&name) {
        return Err(format!("{name} is set by the node manager itself"));
    }
    match name.strip_prefix("export ") {
        _ if is_name => Ok(name.to_owned()),
        Some(_) => Err("no shell reads this: write NAME=value without \"export\"".to_owned()),
        None => Err(format!("{} is no name of a variable (letters, digits, _)", quoted(name))),
    }
}

#[cfg(test)]
#[path = "env_file_tests.rs"]
mod tests;
