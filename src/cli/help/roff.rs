//! Markdown of this project's documents as roff, for man pages.
//!
//! Must only know what these documents use: headings, paragraphs, tables, lists, code.

/// A text in which nothing is a command of roff.
pub fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    match text.starts_with('.') {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// Lines that stay as they are.
pub fn as_it_is(text: &str) -> String {
    let lines: Vec<String> = text.trim_end().lines().map(escaped).collect();
    format!(".nf\n{}\n.fi\n", lines.join("\n"))
}

/// A whole document without its first heading.
pub fn of_markdown(text: &str) -> String {
    let mut page = String::new();
    let mut code: Option<String> = None;
    for line in text.lines() {
        if line.starts_with("```") {
            code = match code.take() {
                Some(lines) => {
                    page += &as_it_is(&lines);
                    None
                }
                None => Some(String::new()),
            };
        } else if let Some(code) = &mut code {
            *code += &format!("{line}\n");
        } else {
            page += &one_line(line);
        }
    }
    page
}

fn one_line(line: &str) -> String {
    let (indented, line) = (line.starts_with("  "), line.trim());
    match line.split_once(' ') {
        None if line.is_empty() => ".PP\n".to_owned(),
        Some(("#", _)) => ".SH DESCRIPTION\n".to_owned(),
        Some(("##", title)) => format!(".SH {}\n", marked(&title.to_uppercase().replace('`', ""))),
        Some(("*", rest)) => format!(".IP \\(bu 2\n{}\n", marked(rest)),
        Some(("|", _)) => row(line),
        _ if line.starts_with("|---") => String::new(),
        _ if indented => format!("{}\n", marked(line)),
        _ => format!("{}\n", marked(line)),
    }
}

/// The first cell is what is described.
fn row(line: &str) -> String {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [first, rest @ ..] = cells.as_slice() else { return String::new() };
    if *first == "key" || (rest.len() == 1 && rest[0] == "when") || first.is_empty() {
        return String::new();
    }
    match rest {
        [default, meaning] => {
            let default = if default.is_empty() { String::new() } else { format!("[{default}] ") };
            format!(".TP\n{}\n{}\n", marked(first), marked(&(default + meaning)))
        }
        other => format!(".TP\n{}\n{}\n", marked(first), marked(&other.join("; "))),
    }
}

/// Words in backquotes are bold, links are their text.
fn marked(text: &str) -> String {
    let mut result = String::new();
    for (number, part) in text.split('`').enumerate() {
        match number % 2 {
            1 => result += &format!("\\fB{}\\fR", escaped(part).trim_start_matches("\\&")),
            _ => result += escaped(part).trim_start_matches("\\&"),
        }
    }
    match result.starts_with('.') {
        true => format!("\\&{result}"),
        false => result,
    }
}
