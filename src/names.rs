//! Which servers the names of a command mean: a server, a program with all its instances, a
//! pattern, a tag, or `all`.
//!
//! Must know nothing of a server but what names it.

use glob::Pattern;
use std::collections::BTreeSet;

/// Means every server; no server can have this name.
pub const ALL: &str = "all";
/// Before a tag: every server that has it.
pub const TAG: &str = "tag:";
/// The longest name or pattern that is looked at, in bytes.
pub const NAME_MAX: usize = 255;
/// The most names of one request: more are better said as a program, a pattern or `all`.
pub const WANTED_MAX: usize = 1024;

/// What names a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// `web@2`.
    pub name: &'a str,
    /// `web`; of a server without instances it is the name.
    pub program: &'a str,
    pub tags: &'a [String],
}

impl<'a> Known<'a> {
    /// A server of which no more is known than its name.
    pub fn by_name(name: &'a str) -> Known<'a> {
        Known { name, program: program(name), tags: &[] }
    }
}

/// `web` of the instance `web@2`.
pub fn program(server: &str) -> &str {
    server.split_once('@').map_or(server, |(program, _)| program)
}

/// The positions in `known` of all servers that `wanted` means, each once, in the order of `known`.
///
/// # Errors
/// The text for the first name that means no server, with the nearest known one.
pub fn select(wanted: &[String], known: &[Known<'_>]) -> Result<Vec<usize>, String> {
    if wanted.len() > WANTED_MAX {
        return Err(format!("more than {WANTED_MAX} names; give a program, a pattern or {ALL}"));
    }
    let mut chosen = BTreeSet::new();
    for name in wanted {
        let found = positions(name, known)?;
        if found.is_empty() && name != ALL {
            return Err(unknown(name, known));
        }
        chosen.extend(found);
    }
    Ok(chosen.into_iter().collect())
}

fn positions(name: &str, known: &[Known<'_>]) -> Result<Vec<usize>, String> {
    if name.len() > NAME_MAX {
        return Err(format!("a server name is longer than {NAME_MAX} bytes"));
    }
    if name == ALL {
        return Ok((0..known.len()).collect());
    }
    if let Some(tag) = name.strip_prefix(TAG) {
        return Ok(matching(known, |server| server.tags.iter().any(|own| own == tag)));
    }
    if !is_pattern(name) {
        return Ok(matching(known, |server| server.name == name || server.program == name));
    }
    let pattern =
        Pattern::new(name).map_err(|error| format!("bad server pattern {name}: {error}"))?;
    Ok(matching(known, |server| pattern.matches(server.name)))
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

fn matching(known: &[Known<'_>], is_meant: impl Fn(&Known<'_>) -> bool) -> Vec<usize> {
    known.iter().enumerate().filter(|(_, server)| is_meant(server)).map(|(at, _)| at).collect()
}

fn unknown(name: &str, known: &[Known<'_>]) -> String {
    let hint = hint(name, known);
    let hint = if hint.is_empty() { "; see `nodemanager status`" } else { &hint };
    match name.strip_prefix(TAG) {
        Some(tag) => format!("no server has the tag {tag}{hint}"),
        None if is_pattern(name) => format!("no server matches {name}{hint}"),
        None => format!("unknown server {name}{hint}"),
    }
}

/// What an unknown name was probably meant to be: `; did you mean web?`, or nothing.
pub fn hint(name: &str, known: &[Known<'_>]) -> String {
    let far = (name.len() / 3).max(1);
    let nearest = |candidates: &mut dyn Iterator<Item = &str>, name: &str| {
        candidates
            .filter(|candidate| candidate.len().abs_diff(name.len()) <= far)
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
            .filter(|(distance, _)| *distance <= far)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, candidate)| candidate.to_owned())
    };
    match name.strip_prefix(TAG) {
        _ if is_pattern(name) || name.len() > NAME_MAX => None,
        Some(tag) => nearest(&mut known.iter().flat_map(|one| one.tags).map(String::as_str), tag)
            .map(|tag| format!("{TAG}{tag}")),
        None => nearest(&mut known.iter().flat_map(|one| [one.name, one.program]), name),
    }
    .map_or(String::new(), |nearest| format!("; did you mean {nearest}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["redis", "web@1", "web@2", "web-admin", "mailer"];

    fn chosen(wanted: &[&str]) -> Result<Vec<&'static str>, String> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let shop = ["shop".to_owned()];
        let known = KNOWN.map(|name| match name.starts_with("web@") || name == "mailer" {
            true => Known { tags: &shop, ..Known::by_name(name) },
            false => Known::by_name(name),
        });
        Ok(select(&wanted, &known)?.into_iter().map(|at| KNOWN[at]).collect())
    }

    #[test]
    fn a_tag_means_all_servers_that_have_it() {
        assert_eq!(chosen(&["tag:shop"]).unwrap(), ["web@1", "web@2", "mailer"]);
        let error = chosen(&["tag:shp"]).unwrap_err();
        assert_eq!(error, "no server has the tag shp; did you mean tag:shop?");
        let error = chosen(&["tag:other"]).unwrap_err();
        assert_eq!(error, "no server has the tag other; see `nodemanager status`");
    }

    #[test]
    fn a_name_means_itself_and_a_program_means_all_its_instances() {
        assert_eq!(chosen(&["web@2"]).unwrap(), ["web@2"]);
        assert_eq!(chosen(&["web"]).unwrap(), ["web@1", "web@2"]);
    }

    #[test]
    fn names_come_once_and_in_the_order_of_the_configuration() {
        assert_eq!(chosen(&["mailer", "web", "web@1"]).unwrap(), ["web@1", "web@2", "mailer"]);
    }

    #[test]
    fn patterns_and_all_are_understood() {
        assert_eq!(chosen(&["web*"]).unwrap(), ["web@1", "web@2", "web-admin"]);
        assert_eq!(chosen(&["web@[2-9]", "?edis"]).unwrap(), ["redis", "web@2"]);
        assert_eq!(chosen(&["all"]).unwrap(), KNOWN);
        assert_eq!(select(&["all".to_owned()], &[]), Ok(vec![]));
        assert_eq!(chosen(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn an_unknown_name_is_told_with_the_nearest_known_one() {
        let error = chosen(&["redis", "mailr"]).unwrap_err();
        assert_eq!(error, "unknown server mailr; did you mean mailer?");
        let error = chosen(&["wbe"]).unwrap_err();
        assert_eq!(error, "unknown server wbe; did you mean web?");
        let error = chosen(&["zzz"]).unwrap_err();
        assert_eq!(error, "unknown server zzz; see `nodemanager status`");
        let error = chosen(&["x*"]).unwrap_err();
        assert_eq!(error, "no server matches x*; see `nodemanager status`");
    }

    #[test]
    fn a_bad_or_endless_pattern_and_too_many_names_are_errors() {
        assert!(chosen(&["web[1"]).unwrap_err().starts_with("bad server pattern web[1: "));
        assert!(chosen(&["redis"; WANTED_MAX + 1]).unwrap_err().starts_with("more than 1024"));
        assert!(chosen(&["a*".repeat(200).as_str()]).unwrap_err().contains("longer than 255"));
    }

    #[test]
    fn a_pattern_with_many_stars_ends_soon() {
        let name = "a".repeat(NAME_MAX);
        let pattern = format!("{}b", "a*".repeat(120));
        assert!(select(&[pattern], &[Known::by_name(&name)]).is_err());
    }
}
