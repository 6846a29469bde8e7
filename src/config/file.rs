//! Where the configuration file is, what its home is, and reading it.
//!
//! The only part of the configuration that looks at the machine: its files and environment. What
//! the text means is decided in `sections`.

use super::error::{ConfigError, ConfigErrors};
use super::{Config, parse};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// A configuration is small; what is larger is some other file.
const MAX_FILE_SIZE: u64 = 16 << 20;

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

/// Reads and checks the configuration in `path`. All errors come at once.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let bytes = read(path).map_err(|cause| unreadable(path, &cause))?;
    let mut config = parse_bytes(bytes, path, &home_of(path))?;
    config.file = absolute(path);
    if config.file.to_str().is_none() {
        let text = "the path of the configuration is not UTF-8: rename it".to_owned();
        return Err(ConfigErrors(vec![ConfigError { file: path.to_owned(), line: None, text }]));
    }
    let range = fs::read_to_string(EPHEMERAL_PORTS).unwrap_or_default();
    config.warnings.extend(ephemeral_port_warning(&config, path, &range));
    Ok(config)
}

/// Checks the bytes of a configuration, as `parse` does a text.
///
/// # Errors
/// They are no UTF-8, or no configuration: all errors at once.
pub fn parse_bytes(bytes: Vec<u8>, file: &Path, home: &Path) -> Result<Config, ConfigErrors> {
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))?;
    parse(&text, file, home)
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

fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_regular(path, MAX_FILE_SIZE, "larger than 16 MiB, so it is some other file")
}

/// Reads a regular file. Others are refused: opening a FIFO would wait for its writer.
pub(super) fn read_regular(path: &Path, max_bytes: u64, too_large: &str) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
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
mod tests {
    use super::super::tests::{FILE, SAMPLE, parsed};
    use super::*;

    #[test]
    fn a_file_that_was_named_is_the_one() {
        let path = Path::new("some/other.toml");
        assert_eq!(find_file(Some(path)), path);
    }

    #[test]
    fn the_home_is_above_conf_or_the_directory_of_the_file() {
        let home = |file: &str| home_by_place(Path::new(file)).display().to_string();
        assert_eq!(home("/srv/nm/conf/nodemanager.toml"), "/srv/nm");
        assert_eq!(home("/etc/nodemanager/nodemanager.toml"), "/etc/nodemanager");
        assert_eq!(home("/conf/nodemanager.toml"), "/");
        assert_eq!(home("/nodemanager.toml"), "/");
    }

    #[test]
    fn a_port_that_the_kernel_gives_away_is_warned_of() {
        let warning = |port: u16| {
            let config = parsed(&format!("[nodeManager]\nstandbyPort = {port}")).unwrap();
            ephemeral_port_warning(&config, Path::new(FILE), "32768\t60999\n")
        };
        assert_eq!(warning(32_767), None);
        assert_eq!(warning(61_000), None);
        let text = warning(32_768).unwrap();
        assert!(text.starts_with("conf/nodemanager.toml:2: standbyPort 32768"), "{text}");
        let config = parsed(SAMPLE).unwrap();
        assert_eq!(ephemeral_port_warning(&config, Path::new(FILE), "no numbers"), None);
    }

    /// A directory of its own for one test, removed at its end.
    struct TempDir(PathBuf);

    impl TempDir {
        fn new(test: &str) -> TempDir {
            let name = format!("nodemanager-config-{test}-{}", std::process::id());
            let dir = TempDir(std::env::temp_dir().join(name));
            std::fs::create_dir_all(&dir.0).unwrap();
            dir
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_loaded_configuration_has_absolute_paths() {
        let dir = TempDir::new("load");
        let conf = dir.0.join("conf");
        std::fs::create_dir(&conf).unwrap();
        std::fs::write(conf.join("nm.toml"), SAMPLE).unwrap();
        let config = load(&conf.join("../conf/nm.toml")).unwrap();
        assert_eq!(config.file, conf.canonicalize().unwrap().join("nm.toml"));
        assert!(config.node.run_dir.is_absolute());
        assert!(!config.node.run_dir.to_str().unwrap().contains(".."));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_with_path_and_cause() {
        let dir = TempDir::new("unreadable");
        let refused = |path: &Path, cause: &str| {
            let text = load(path).unwrap_err().to_string();
            let wanted = format!("cannot read configuration {}: ", path.display());
            assert!(text.starts_with(&wanted) && text.contains(cause), "{text}");
        };
        refused(&dir.0.join("absent.toml"), "No such file");
        refused(&dir.0, "not a regular file");
        let fifo = dir.0.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(&fifo, "not a regular file");
        let large = dir.0.join("large.toml");
        std::fs::File::create(&large).unwrap().set_len((16 << 20) + 1).unwrap();
        refused(&large, "larger than 16 MiB");
        let latin = dir.0.join("latin.toml");
        std::fs::write(&latin, b"# 1\n# \xe4\n").unwrap();
        assert_eq!(load(&latin).unwrap_err().0[0].line, Some(2));
    }
}
