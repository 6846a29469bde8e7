//! Values as supervisord reads them: booleans, sizes, lists, `A="b",C=d`.
//!
//! Must not know what a key means.

/// A boolean.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// `50MB`, `64KB`, `1GB` or bytes, as this program writes it; 0 is kept as `0`.
pub fn size(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    for (suffix, unit) in [("KB", "KiB"), ("MB", "MiB"), ("GB", "GiB")] {
        if let Some(number) = upper.strip_suffix(suffix) {
            let number: u64 = number.trim().parse().ok()?;
            return Some(if number == 0 { "0".to_owned() } else { format!("{number}{unit}") });
        }
    }
    upper.parse().ok().map(|bytes: u64| bytes.to_string())
}

/// The parts of a list with commas, without empty ones.
pub fn list(text: &str) -> Vec<String> {
    let parts = text.split([',', '\n']).map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// `A="b",C=d`, as Python's shlex without its POSIX mode takes it apart: quotes are no part of a value, and
/// nothing is escaped.
///
/// # Errors
/// It is no such list; the text says where.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let tokens = tokens(text)?;
    let mut pairs = Vec::new();
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let [name, equals, value, behind @ ..] = rest else {
            return Err(format!("{:?} is no NAME=value", rest.concat()));
        };
        if equals != "=" {
            return Err(format!("a value with {equals:?} in it must be quoted"));
        }
        pairs.push((name.clone(), value.trim_matches(['"', '\'']).to_owned()));
        rest = match behind {
            [] => behind,
            [comma, behind @ ..] if comma == "," => behind,
            [other, ..] => return Err(format!("{other:?} stands where a comma belongs")),
        };
    }
    Ok(pairs)
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            quote @ ('"' | '\'') => {
                let mut token = String::from(quote);
                loop {
                    let c = chars.next().ok_or("a quote is not closed")?;
                    token.push(c);
                    if c == quote {
                        break;
                    }
                }
                tokens.push(token);
            }
            c if is_word(c) => {
                let mut token = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word(*c) || matches!(c, '"' | '\'')) {
                    token.push(c);
                }
                tokens.push(token);
            }
            c => tokens.push(c.to_string()),
        }
    }
    Ok(tokens)
}

/// Variables that were put in count as words.
fn is_word(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(c, '_' | '/' | '.' | '+' | '-' | '(' | ')' | ':')
        || matches!(c, super::written::OPEN | super::written::CLOSE)
}
