//! A machine with a clean Debian, and the packages that are installed on it.
//!
//! Must make the root and the packages once and leave them for the next run.

use crate::machine::Machine;
use crate::next_version;
use crate::support::{binary, both, has_tool, wait_for, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

pub const UNIT: &str = "nodemanager.service";
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// Two real servers, of which one needs the other.
pub const SERVERS: &str = "[[server]]\nname = \"db\"\ncommand = [\"/bin/sleep\", \"100000\"]\n\
    [[server]]\nname = \"web\"\ncommand = [\"/bin/sh\", \"-c\", \"id -un; exec sleep 100000\"]\ndependsOn = [\"db\"]\n";

/// A booted machine with a clean Debian; what is installed there is put into /srv first.
pub struct Debian(pub Machine);

impl Debian {
    pub fn boot() -> Option<Debian> {
        let mut machine = Machine::over(root()?)?;
        machine.boot();
        Some(Debian(machine))
    }

    /// A booted machine with the package and two servers.
    pub fn with_servers() -> Option<(Debian, BTreeMap<String, i64>)> {
        let package = package()?;
        let debian = Debian::boot()?;
        debian.install(&package);
        debian.0.write("/etc/nodemanager/conf.d/two.toml", SERVERS);
        debian.0.ok(&["systemctl", "reload", UNIT]);
        let servers = debian.servers();
        assert_eq!(servers.keys().collect::<Vec<_>>(), ["db", "web"]);
        Some((debian, servers))
    }

    /// Installs or upgrades; gives what was printed.
    pub fn install(&self, package: &Path) -> String {
        let output = self.dpkg(package);
        assert!(output.status.success(), "{}", both(&output));
        both(&output)
    }

    pub fn dpkg(&self, package: &Path) -> Output {
        let name = package.file_name().expect("a file").to_string_lossy();
        let path = format!("/srv/{name}");
        self.0.copy(package, &path);
        self.0.run(&["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", &path])
    }

    /// The status of a whole pair whose keeper is the main process of the unit.
    pub fn whole(&self) -> Value {
        wait_for("an active unit with a whole pair", || {
            let status = self.0.status();
            let keeper = status["keeper"]["pid"].as_i64()?.to_string();
            let is_active = self.0.property(UNIT, "ActiveState") == "active";
            let is_main = self.0.property(UNIT, "MainPID") == keeper;
            (status["pair"] == "ok" && is_active && is_main).then_some(status)
        })
    }

    /// The PIDs of the servers by name.
    pub fn servers(&self) -> BTreeMap<String, i64> {
        let status = self.0.status();
        let all = status["servers"].as_array().cloned().unwrap_or_default();
        let pid = |one: &Value| Some((one["name"].as_str()?.to_string(), one["pid"].as_i64()?));
        all.iter().filter_map(pid).collect()
    }

    /// The versions of active and standby.
    pub fn versions(&self) -> (String, String) {
        let status = self.whole();
        let of = |role: &str| status[role]["version"].as_str().unwrap_or("none").to_owned();
        (of("active"), of("standby"))
    }

    /// Does that path exist over there, also as a link to nothing?
    pub fn has(&self, path: &str) -> bool {
        self.0.run(&["sh", "-c", "test -e \"$0\" || test -L \"$0\"", path]).status.success()
    }

    pub fn is_alive(&self, pid: i64) -> bool {
        self.has(&format!("/proc/{pid}"))
    }

    /// The last of them may not be reaped yet.
    pub fn wait_for_no_process(&self) {
        wait_until("no process to be left", || self.processes().is_empty());
    }

    /// The command lines of all processes that have to do with the node manager.
    pub fn processes(&self) -> String {
        let script = "for one in /proc/[0-9]*; do \
                      case $(cat $one/comm 2>/dev/null) in nm-*|nodemanager|sleep) echo $one; tr '\\0' ' ' <$one/cmdline; echo;; esac; done";
        self.0.ok(&["sh", "-c", script])
    }
}

/// The directory with a clean Debian, made once; `None`: it can't be had, as was printed.
pub fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if !crate::machine::is_root() || !has_tool("debootstrap") {
        return None;
    }
    told(ROOT.get_or_init(make_root))
}

fn make_root() -> Result<PathBuf, String> {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| system.lines().find_map(|line| line.strip_prefix(key));
    if value("ID=") != Some("debian") {
        return Err("this is not Debian, whose libraries the package was built with".to_string());
    }
    // The package runs with the libraries that it was built with, or later ones.
    let own = value("VERSION_CODENAME=").unwrap_or("stable").to_string();
    let suite = std::env::var("NM_TEST_SUITE").unwrap_or(own);
    let name = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("debian-{suite}"));
    if name.exists() {
        return Ok(name);
    }
    let part = name.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    let made = Command::new("debootstrap")
        .args(["--variant=minbase", "--include=systemd,systemd-sysv"])
        .arg(&suite)
        .arg(&part)
        .output()
        .map_err(|error| error.to_string())?;
    if !made.status.success() {
        let text = both(&made);
        let last = text.lines().last().unwrap_or_default();
        return Err(format!("debootstrap cannot make a root of {suite}: {last}"));
    }
    let _ = fs::remove_dir_all(part.join("var/cache/apt/archives"));
    fs::rename(&part, &name).map_err(|error| error.to_string())?;
    Ok(name)
}

/// The package of this version, where there is a machine for it.
pub fn package() -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    root()?;
    told(BUILT.get_or_init(|| build(Path::new(binary()), OWN))).map(Path::to_owned)
}

/// The package of the next version, which has a program of its own.
pub fn next_package() -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    package()?;
    let program = next_version::program()?;
    told(BUILT.get_or_init(|| build(&program, next_version::NEXT))).map(Path::to_owned)
}

/// The reason why something can't be had is printed.
fn told(made: &Result<PathBuf, String>) -> Option<&Path> {
    match made {
        Ok(path) => Some(path),
        Err(text) => {
            println!("skipped: {text}");
            None
        }
    }
}

fn build(program: &Path, version: &str) -> Result<PathBuf, String> {
    let has_it = Command::new("cargo").args(["deb", "--version"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        return Err("needs cargo-deb (cargo install cargo-deb --locked)".to_string());
    }
    let stripped = directory("programs").join(version);
    fs::copy(program, &stripped).expect("a copy of the program");
    // A program for debugging is mostly symbols; without strip the package is only larger.
    let _ = Command::new("strip").arg("--strip-all").arg(&stripped).output();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build-deb");
    let mut command = Command::new(script);
    command.arg("--binary").arg(&stripped).args(["--version", &format!("{version}-1")]);
    command.arg("--output").arg(directory("packages")).args(["--", "--fast"]);
    let built = command.env("CARGO_NET_OFFLINE", "true").output().expect("build-deb runs");
    assert!(built.status.success(), "{}", both(&built));
    let path = String::from_utf8_lossy(&built.stdout).trim().to_string();
    assert!(Path::new(&path).exists(), "build-deb says where the package is: {}", both(&built));
    Ok(PathBuf::from(path))
}

fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("a directory for packages");
    path
}

/// The package once more with another version, its files changed by `change`.
pub fn repackaged(package: &Path, version: &str, change: impl FnOnce(&Path)) -> PathBuf {
    // dpkg-deb is not to see a package that another test is making.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = directory("repackaged");
    let tree = dir.join(version);
    let _ = fs::remove_dir_all(&tree);
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&tree));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("the control file");
    let new = text.lines().map(|line| match line.starts_with("Version: ") {
        true => format!("Version: {version}\n"),
        false => format!("{line}\n"),
    });
    fs::write(&control, new.collect::<String>()).expect("the control file");
    change(&tree);
    let made = dir.join(format!("nodemanager_{version}.deb"));
    run(Command::new("dpkg-deb").args(["-Znone", "--build"]).arg(&tree).arg(&made));
    let _ = fs::remove_dir_all(&tree);
    made
}

/// Replaces a program or script in such a tree.
pub fn put_script(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path);
    let _ = fs::remove_file(&path);
    fs::write(&path, text).expect("a script of the package");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn run(command: &mut Command) {
    let output = command.output().expect("dpkg-deb runs");
    assert!(output.status.success(), "{}", both(&output));
}
