//! Reads the sources and holds what no compiler checks: who may import whom, and the house rules.
//!
//! Must not run anything. It sees code without comments and literals, so it needs no parser, and
//! it works for directories that do not exist yet.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;

/// One source file.
struct Source {
    /// Its path in the project.
    path: String,
    text: String,
    /// The text without comments and without what is inside quotes; line for line the same.
    code: String,
}

impl Source {
    fn is_below(&self, folder: &str) -> bool {
        self.path.starts_with(&format!("{folder}/")) || self.path == format!("{folder}.rs")
    }

    /// Part of the program itself, not one of the tests beside it.
    fn is_program(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let is_test = self.path.contains("/tests/") || name.contains("test");
        self.path.starts_with("src/") && !is_test
    }
}

fn sources() -> Vec<Source> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    ["src", "tests", "examples", "benches"]
        .iter()
        .for_each(|top| walk(&home.join(top), &mut paths));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let path = path.strip_prefix(home).expect("it is below the home").display().to_string();
        Source { path, code: code_of(&text), text }
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Blanks comments and the inside of strings and characters.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    while at < chars.len() {
        let end = match end_of_hidden(&chars, at) {
            Some(end) => end.min(chars.len()),
            None => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that begins here ends.
fn end_of_hidden(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    match chars[at] {
        '/' if next == Some('/') => {
            Some(at + chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at))
        }
        '/' if next == Some('*') => Some(end_of_block(chars, at)),
        '"' => Some(end_of_quoted(chars, at + 1, '"')),
        'r' if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            let is_raw = chars.get(at + 1 + hashes) == Some(&'"');
            is_raw.then(|| end_of_raw(chars, at + 2 + hashes, hashes))
        }
        // A character, and no lifetime: it is closed after one character or an escape.
        '\'' if next == Some('\\') => Some(end_of_quoted(chars, at + 1, '\'')),
        '\'' if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

fn end_of_block(chars: &[char], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end + 1 < chars.len() {
        match (chars[end], chars[end + 1]) {
            ('/', '*') => (depth, end) = (depth + 1, end + 2),
            ('*', '/') => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            return end;
        }
    }
    chars.len()
}

fn end_of_quoted(chars: &[char], from: usize, quote: char) -> usize {
    let mut end = from;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    end + 1
}

fn end_of_raw(chars: &[char], from: usize, hashes: usize) -> usize {
    let is_end = |at: &usize| {
        chars[*at] == '"'
            && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (from..chars.len()).find(is_end).map_or(chars.len(), |at| at + 1 + hashes)
}

/// The words of some code, each with its line; `::` and `!` are words too, as `{`, `}` and `;`.
fn words(code: &str) -> Vec<(usize, &str)> {
    let mut all = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            all.push((index + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    all
}

/// Whether these words stand one after the other here.
fn is_at(words: &[(usize, &str)], at: usize, wanted: &[&str]) -> bool {
    let here = words.iter().skip(at).map(|(_, word)| *word);
    words.len() >= at + wanted.len() && here.zip(wanted).all(|(word, wanted)| word == *wanted)
}

/// The lines on which these words stand one after the other.
fn lines_with(code: &str, wanted: &[&str]) -> Vec<usize> {
    let words = words(code);
    (0..words.len()).filter(|at| is_at(&words, *at, wanted)).map(|at| words[at].0).collect()
}

/// Every `use` as its line and its words, up to the `;`.
fn imports(code: &str) -> Vec<(usize, Vec<&str>)> {
    let words = words(code);
    // `use<...>` in a type is no import.
    let starts =
        (0..words.len()).filter(|at| words[*at].1 == "use" && !is_at(&words, at + 1, &["<"]));
    let read = |at: usize| {
        let rest = words[at + 1..].iter().map(|(_, word)| *word);
        (words[at].0, rest.take_while(|word| *word != ";").collect())
    };
    starts.map(read).collect()
}

/// Every function as its name, its first line and its length in lines.
fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let words = words(code);
    let mut all = Vec::new();
    for at in (0..words.len().saturating_sub(1)).filter(|at| words[*at].1 == "fn") {
        let body = words[at..].iter().position(|(_, word)| matches!(*word, "{" | ";"));
        let Some(body) = body.map(|offset| at + offset).filter(|body| words[*body].1 == "{") else {
            continue;
        };
        let mut depth = 0;
        for (line, word) in &words[body..] {
            depth += i32::from(*word == "{") - i32::from(*word == "}");
            if depth == 0 {
                all.push((words[at + 1].1, words[at].0, line - words[at].0 + 1));
                break;
            }
        }
    }
    all
}

fn none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    none("a file must begin with `//!`", silent.map(|source| source.path).collect());
}

#[test]
fn the_core_imports_nothing_but_values() {
    let outside = ["fs", "io", "net", "os", "process", "thread", "time", "env"];
    let sources = sources();
    let own =
        |word: &str| sources.iter().any(|source| source.path == format!("src/core/{word}.rs"));
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.is_below("src/core")) {
        for (line, path) in imports(&source.code) {
            let is_known = matches!(path[0], "std" | "serde" | "super" | "self")
                || is_core(&path)
                || own(path[0]);
            let goes_out = path[0] == "std" && path.iter().any(|word| outside.contains(word));
            if !is_known || goes_out {
                wrong.push(format!("{}:{line}: use {}", source.path, path.concat()));
            }
        }
        let paths = outside.iter().map(|name| vec!["std", "::", *name]);
        let crates = ["log", "nix", "libc", "mio", "shell", "cli"].map(|name| vec![name, "::"]);
        let words = ["HashMap", "HashSet", "Instant", "SystemTime"].map(|name| vec![name]);
        for wanted in paths.chain(crates).chain(words) {
            for line in lines_with(&source.code, &wanted) {
                wrong.push(format!("{}:{line}: {}", source.path, wanted.concat()));
            }
        }
    }
    none("the core may use std's values, serde and itself", wrong);
}

fn is_core(path: &[&str]) -> bool {
    path.len() > 2 && path[..3] == ["crate", "::", "core"]
}

#[test]
fn the_shell_and_the_commands_are_known_from_above_only_and_not_to_each_other() {
    let above = ["src/main.rs", "src/lib.rs", "src/launch.rs", "src/offline.rs", "src/doctor.rs"];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        if above.contains(&source.path.as_str()) || source.is_below("src/doctor") {
            continue;
        }
        for name in ["shell", "cli"] {
            if source.is_below(&format!("src/{name}")) {
                continue;
            }
            let mut lines = lines_with(&source.code, &["crate", "::", name]);
            lines.extend(lines_with(&source.code, &["super", "::", name]));
            let listed = imports(&source.code).into_iter().filter(|(_, path)| {
                path.len() > 2 && path[..3] == ["crate", "::", "{"] && path.contains(&name)
            });
            lines.extend(listed.map(|(line, _)| line));
            wrong.extend(lines.iter().map(|line| format!("{}:{line}: {name}", source.path)));
        }
    }
    none("imports go one way", wrong);
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_below("src/sys")) {
        let lines = lines_with(&source.code, &["unsafe"]);
        wrong.extend(lines.iter().map(|line| format!("{}:{line}", source.path)));
    }
    none("`unsafe` belongs to src/sys", wrong);
}

#[test]
fn the_program_has_no_line_that_panics_on_a_closed_pipe_or_is_unfinished() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.is_program()) {
        for name in ["println", "eprintln", "print", "eprint", "dbg", "todo", "unimplemented"] {
            let lines = lines_with(&source.code, &[name, "!"]);
            wrong.extend(lines.iter().map(|line| format!("{}:{line}: {name}!", source.path)));
        }
    }
    none("not in the program's code", wrong);
}

#[test]
fn nothing_sleeps_but_a_command_that_says_why() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.is_program()) {
        let lines: Vec<&str> = source.text.lines().collect();
        for line in lines_with(&source.code, &["thread", "::", "sleep"]) {
            let near = lines[line.saturating_sub(3)..line].iter();
            let says_why = near.clone().any(|text| text.contains("//"));
            let is_command = source.is_below("src/cli")
                || matches!(source.path.as_str(), "src/launch.rs" | "src/offline.rs");
            if !(is_command && says_why) {
                wrong.push(format!("{}:{line}", source.path));
            }
        }
    }
    none("nothing blocks the loop", wrong);
}

#[test]
fn files_and_functions_are_short() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        let lines = source.text.lines().count();
        if lines >= FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        let long = functions(&source.code).into_iter().filter(|(_, _, n)| *n > FUNCTION_LINES_MAX);
        wrong.extend(
            long.map(|(name, line, n)| format!("{}:{line}: {name}, {n} lines", source.path)),
        );
    }
    none("split it", wrong);
}

// ---- is the reader itself right?

#[test]
fn comments_and_literals_are_hidden_and_lines_are_kept() {
    let text = "a // unsafe\n/* b /* c */ d */ e\n\"f \\\" g\" r#\"h \" i\"# 'j' '\\'' &'k l\nm";
    let code = code_of(text);
    let seen: Vec<&str> = words(&code).into_iter().map(|(_, word)| word).collect();
    assert_eq!(seen, ["a", "e", "&", "'", "k", "l", "m"]);
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn imports_and_functions_are_found() {
    let code = "use std::{fs,\n io};\nfn a();\nfn b() {\n if x { y }\n}\nstd::thread::sleep(z)";
    assert_eq!(imports(code)[0].1.concat(), "std::{fs,io}");
    assert_eq!(functions(code), [("b", 4, 3)]);
    assert_eq!(lines_with(code, &["thread", "::", "sleep"]), [7]);
}

#[test]
fn the_sources_are_found() {
    assert!(sources().iter().any(|source| source.path == "src/core/node.rs"));
}
