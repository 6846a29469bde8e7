//! The list of disabled servers: any text is a list, and a change keeps what others wrote.

use nodemanager::state::disabled::{Change, changed, parse};
use std::collections::BTreeSet;

pub const WORDS: &[&str] = &[
    "web",
    "db",
    "web@1",
    "#",
    " # until Monday",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\0",
    "\x0c",
    "\u{85}",
    "\u{a0}",
    "\u{feff}",
    "\u{e4}",
    "\u{2028}",
];

/// Names as servers have them.
const NAMES: [&str; 4] = ["web", "db", "web@1", "a-b_c.d"];

pub fn run(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    // As it is read from the file.
    let text = String::from_utf8_lossy(rest).into_owned();
    let names = parse(&text);
    for name in &names {
        assert!(!name.is_empty() && name.trim() == name && !name.contains(['#', '\n']), "{name:?}");
        assert!(text.contains(name.as_str()), "{name:?} of {text:?}");
    }
    // Two bits of the first byte for each name: left alone, enabled, disabled.
    let wish = |at: usize| (first >> (2 * at)) & 3;
    let changes: Vec<Change> = (0..NAMES.len())
        .filter(|at| wish(*at) > 0)
        .map(|at| (NAMES[at].to_owned(), wish(at) > 1))
        .collect();
    let new = changed(&text, &changes);
    let mut expected: BTreeSet<String> = names;
    for (name, is_disabled) in &changes {
        match is_disabled {
            true => expected.insert(name.clone()),
            false => expected.remove(name),
        };
    }
    assert_eq!(parse(&new), expected, "{changes:?} to {text:?}");
    // But for a return that had no new line behind it.
    let plain = |text: &str| text.replace('\r', "");
    assert_eq!(plain(&changed(&new, &changes)), plain(&new), "done twice it is the same");
    // A return without a new line at the end of the file gets one.
    let end = |line| str::trim_end_matches(line, '\r');
    let is_kept = |line: &str| {
        let name = line.split('#').next().unwrap_or_default().trim();
        !changes.iter().any(|(one, off)| one == name && !off)
    };
    let kept: Vec<&str> = text.lines().filter(|line| is_kept(line)).map(end).collect();
    let lines: Vec<&str> = new.lines().map(end).collect();
    assert!(lines.starts_with(&kept), "{kept:?} is not kept in {new:?}");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let list = "# off\n\n web@1 # until Monday\r\ndb\ndb\n#web\nstranger\n";
    vec![
        [&[0b1001_1001], list.as_bytes()].concat(),
        [&[0b0110_0110], "web".as_bytes()].concat(),
        vec![0xff],
    ]
}
