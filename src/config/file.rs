//! Where the configuration file is, what its home is, and reading it.
//!
//! The only part of the configuration that looks at the machine: its files and environment. What
//! the text means is decided in `sections`.

mod included;

use super::accounts;
use super::error::{ConfigError, ConfigErrors};
use super::input::{Input, Source, Unset, includes};
use super::units::quoted;
use super::{Config, ControlGroup, Shared, parse_input};
use nix::unistd::Group;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// A configuration is small, all files of it together; what is larger is some other file.
const MAX_FILE_SIZE: u64 = 16 << 20;

const TOO_LARGE: &str =
    "larger than 16 MiB (all files of a configuration together), so it is some other file";

/// The kernel takes a port of this range for any outgoing connection.
const EPHEMERAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The configuration file: `explicit` (`-c`), else `$NODEMANAGER_CONFIG`, else
/// `conf/nodemanager.toml` when it exists, else `/etc/nodemanager/nodemanager.toml`.
pub fn find_file(explicit: Option<&Path>) -> PathBuf {
    let local = Path::new("conf/nodemanager.toml");
    match (explicit, environment("NODEMANAGER_CONFIG")) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) => path.into(),
        (None, None) if local.exists() => local.to_owned(),
        (None, None) => "/etc/nodemanager/nodemanager.toml".into(),
    }
}

/// The directory that relative paths start from, absolute: `$NODEMANAGER_HOME`, else the directory
/// above the file's if that is called `conf`, else the file's own.
pub fn home_of(file: &Path) -> PathBuf {
    match environment("NODEMANAGER_HOME") {
        Some(home) => absolute(Path::new(&home)),
        None => home_by_place(&absolute(file)),
    }
}

/// Reads and checks the configuration in `path`, to be run. All errors come at once.
///
/// # Errors
/// A file can't be read, or something in it is wrong.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_with(path, Unset::Refuse)
}

/// The same for a command to a pair that has read its configuration long ago: a variable that this
/// environment lacks is no error, for it may have been set where the pair was started.
///
/// # Errors
/// As `load`.
pub fn load_for_command(path: &Path) -> Result<Config, ConfigErrors> {
    load_with(path, Unset::Leave)
}

/// Where the run directory of this file's pair is, as far as a file that has errors can tell.
pub fn likely_run_dir(path: &Path) -> PathBuf {
    let text = read(path, MAX_FILE_SIZE).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "runDir").then(|| value.split(['"', '\'']).nth(1)).flatten()
    });
    super::reader::from_home(&home_of(path), named.unwrap_or("run"))
}

fn load_with(path: &Path, unset: Unset) -> Result<Config, ConfigErrors> {
    let input = read_all(path, unset)?;
    let mut config = parse_input(&input)?;
    config.file = absolute(path);
    if config.file.to_str().is_none() {
        let text = "the path of the configuration is not UTF-8: rename it".to_owned();
        return Err(ConfigErrors(vec![ConfigError { file: path.to_owned(), line: None, text }]));
    }
    let file = Shared::from(config.file.clone());
    for server in config.servers.iter_mut().filter(|server| *server.file == path) {
        server.file = file.clone();
    }
    if let Some(group) = &mut config.node.control_group {
        group.gid = Some(gid_of(group, path)?);
    }
    let range = fs::read_to_string(EPHEMERAL_PORTS).unwrap_or_default();
    config.warnings.extend(ephemeral_port_warning(&config, path, &range));
    Ok(config)
}

/// Everything that decides what the configuration in `path` says: the files and the environment.
///
/// # Errors
/// The main file can't be read. What is wrong with an included one comes with the other errors.
pub fn read_all(path: &Path, unset: Unset) -> Result<Input, ConfigErrors> {
    let bytes = read(path, MAX_FILE_SIZE).map_err(|cause| unreadable(path, &cause))?;
    let home = home_of(path);
    let left = MAX_FILE_SIZE.saturating_sub(bytes.len() as u64);
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    let main = Source { file: path.to_owned(), text };
    let included = included::read_included(&main, &home, &includes(&main), left);
    // what is not UTF-8 can't be put into a text: it is as if it were not set
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Input {
        main,
        included: included.sources,
        problems: included.problems,
        home,
        environment: environment.collect(),
        unset,
    })
}

/// The number of the group that may use the control socket.
fn gid_of(group: &ControlGroup, file: &Path) -> Result<u32, ConfigErrors> {
    let problem = match (group.gid, accounts::entry(Group::from_name(&group.name))) {
        (Some(gid), _) => return Ok(gid),
        (None, Ok(Some(found))) => return Ok(found.gid.as_raw()),
        (None, Ok(None)) => "there is no such group; see `getent group`".to_owned(),
        (None, Err(error)) => format!("it can't be looked up: {error}"),
    };
    let text = format!("controlGroup can't be {}: {problem}", quoted(&group.name));
    let error = ConfigError { file: file.to_owned(), line: Some(group.line), text };
    Err(ConfigErrors(vec![error]))
}

/// A variable of the environment that is set to something.
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The path from the root. Symbolic links are kept, because a home such as `/opt/app/current` must
/// stay that name; only with `..` in it they are resolved, where the name alone would mislead.
fn absolute(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let has_parent = full.components().any(|part| part == Component::ParentDir);
    if has_parent { fs::canonicalize(&full).unwrap_or(full) } else { full }
}

fn home_by_place(file: &Path) -> PathBuf {
    let dir = file.parent().unwrap_or(Path::new("/"));
    match dir.parent() {
        Some(above) if dir.file_name().is_some_and(|name| name == "conf") => above.to_owned(),
        _ => dir.to_owned(),
    }
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_regular(path, most, TOO_LARGE)
}

/// Reads a regular file of at most so many bytes. Others are refused: opening a FIFO would wait for
/// its writer.
pub(super) fn read_regular(path: &Path, max_bytes: u64, too_large: &str) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other(too_large));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, cause: &io::Error) -> ConfigErrors {
    let hint = match cause.kind() {
        io::ErrorKind::NotFound => "; name another with -c FILE",
        _ => "",
    };
    let text = format!("cannot read configuration {}: {cause}{hint}", path.display());
    ConfigErrors(vec![ConfigError { file: PathBuf::new(), line: None, text }])
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> ConfigErrors {
    let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
    let line = 1 + valid.filter(|byte| **byte == b'\n').count() as u32;
    let text = "not UTF-8, which a TOML file must be".to_owned();
    ConfigErrors(vec![ConfigError { file: path.to_owned(), line: Some(line), text }])
}

/// Warns of a standbyPort that the kernel may give to anybody's outgoing connection. `range` is the
/// text of ip_local_port_range; what can't be read there warns of nothing.
fn ephemeral_port_warning(config: &Config, file: &Path, range: &str) -> Option<String> {
    let port = config.node.standby_port?;
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u16>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    (first..=last).contains(&port).then(|| {
        format!(
            "{}:{}: standbyPort {port} is one of the ports {first} to {last} that the kernel gives \
             to outgoing connections, so it can be taken at a start; choose one outside of them",
            file.display(),
            config.node.standby_port_line.unwrap_or(1),
        )
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_included;
