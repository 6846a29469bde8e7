//! Reads INI files as supervisord does, with the line of each key.
//!
//! A reader of its own, because the INI crates keep no line numbers, and this dialect is Python's
//! configparser: `=` or `:`, comments behind a blank and `;` or `#` also in quotes, values that go on in
//! indented lines, sections and keys given twice. Must not know what a key means.

/// A file, or several that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub sections: Vec<Section>,
    /// Lines that are no INI: their place and their text.
    pub strange: Vec<(String, String)>,
}

/// `[name]` and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    /// `file:line`.
    pub place: String,
    pub items: Vec<Item>,
}

/// `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// In small letters.
    pub key: String,
    /// Its lines joined by newlines.
    pub value: String,
    /// `file:line`.
    pub place: String,
}

impl Document {
    /// The section of that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Adds a file that this one includes: of a key given twice the last counts.
    pub fn add(&mut self, other: Document) {
        for section in other.sections {
            match self.sections.iter_mut().find(|known| known.name == section.name) {
                Some(known) => section.items.into_iter().for_each(|item| known.set(item)),
                None => self.sections.push(section),
            }
        }
        self.strange.extend(other.strange);
    }
}

impl Section {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.key == key)
    }

    fn set(&mut self, item: Item) {
        match self.items.iter_mut().find(|known| known.key == item.key) {
            Some(known) => *known = item,
            None => self.items.push(item),
        }
    }
}

/// Reads a text; `file` is its name in places.
pub fn parse(text: &str, file: &str) -> Document {
    let mut document = Document::default();
    let mut current: Option<Section> = None;
    let mut item: Option<Item> = None;
    let mut indent = 0;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        let value = without_comment(line);
        if value.is_empty() {
            if line.trim().is_empty()
                && let Some(item) = &mut item
            {
                item.value.push('\n');
            }
            continue;
        }
        let own_indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if let Some(item) = item.as_mut().filter(|_| own_indent > indent) {
            item.value.push('\n');
            item.value.push_str(value);
            continue;
        }
        indent = own_indent;
        finish(item.take(), &mut current);
        if let Some(name) = value.strip_prefix('[').and_then(|rest| Some(rest.split_once(']')?.0)) {
            end_section(current.take(), &mut document);
            current = Some(Section { name: name.to_owned(), place, items: Vec::new() });
        } else if let (Some((key, value)), true) = (value.split_once(['=', ':']), current.is_some())
        {
            let key = key.trim().to_ascii_lowercase();
            item = Some(Item { key, value: value.trim().to_owned(), place });
        } else {
            document.strange.push((place, value.to_owned()));
        }
    }
    finish(item, &mut current);
    end_section(current, &mut document);
    document
}

fn finish(item: Option<Item>, section: &mut Option<Section>) {
    if let (Some(mut item), Some(section)) = (item, section) {
        item.value.truncate(item.value.trim_end().len());
        section.set(item);
    }
}

fn end_section(section: Option<Section>, document: &mut Document) {
    if let Some(section) = section {
        document.add(Document { sections: vec![section], strange: Vec::new() });
    }
}

/// The line up to a `;` or `#` at its beginning or behind a blank, without blanks around.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if matches!(c, ';' | '#') && before.is_whitespace() {
            return line.get(..at).unwrap_or_default().trim();
        }
        before = c;
    }
    line.trim()
}
