//! Which servers the names of a command mean: a server, a program with all its instances, a
//! pattern, or `all`.
//!
//! Must know nothing of a server but its name.

use glob::Pattern;
use std::collections::BTreeSet;

/// Means every server; no server can have this name.
pub const ALL: &str = "all";
/// The longest name or pattern that is looked at, in bytes.
pub const NAME_MAX: usize = 255;
/// The most names of one request: more are better said as a program, a pattern or `all`.
pub const WANTED_MAX: usize = 1024;

/// The positions in `known` of all servers that `wanted` means, each once, in the order of `known`.
///
/// # Errors
/// The text for the first name that means no server, with the nearest known one.
pub fn select(wanted: &[String], known: &[&str]) -> Result<Vec<usize>, String> {
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

fn positions(name: &str, known: &[&str]) -> Result<Vec<usize>, String> {
    if name.len() > NAME_MAX {
        return Err(format!("a server name is longer than {NAME_MAX} bytes"));
    }
    if name == ALL {
        return Ok((0..known.len()).collect());
    }
    if !name.contains(['*', '?', '[']) {
        return Ok(matching(known, |server| server == name || program(server) == Some(name)));
    }
    let pattern =
        Pattern::new(name).map_err(|error| format!("bad server pattern {name}: {error}"))?;
    Ok(matching(known, |server| pattern.matches(server)))
}

fn matching(known: &[&str], is_meant: impl Fn(&str) -> bool) -> Vec<usize> {
    known.iter().enumerate().filter(|(_, name)| is_meant(name)).map(|(at, _)| at).collect()
}

/// `web` of the instance `web@2`.
fn program(server: &str) -> Option<&str> {
    server.split_once('@').map(|(program, _)| program)
}

fn unknown(name: &str, known: &[&str]) -> String {
    if name.contains(['*', '?', '[']) {
        return format!("no server matches {name}; see `nodemanager status`");
    }
    let names = known.iter().flat_map(|server| [Some(*server), program(server)]).flatten();
    let far = (name.len() / 3).max(1);
    let nearest = names
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= far)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, nearest)) => format!("unknown server {name}; did you mean {nearest}?"),
        None => format!("unknown server {name}; see `nodemanager status`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["redis", "web@1", "web@2", "web-admin", "mailer"];

    fn chosen(wanted: &[&str]) -> Result<Vec<&'static str>, String> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        Ok(select(&wanted, &KNOWN)?.into_iter().map(|at| KNOWN[at]).collect())
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
        assert!(select(&[pattern], &[&name]).is_err());
    }
}
