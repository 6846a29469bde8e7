//! The mark in the environment of a server's processes, and whose it is.
//!
//! It finds a pair's processes again when no record knows them, so that no server is ever started
//! twice. Must not be the proof that a PID still belongs to a process; see `pidfd`.

use std::path::{Path, PathBuf};

/// The variable that marks a server's processes: `<node>/<name>/<start number>`.
pub const SERVER: &str = "NM_SERVER";
/// The variable that tells pairs of one name apart: `<run directory>:<configuration file>`.
pub const PAIR: &str = "NM_PAIR";

/// The pair that a mark names.
///
/// Either place is enough, so that a pair whose `runDir` was changed, or whose file was moved, while
/// its servers live still finds them. Another pair of the same name has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    node: String,
    run_dir: String,
    file: String,
}

impl Owner {
    /// The pair of this configuration `file`. Links in the paths are followed as they are now.
    pub fn new(node: &str, run_dir: &Path, file: &Path) -> Owner {
        let text = |path: &Path| real(path).to_string_lossy().into_owned();
        Owner { node: node.to_owned(), run_dir: text(run_dir), file: text(file) }
    }

    /// The value of `NM_SERVER` for a start of this server.
    pub fn mark(&self, name: &str, start_number: u64) -> String {
        format!("{}/{name}/{start_number}", self.node)
    }

    /// The value of `NM_PAIR`.
    pub fn pair(&self) -> String {
        format!("{}:{}", self.run_dir, self.file)
    }

    /// Server and start number that an environment names, if it is of one of this pair's servers.
    pub fn claims(&self, environ: &[u8]) -> Option<(String, u64)> {
        let mark = mark_in(environ)?;
        let (name, number) =
            mark.strip_prefix(self.node.as_str())?.strip_prefix('/')?.rsplit_once('/')?;
        let is_ours = value_in(environ, PAIR).is_none_or(|pair| self.is_named_by(pair));
        is_ours.then_some((name.to_owned(), number.parse().ok()?))
    }

    fn is_named_by(&self, pair: &[u8]) -> bool {
        let of_run_dir = pair.strip_prefix(self.run_dir.as_bytes());
        let of_file = pair.strip_suffix(self.file.as_bytes());
        of_run_dir.is_some_and(|rest| rest.starts_with(b":"))
            || of_file.is_some_and(|rest| rest.ends_with(b":"))
    }
}

/// The value of `NM_SERVER` in the text of an environment.
pub fn mark_in(environ: &[u8]) -> Option<String> {
    String::from_utf8(value_in(environ, SERVER)?.to_vec()).ok()
}

fn value_in<'a>(environ: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = |entry: &'a [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    environ.split(|byte| *byte == 0).find_map(value)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(run_dir: &str, file: &str) -> Owner {
        Owner::new("n", Path::new(run_dir), Path::new(file))
    }

    #[test]
    fn a_mark_counts_only_when_it_is_whole() {
        let claims =
            |mark: &str| owner("/r", "/f").claims(format!("NM_SERVER={mark}\0").as_bytes());
        assert_eq!(claims("n/web/3"), Some(("web".to_owned(), 3)));
        for mark in ["", "n", "n/", "n/web", "n/web/", "n/web/x", "nn/web/3", "n/web/-1"] {
            assert_eq!(claims(mark), None, "{mark}");
        }
        assert_eq!(mark_in(b"XNM_SERVER=a\0NM_SERVER=b\0NM_SERVER=c"), Some("b".to_owned()));
        assert_eq!(mark_in(b"NM_SERVER=\xff\0"), None);
    }

    #[test]
    fn of_two_pairs_with_one_name_each_claims_its_own_also_after_one_of_its_places_changed() {
        let environ = |owner: &Owner| {
            format!("A=b\0NM_PAIR={}\0NM_SERVER={}\0", owner.pair(), owner.mark("web", 7))
        };
        let claims = |one: &Owner, of: &Owner| one.claims(environ(of).as_bytes()).is_some();
        let first = owner("/a/run", "/a/conf/nm.toml");
        assert!(claims(&first, &first));
        assert!(!claims(&owner("/b/run", "/b/conf/nm.toml"), &first));
        assert!(!claims(&owner("/a/ru", "/nm.toml"), &first), "a part of a path is another path");
        assert!(claims(&owner("/b/run", "/a/conf/nm.toml"), &first), "its runDir was changed");
        assert!(claims(&owner("/a/run", "/b/nm.toml"), &first), "its file was moved");
        assert!(first.claims(b"NM_SERVER=n/web/7").is_some(), "of a version that told no pair");
    }
}
