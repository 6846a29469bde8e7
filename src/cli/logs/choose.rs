//! Which log files the names of a command mean.
//!
//! Must not open them.

use super::{LogFile, Origin};
use crate::config::{Config, LogTarget, OutputTo, ServerConfig};
use crate::names::{self, Known};
use std::path::PathBuf;

/// Logs, and servers that have none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub files: Vec<LogFile>,
    /// A sentence for each server whose output is elsewhere.
    pub elsewhere: Vec<String>,
}

/// The logs of the servers that `names` means; of standard output or error only, where that is said.
///
/// # Errors
/// A name that no server has.
pub fn of_servers(
    config: &Config,
    names: &[String],
    is_stderr: Option<bool>,
) -> Result<Chosen, String> {
    let known: Vec<Known<'_>> = config.servers.iter().map(ServerConfig::known).collect();
    let mut chosen = Chosen::default();
    for at in names::select(names, &known)? {
        let Some(server) = config.servers.get(at) else { continue };
        let before = chosen.files.len();
        let wanted = |is: bool| is_stderr.is_none_or(|wanted| wanted == is);
        let streams = server.logged().filter(|stream| wanted(stream.is_stderr));
        let log_dir = &config.node.log_dir;
        chosen.files.extend(streams.map(|stream| LogFile {
            label: stream.key().into(),
            path: stream.log_path(log_dir),
            of: Origin::Server {
                name: server.name.to_string(),
                is_stderr: stream.is_stderr,
                is_stamped: server.output.timestamps,
            },
        }));
        if chosen.files.len() == before {
            chosen.elsewhere.push(where_else(server));
        }
    }
    Ok(chosen)
}

/// The log of the active, or of the standby, which is at `path` if it is a file.
pub fn of_the_pair(config: &Config, is_standby: bool, path: PathBuf) -> Chosen {
    let name = config.node.name.clone();
    let mut chosen = Chosen::default();
    match config.node.log_target {
        LogTarget::File => {
            let of = Origin::Pair { node: name.clone(), is_standby };
            chosen.files.push(LogFile { label: name, path, of });
        }
        LogTarget::Stderr => chosen.elsewhere.push(format!("{name}: its log goes to stderr")),
        LogTarget::Journal => chosen
            .elsewhere
            .push(format!("{name}: its log goes to the journal; see `journalctl -t {name}`")),
    }
    chosen
}

fn where_else(server: &ServerConfig) -> String {
    let name = &server.name;
    match server.output.to {
        OutputTo::Pipe | OutputTo::Direct => {
            format!("{name}: its standard error has no log of its own (output.stderr)")
        }
        OutputTo::Journal => {
            format!("{name}: its output goes to the journal; see `journalctl -t {name}`")
        }
        OutputTo::Syslog => format!("{name}: its output goes to syslog, as {name}"),
        OutputTo::Inherit => {
            format!("{name}: its output goes where the node manager's own goes (output.to)")
        }
        OutputTo::Null => format!("{name}: its output goes nowhere (output.to = \"null\")"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    #[test]
    fn names_and_patterns_mean_logs_or_say_where_the_output_is() {
        let server = |name: &str, output: &str| {
            format!("[[server]]\nname = \"{name}\"\ncommand = \"x\"\noutput = {{ {output} }}\n")
        };
        let text = server("web", "stderr = \"separate\"")
            + &server("work", "to = \"direct\"")
            + &server("jrn", "to = \"journal\"");
        let config = parse(&text, Path::new("nm.toml"), Path::new("/h")).unwrap();
        let of = |name: &str, is_stderr| {
            let chosen = of_servers(&config, &[name.to_owned()], is_stderr).unwrap();
            let labels: Vec<String> = chosen.files.into_iter().map(|file| file.label).collect();
            (labels.join(" "), chosen.elsewhere.len())
        };
        assert_eq!(of("all", None), ("web web.err work".to_owned(), 1));
        assert_eq!(of("w*", Some(true)), ("web.err".to_owned(), 1));
        assert_eq!(of("w*", Some(false)), ("web work".to_owned(), 0));
        let chosen = of_servers(&config, &["jrn".to_owned()], None).unwrap();
        assert!(chosen.elsewhere[0].contains("journalctl -t jrn"), "{chosen:?}");
        of_servers(&config, &["none".to_owned()], None).unwrap_err();
    }
}
