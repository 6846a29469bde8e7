//! The remembered wishes: a text file that a person may have edited.

use nodemanager::state::Wishes;

pub const WORDS: &[&str] = &["up ", "down ", "\n", "\r\n", "up", "web", "web@1", " ", "\0"];

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let wishes = Wishes::parse(text);
    assert_eq!(Wishes::parse(&wishes.text()), wishes, "what is written reads the same");
    // The last line about a server counts, and a server without a line is not wanted.
    let last = |name: &str| {
        let mut lines = text.lines().rev();
        lines.find_map(|line| match line.split_at_checked(line.find(' ')? + 1)? {
            (word @ ("up " | "down "), found) if found == name => Some(word == "up "),
            _ => None,
        })
    };
    let is_name = |name: &str| !name.contains(char::is_control);
    for name in text.lines().filter_map(|line| line.split_once(' ')).map(|(_, name)| name).take(8) {
        assert_eq!(wishes.is_up(name), last(name).unwrap_or(false) && is_name(name), "{name:?}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut wishes = Wishes::default();
    wishes.set("web@1", true);
    wishes.set("db", false);
    vec![wishes.text().into_bytes(), b"up web\ndown web\nsideways web\n\nup  x\n".to_vec()]
}
