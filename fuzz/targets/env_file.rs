//! Files of variables (`envFile`): any bytes are variables, or are refused with a line of theirs.

use nodemanager::config::env_file::parse;

pub const WORDS: &[&str] = &[
    "A=",
    "B_1 = ",
    "export ",
    "=",
    "#",
    ";",
    "'",
    "\"",
    "\\",
    "\\\n",
    "\\\"",
    "\\$",
    "`",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "\0",
    "NM_SERVER=x",
    "\u{e4}",
    "\u{feff}",
];

type Variables = Vec<(String, String)>;

pub fn run(data: &[u8]) {
    let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
    match parse(data) {
        Ok(variables) => accepted(data, &variables),
        Err(wrong) => {
            assert!((1..=lines).contains(&(wrong.line as usize)), "{lines} lines: {wrong:?}");
            assert!(!wrong.text.is_empty() && !wrong.text.contains(char::is_control), "{wrong:?}");
        }
    }
}

fn accepted(data: &[u8], variables: &Variables) {
    let text = std::str::from_utf8(data).expect("only UTF-8 is accepted");
    for (name, value) in variables {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(is_name) && name != "NM_SERVER", "{name:?}");
        assert!(!name.starts_with(|c: char| c.is_ascii_digit()), "{name:?}");
        assert!(!value.contains('\0') && value.len() < text.len(), "{value:?}");
    }
    assert_eq!(parse(written(variables).as_bytes()).as_ref(), Ok(variables), "written and read");
    if !text.contains(['\'', '"', '\\', '\r']) {
        assert_eq!(variables, &plain(text));
    }
}

/// All in double quotes. A line that ends with a carriage return would lose it.
fn written(variables: &Variables) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        text += &format!("{name}=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
            if c == '\r' {
                text += "\\\n";
            }
        }
        text += "\"\n";
    }
    text
}

/// Without quotes and backslashes a line is a variable, a comment or nothing.
fn plain(text: &str) -> Variables {
    let lines = text.split('\n').map(str::trim_ascii);
    lines
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim_ascii().to_owned(), value.trim_ascii().to_owned()))
        .collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let plain = "# comment\n; another\n\nA=1\n B = two words \nC=\nnothing\n";
    let quoted = "A='single $x \\ '\nB=\"double \\\" \\$ \\\\ \\n\"\nC=\"two\nlines\" 'more'x\nD=a\\\n  b\\ \n";
    vec![plain.into(), quoted.into(), plain.replace('\n', "\r\n").into()]
}
