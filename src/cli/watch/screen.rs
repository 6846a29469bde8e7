//! What the view shows: the model as lines that fit a terminal of a given size.
//!
//! Must not write to a terminal. Each line is cut to the columns, wide letters counted as such.

use super::model::{Mode, Model, Page};
use crate::api::State;
use crate::cli::printable;
use crate::cli::status::text;
use jiff::Timestamp;

const KEYS: &str =
    "q quit  ? help  / filter  Enter details  l logs  s start  t stop  r restart  R reload";
const KEYS_OF_DETAIL: &str = "q back  l logs  arrows scroll";
const KEYS_OF_LOG: &str = "q back  arrows PgUp PgDn scroll  End follow";
const HELP: &[&str] = &[
    "arrows j k        select a server",
    "PgUp PgDn Space   a screen up, down",
    "Home g, End G     first, last",
    "/                 filter by name or state; Enter keeps it, Esc drops it",
    "Enter             details of the server",
    "l                 follow its log",
    "s                 start",
    "t                 stop (asks)",
    "r                 restart (asks)",
    "R                 reload",
    "D                 drain (asks)",
    "K                 kill (asks)",
    "c                 clear counts, as `reset`",
    "e                 enable",
    "d                 disable (asks)",
    "Ctrl-L            draw anew",
    "Ctrl-Z            suspend",
    "q                 quit",
];

/// How a line stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    #[default]
    Plain,
    /// Selected.
    Reverse,
    Bold,
    /// Needs an answer, or is bad news.
    Alarm,
}

/// One line, without control characters, no wider than the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub look: Look,
    /// A state in these columns.
    pub state: Option<(std::ops::Range<usize>, State)>,
}

impl Line {
    fn new(text: impl Into<String>, look: Look) -> Line {
        Line { text: text.into(), look, state: None }
    }
}

/// A terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub lines: usize,
}

/// The whole screen: as many lines as it has. The model learns how many rows fit.
pub fn render(model: &mut Model, size: Size, now: Timestamp) -> Vec<Line> {
    let footer = footer(model, size);
    let room = size.lines.saturating_sub(footer.len());
    let mut lines = match model.page.clone() {
        Page::Servers => servers(model, Size { lines: room, ..size }, now),
        Page::Help => page("keys", HELP.iter().map(|line| (*line).to_owned()), 0, room),
        Page::Detail(name) => detail(model, &name, Size { lines: room, ..size }, now),
        Page::Log(name) => log(model, &name, Size { lines: room, ..size }),
    };
    lines.resize(room, Line::default());
    lines.extend(footer);
    lines.truncate(size.lines);
    for line in &mut lines {
        line.text = text::cut(&printable(&line.text).replace('\t', " "), Some(size.columns));
    }
    lines
}

fn header(model: &Model, most: usize, now: Timestamp) -> Vec<Line> {
    let mut lines = Vec::new();
    match (&model.status, &model.silence) {
        (Some(status), _) => {
            let mut words = String::new();
            text::pair_lines(&mut words, status, now);
            lines.extend(words.lines().map(|line| Line::new(line, Look::Bold)));
        }
        (None, Some(_)) => {}
        (None, None) => lines.push(Line::new("asking the pair ...", Look::Bold)),
    }
    if let Some(text) = &model.silence {
        lines.truncate(1);
        // Where there is one line, this is what matters.
        let at = if most > 1 { lines.len() } else { 0 };
        lines.insert(at, Line::new(text, Look::Alarm));
    }
    lines.truncate(most);
    lines
}

fn servers(model: &mut Model, size: Size, now: Timestamp) -> Vec<Line> {
    let header_most = match size.lines {
        0..=3 => 0,
        4..=9 => 1,
        _ => 2,
    };
    let mut lines = header(model, header_most, now);
    let has_titles = size.lines >= 3;
    let has_summary = size.lines >= 10;
    let taken = lines.len() + usize::from(has_titles) + usize::from(has_summary);
    let room = size.lines.saturating_sub(taken);
    let row = model.selected_row();
    let count = model.shown().len();
    model.room = room.max(1);
    model.top = top(model.top, row.unwrap_or(0), room, count);
    let shown = model.shown();
    let owned: Vec<_> = shown.iter().map(|one| (*one).clone()).collect();
    // All of them, so that the columns stay where they are while the rows are scrolled.
    let table = text::table(&owned, true, Some(size.columns), now);
    let mut rows = table.lines.iter();
    let titles = rows.next().cloned().unwrap_or_default();
    if has_titles {
        lines.push(Line::new(titles, Look::Plain));
    }
    let visible = rows.zip(&owned).enumerate().skip(model.top).take(room);
    lines.extend(visible.map(|(at, (text, server))| Line {
        text: text.clone(),
        look: if row == Some(at) { Look::Reverse } else { Look::Plain },
        state: Some((table.state.clone(), server.state)),
    }));
    if let Some(status) = model.status.as_ref().filter(|_| has_summary) {
        let mut words = text::summary(&status.servers).trim_end().to_owned();
        if room < count {
            let last = (model.top + room).min(count);
            words = format!("[{}-{last} of {count}]  {words}", model.top + 1);
        }
        lines.push(Line::new(words, Look::Plain));
    }
    lines
}

/// The first row, so that the selected one is on the screen and no line stays empty.
fn top(top: usize, row: usize, room: usize, count: usize) -> usize {
    let least = row.saturating_add(1).saturating_sub(room);
    top.clamp(least, row.max(least)).min(count.saturating_sub(room))
}

fn detail(model: &mut Model, name: &str, size: Size, now: Timestamp) -> Vec<Line> {
    let mut words = String::new();
    let status = model.status.as_ref();
    match status.and_then(|status| status.servers.iter().find(|one| one.name == name)) {
        Some(server) => {
            let rows = text::table(std::slice::from_ref(server), true, None, now);
            words = rows.lines.join("\n") + "\n";
            text::about_server(&mut words, server, now);
        }
        None => words.push_str("there is no such server any more"),
    }
    let title = match &model.silence {
        Some(silence) => format!("{name}: {silence}"),
        None => name.to_owned(),
    };
    let wrapped: Vec<String> = words.lines().flat_map(|line| wrap(line, size.columns)).collect();
    model.room = size.lines.saturating_sub(1).max(1);
    model.scroll = model.scroll.min(wrapped.len().saturating_sub(model.room));
    page(&title, wrapped.into_iter(), model.scroll, size.lines)
}

fn page(title: &str, lines: impl Iterator<Item = String>, skip: usize, room: usize) -> Vec<Line> {
    let title = Line::new(title, Look::Bold);
    let lines = lines.skip(skip).map(|text| Line::new(text, Look::Plain));
    std::iter::once(title).chain(lines).take(room).collect()
}

fn log(model: &mut Model, name: &str, size: Size) -> Vec<Line> {
    let room = size.lines.saturating_sub(1);
    model.room = room.max(1);
    model.scroll = model.scroll.min(model.log.len().saturating_sub(room));
    let end = model.log.len().saturating_sub(model.scroll);
    let newest = model.log.iter().take(end).skip(end.saturating_sub(room));
    let mut wrapped: Vec<String> = newest.flat_map(|line| wrap(line, size.columns)).collect();
    let surplus = wrapped.len().saturating_sub(room);
    wrapped.drain(..surplus);
    let place = match model.scroll {
        0 => "follows".to_owned(),
        back => format!("{back} lines back; End follows"),
    };
    page(&format!("log of {name} ({place})"), wrapped.into_iter(), 0, size.lines)
}

/// A long line as several.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    let line = line.replace('\t', "    ");
    let (mut pieces, mut rest) = (Vec::new(), line.as_str());
    loop {
        let (piece, next) =
            rest.split_at_checked(text::byte_at(rest, columns)).unwrap_or((rest, ""));
        pieces.push(piece.to_owned());
        // Not even one letter fits.
        if piece.is_empty() || next.is_empty() {
            return pieces;
        }
        rest = next;
    }
}

/// What is asked or told, and the keys; on a small terminal one of the two.
fn footer(model: &Model, size: Size) -> Vec<Line> {
    let keys = match model.page {
        Page::Servers => KEYS,
        Page::Help => "any key: back",
        Page::Detail(_) => KEYS_OF_DETAIL,
        Page::Log(_) => KEYS_OF_LOG,
    };
    let told = match &model.mode {
        Mode::Confirm(action, name) => {
            Some(Line::new(format!("{} {name}? (y/n)", action.name()), Look::Alarm))
        }
        Mode::Filter => Some(Line::new(format!("/{}_", model.filter), Look::Bold)),
        Mode::Keys if model.page != Page::Servers => None,
        Mode::Keys if !model.filter.is_empty() => {
            let text = format!("filter: {} (Esc drops it)  {}", model.filter, model.message);
            Some(Line::new(text, Look::Plain))
        }
        Mode::Keys => (!model.message.is_empty()).then(|| Line::new(&model.message, Look::Plain)),
    };
    let keys = Line::new(keys, Look::Reverse);
    match size.lines {
        0..=2 => told.into_iter().collect(),
        3..=7 => vec![told.unwrap_or(keys)],
        _ => vec![told.unwrap_or_default(), keys],
    }
}
