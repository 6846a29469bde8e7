//! `output` of a `[[server]]`: where its standard output and error go, and what is kept of them.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::ServerConfig;
use super::dependencies::Origin;
use super::reader::Reader;
use super::sections::{LEAST_LOG_SIZE, MAX_FILES};
use crate::core::Name;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What becomes of a server's standard output and error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    pub to: OutputTo,
    pub stderr: Stderr,
    /// Bytes.
    pub max_size: u64,
    pub max_files: u32,
    /// A log whose first byte is older is rotated; 0: none is.
    pub max_age_ms: u64,
    /// Rotated files become gzip files.
    pub compress: bool,
    /// A time stamp in front of each line.
    pub timestamps: bool,
}

/// Where a server's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputTo {
    /// Through a FIFO that the active moves to the log and rotates.
    Pipe,
    /// Straight into the log file.
    Direct,
    /// Straight into a stream of systemd-journald.
    Journal,
    /// Through a FIFO; the active sends each line to syslog.
    Syslog,
    /// Where the node manager's own standard output and error go.
    Inherit,
    Null,
}

/// Where its standard error goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stderr {
    /// Where standard output goes.
    Merge,
    /// A way of its own, of the same kind.
    Separate,
    Null,
}

/// One of the two ways that a server's output can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    pub server: &'a ServerConfig,
    pub is_stderr: bool,
}

impl Stream<'_> {
    /// The name of its FIFO and of its counts; differs from every other one's.
    pub fn key(&self) -> Name {
        let name = &self.server.name;
        if self.is_stderr { format!("{name}.err").into() } else { name.clone() }
    }

    /// Its FIFO, where it has one.
    pub fn fifo_path(&self, run_dir: &Path) -> PathBuf {
        run_dir.join("out").join(format!("{}.fifo", self.key()))
    }

    /// Its log file, where it has one.
    pub fn log_path(&self, log_dir: &Path) -> PathBuf {
        let ending = if self.is_stderr { "err" } else { "out" };
        log_dir.join(format!("{}.{ending}", self.server.name))
    }
}

impl ServerConfig {
    /// The ways that its output takes: one, or two when standard error is separate.
    pub fn streams(&self) -> impl Iterator<Item = Stream<'_>> + Clone {
        let is_separate = self.output.stderr == Stderr::Separate;
        [false, true]
            .into_iter()
            .filter(move |is_stderr| is_separate || !is_stderr)
            .map(|is_stderr| Stream { server: self, is_stderr })
    }

    /// Those that go through a FIFO.
    pub fn piped(&self) -> impl Iterator<Item = Stream<'_>> + Clone {
        let is_piped = matches!(self.output.to, OutputTo::Pipe | OutputTo::Syslog);
        self.streams().filter(move |_| is_piped)
    }

    /// Those that end in a log file.
    pub fn logged(&self) -> impl Iterator<Item = Stream<'_>> + Clone {
        let is_logged = matches!(self.output.to, OutputTo::Pipe | OutputTo::Direct);
        self.streams().filter(move |_| is_logged)
    }
}

const OUTPUT_TO: &[(&str, OutputTo)] = &[
    ("pipe", OutputTo::Pipe),
    ("direct", OutputTo::Direct),
    ("journal", OutputTo::Journal),
    ("syslog", OutputTo::Syslog),
    ("inherit", OutputTo::Inherit),
    ("null", OutputTo::Null),
];

const STDERR: &[(&str, Stderr)] =
    &[("merge", Stderr::Merge), ("separate", Stderr::Separate), ("null", Stderr::Null)];

/// The `output` table.
pub fn output(keys: &Reader<'_>) -> Output {
    let to = keys.choice("to", OUTPUT_TO, OutputTo::Pipe);
    // Who inherits two descriptors has two ways already.
    let stderr = if to == OutputTo::Inherit { Stderr::Separate } else { Stderr::Merge };
    let output = Output {
        to,
        stderr: keys.choice("stderr", STDERR, stderr),
        max_size: keys.size("maxSize", 10 << 20),
        max_files: keys.number("maxFiles", "a number", 1..=MAX_FILES).unwrap_or(7),
        max_age_ms: keys.duration("maxAge", "7d", 0),
        compress: keys.boolean("compress", false),
        timestamps: keys.boolean("timestamps", false),
    };
    keys.at_least("maxSize", output.max_size, LEAST_LOG_SIZE.0, LEAST_LOG_SIZE.1);
    if (1..1_000).contains(&output.max_age_ms) {
        keys.error("maxAge", "must be at least \"1s\", or \"0s\" for none".to_owned());
    }
    if to != OutputTo::Pipe {
        for key in ["maxAge", "compress", "timestamps"] {
            if let Some(line) = keys.line_of(key) {
                let text = format!("output.{key} of {} works with to = \"pipe\" only", keys.title);
                keys.document.warn(Some(line), text);
            }
        }
    }
    output
}

/// A FIFO of a server's standard error can't have the name of another server's.
pub fn refuse_same_fifos(servers: &[ServerConfig], origins: &[Origin<'_>]) {
    let errs = servers.iter().flat_map(ServerConfig::piped).filter(|stream| stream.is_stderr);
    let keys: std::collections::BTreeMap<Name, &str> =
        errs.map(|stream| (stream.key(), stream.server.name.as_str())).collect();
    for (server, origin) in servers.iter().zip(origins) {
        if let Some(other) = keys.get(server.name.as_str()) {
            let text = format!(
                "[[server]] {} has the name that the standard error of {other} has (stderr = \
                 \"separate\"); choose another name",
                server.name
            );
            origin.document.error(Some(server.line), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    fn server(name: &str, output: &str) -> String {
        format!("[[server]]\nname = \"{name}\"\ncommand = \"x\"\noutput = {{ {output} }}\n")
    }

    #[test]
    fn a_stream_of_its_own_has_its_own_fifo_and_log() {
        let config = parsed(&server("web", "stderr = \"separate\"")).unwrap();
        let paths: Vec<_> = config.servers[0]
            .piped()
            .map(|one| (one.fifo_path(Path::new("/r")), one.log_path(Path::new("/l"))))
            .collect();
        let expected = [("/r/out/web.fifo", "/l/web.out"), ("/r/out/web.err.fifo", "/l/web.err")];
        assert_eq!(paths, expected.map(|(fifo, log)| (fifo.into(), log.into())));
        let config = parsed(&server("web", "to = \"syslog\"")).unwrap();
        assert_eq!((config.servers[0].piped().count(), config.servers[0].logged().count()), (1, 0));
    }

    #[test]
    fn what_is_inherited_is_two_ways_unless_they_are_merged() {
        let stderr = |output: &str| parsed(&server("a", output)).unwrap().servers[0].output.stderr;
        assert_eq!(stderr("to = \"inherit\""), Stderr::Separate);
        assert_eq!(stderr("to = \"inherit\", stderr = \"merge\""), Stderr::Merge);
        assert_eq!(stderr("to = \"journal\""), Stderr::Merge);
    }

    #[test]
    fn a_server_with_the_name_of_anothers_standard_error_is_refused() {
        let text = server("web", "stderr = \"separate\"") + &server("web.err", "to = \"pipe\"");
        let errors = parsed(&text).unwrap_err().to_string();
        assert!(errors.contains(":5: ") && errors.contains("choose another name"), "{errors}");
        let text = server("web", "stderr = \"merge\"") + &server("web.err", "to = \"pipe\"");
        parsed(&text).unwrap();
    }

    #[test]
    fn a_key_without_effect_is_warned_of() {
        let warnings = parsed(&server("a", "to = \"direct\", compress = true")).unwrap().warnings;
        assert!(warnings.iter().any(|text| text.contains("output.compress of [[server]] a")));
    }
}
