//! TOML, written: quoted strings, arrays, comments.
//!
//! Must not decide what is written. A text may hold variables of this program between [`OPEN`] and
//! [`CLOSE`], which no input can have; everything else in it is meant literally.

/// Before the name of a variable.
pub const OPEN: char = '\u{e000}';
/// Behind it.
pub const CLOSE: char = '\u{e001}';

/// A variable inside of a text.
pub fn variable(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// Input without the two marks.
pub fn without_marks(text: &str) -> String {
    text.replace([OPEN, CLOSE], "?")
}

/// A string of a `[[server]]` table: its dollars are escaped, its variables are `${NAME}`.
pub fn string(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            OPEN => escaped.push_str("${"),
            CLOSE => escaped.push('}'),
            '$' if matches!(chars.peek(), None | Some(&('$' | '{' | OPEN))) => {
                escaped.push_str("$$")
            }
            c => escaped.push(c),
        }
    }
    plain(&escaped)
}

/// A string in which nothing is expanded, as those of `[nodeManager]`.
pub fn plain(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An array of [`string`]s.
pub fn array(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| string(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A key of an inline table: bare if it can be.
pub fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { plain(name) }
}

/// A comment of one line.
pub fn comment(text: &str) -> String {
    let text = text.replace(OPEN, "${").replace(CLOSE, "}");
    let words: Vec<&str> = text.split(char::is_control).filter(|word| !word.is_empty()).collect();
    format!("# {}", words.join(" "))
}

/// A name as servers, nodes and tags have it.
pub fn name(text: &str) -> String {
    let fitting = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
        _ => '-',
    };
    let name: String = text.trim().chars().map(fitting).take(90).collect();
    let name = name.trim_start_matches(['-', '.']);
    match name {
        "" | "all" => format!("server-{name}").trim_end_matches('-').to_owned(),
        name => name.to_owned(),
    }
}
