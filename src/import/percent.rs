//! `%(program_name)s` and its like, as Python's `%` operator with a dictionary expands them.
//!
//! Must not look at the environment: `%(ENV_HOME)s` becomes the variable `${HOME}`.

use super::written;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What a value may name.
#[derive(Debug, Default)]
pub struct Scope {
    pub texts: BTreeMap<String, String>,
    /// The numbers of the processes of a program.
    pub numbers: Vec<i64>,
    /// Variables that the numbers need, one value an instance: found while values are expanded.
    pub vars: RefCell<BTreeMap<String, Vec<String>>>,
}

/// The text with everything put in; variables as [`written::variable`].
///
/// # Errors
/// Something in it is unknown; the text says what.
pub fn expand(text: &str, scope: &Scope) -> Result<String, String> {
    let text = written::without_marks(text);
    let mut result = String::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once('%') {
        result.push_str(before);
        if let Some(behind) = behind.strip_prefix('%') {
            result.push('%');
            rest = behind;
            continue;
        }
        let inside = behind.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        let (name, behind) = inside.ok_or("a % that is not %% and not %(name)s")?;
        let end = behind.find(|c: char| c.is_ascii_alphabetic());
        let end = end.ok_or_else(|| format!("%({name}) without its letter"))?;
        let (flags, behind) = behind.split_at(end);
        let mut chars = behind.chars();
        let letter = chars.next().unwrap_or('s');
        result.push_str(&value(name, flags, letter, scope)?);
        rest = chars.as_str();
    }
    result.push_str(rest);
    Ok(result)
}

fn value(name: &str, flags: &str, letter: char, scope: &Scope) -> Result<String, String> {
    let is_number = matches!(letter, 'd' | 'i' | 'u');
    let wrong = || format!("%({name}){flags}{letter} is none of supervisord's");
    if !(is_number || letter == 's') || flags.len() > 3 {
        return Err(wrong());
    }
    if name == "process_num" {
        return numbered(flags, is_number, scope).ok_or_else(wrong);
    }
    let number = scope.texts.get(name).and_then(|text| text.parse().ok());
    match (scope.texts.get(name), name.strip_prefix("ENV_")) {
        (Some(_), _) if is_number => {
            number.and_then(|number| padded(number, flags, true)).ok_or_else(wrong)
        }
        (Some(text), _) if flags.is_empty() => Ok(text.clone()),
        (None, Some(variable)) if !variable.is_empty() && flags.is_empty() && !is_number => {
            Ok(written::variable(variable))
        }
        _ => Err(wrong()),
    }
}

/// The number itself of a single process, else a variable.
fn numbered(flags: &str, is_number: bool, scope: &Scope) -> Option<String> {
    let all: Option<Vec<String>> =
        scope.numbers.iter().map(|number| padded(*number, flags, is_number)).collect();
    let all = all?;
    if let [one] = all.as_slice() {
        return Some(one.clone());
    }
    let variable = format!("processNum{flags}");
    scope.vars.borrow_mut().insert(variable.clone(), all);
    Some(written::variable(&variable))
}

/// `02`: two digits with zeros; `3`: with blanks.
fn padded(number: i64, flags: &str, is_number: bool) -> Option<String> {
    let width = flags.trim_start_matches('0');
    let width: usize = if width.is_empty() { 0 } else { width.parse().ok()? };
    Some(match flags.starts_with('0') && is_number {
        true => format!("{number:0width$}"),
        false => format!("{number:width$}"),
    })
}
