//! The program of the next version: the present one, built from a copy of its sources with another version
//! number and one more field in every server's record.
//!
//! Must not touch the program that other tests run.
#![allow(dead_code, reason = "every test program uses its own part of this")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// What the next version is called.
pub const NEXT: &str = "0.999.0";
/// The field that it adds.
pub const FIELD: &str = "addedByTheNextVersion";

/// The program, built once; `None`: it can't be built here, and the reason was printed.
pub fn program() -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(path) => Some(path.clone()),
        Err(text) => {
            println!("skipped: the next version cannot be built here: {text}");
            None
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if Command::new(&cargo).arg("--version").output().is_err() {
        return Err("there is no cargo".to_owned());
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("next-version");
    let copy = root.join("sources");
    let _ = fs::remove_dir_all(&copy);
    for dir in ["src", "benches", "conf", "docs"] {
        copy_dir(&own.join(dir), &copy.join(dir));
    }
    for file in ["Cargo.toml", "Cargo.lock", "README.md"] {
        copy_file(&own.join(file), &copy.join(file));
    }
    let manifest = fs::read_to_string(own.join("Cargo.toml")).expect("Cargo.toml");
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    write(
        &copy.join("Cargo.toml"),
        &replaced(&manifest, &version, &format!("version = \"{NEXT}\"")),
    );
    let record = copy.join("src/core/record.rs");
    let text = fs::read_to_string(&record).expect("record.rs");
    let field =
        "pub struct ServerRecord {\n    #[serde(default)]\n    pub added_by_the_next_version: u8,";
    write(&record, &replaced(&text, "pub struct ServerRecord {", field));
    let server = copy.join("src/core/server.rs");
    let text = fs::read_to_string(&server).expect("server.rs");
    let made =
        "        ServerRecord {\n            added_by_the_next_version: 7,\n            name:";
    write(&server, &replaced(&text, "        ServerRecord {\n            name:", made));
    // What is not registered yet can't be fetched in the middle of a test.
    let built = Command::new(cargo)
        .args(["build", "--offline", "--quiet", "--bin", "nodemanager"])
        .args(["--config", "profile.dev.debug=false", "--config", "profile.dev.incremental=false"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(root.join("target/debug/nodemanager"))
}

fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    text.replace(old, new)
}

/// Changes a file of the copy; its time stays that of the original, or is that of these changes.
fn write(path: &Path, text: &str) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/next_version.rs");
    let time = modified(path).max(modified(&own));
    fs::write(path, text).expect("a file of the copy");
    set_modified(path, time);
}

/// With its time: what has not changed since the last build is not compiled again.
fn copy_file(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy");
    set_modified(to, modified(from));
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|file| file.modified()).expect("the time of a file")
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("a file of the copy");
    file.set_modified(time).expect("the time of a copy");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory of the copy");
    for entry in fs::read_dir(from).expect("the sources").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("its type").is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => copy_file(&entry.path(), &target),
        }
    }
}
