//! Finding and reading the files of a configuration.

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
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new(test: &str) -> TempDir {
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
