//! Reading the files that a configuration includes.

use super::super::*;
use super::tests::TempDir;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A home with these files below it; its configuration includes `list`.
fn home(test: &str, list: &str, files: &[&str]) -> TempDir {
    let dir = TempDir::new(test);
    fs::create_dir_all(dir.0.join("conf")).unwrap();
    fs::create_dir_all(dir.0.join("conf.d")).unwrap();
    let main = format!("[nodeManager]\nstandbyPort = 1\ninclude = {list}\n");
    fs::write(dir.0.join("conf/nm.toml"), main).unwrap();
    for file in files {
        fs::write(dir.0.join(file), server_of(file)).unwrap();
    }
    dir
}

/// A server that is called as its file.
fn server_of(file: &str) -> String {
    let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
    format!("[[server]]\nname = {:?}\ncommand = \"x\"\n", name.trim_start_matches('.'))
}

fn names(dir: &TempDir) -> Vec<String> {
    let config = load(&dir.0.join("conf/nm.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    config.servers.into_iter().map(|server| server.name.into()).collect()
}

/// The one error; it is about the third line of the main file.
fn refused(dir: &TempDir) -> String {
    let errors = load(&dir.0.join("conf/nm.toml")).unwrap_err().0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].line, Some(3), "{errors:?}");
    assert_eq!(errors[0].file, dir.0.join("conf/nm.toml"));
    errors[0].text.clone()
}

#[test]
fn a_pattern_brings_its_files_in_the_order_of_their_names_and_each_once() {
    let files = ["conf.d/b.toml", "conf.d/a.toml", "last.toml", "conf.d/.hidden.toml", "conf.d/c"];
    let list = "[\"conf.d/*.toml\", \"last.toml\", \"conf.d/a.toml\", \"none/*.toml\"]";
    let dir = home("order", list, &files);
    symlink("gone", dir.0.join("conf.d/.#lock.toml")).unwrap();
    symlink("a.toml", dir.0.join("conf.d/same.toml")).unwrap();
    assert_eq!(names(&dir), ["a", "b", "last"]);
}

#[test]
fn the_file_itself_is_not_included_again_and_an_absolute_path_is_taken() {
    let dir = home("itself", "[]", &["other.toml"]);
    let list = format!("[\"conf/*.toml\", {:?}]", dir.0.join("other.toml"));
    let main = format!("[nodeManager]\nstandbyPort = 1\ninclude = {list}\n");
    fs::write(dir.0.join("conf/nm.toml"), main).unwrap();
    assert_eq!(names(&dir), ["other"]);
}

#[test]
fn a_named_file_that_is_missing_is_an_error_and_a_pattern_without_files_is_none() {
    let dir = home("missing", "[\"conf.d/*.toml\", \"gone.toml\"]", &[]);
    let text = refused(&dir);
    let wanted = format!("cannot read {}, which is included: ", dir.0.join("gone.toml").display());
    assert!(text.starts_with(&wanted) && text.contains("No such file"), "{text}");
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting_for_it() {
    let dir = home("fifo", "[\"conf.d/*.toml\"]", &[]);
    let fifo = dir.0.join("conf.d/f.toml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused(&dir).contains("f.toml, which is included: not a regular file"));
    fs::remove_file(&fifo).unwrap();
    fs::create_dir(&fifo).unwrap();
    assert!(refused(&dir).contains("not a regular file"));
}

#[test]
fn all_files_together_have_a_limit_in_size_and_in_number() {
    let dir = home("limits", "[\"conf.d/*.toml\"]", &[]);
    for file in ["a.toml", "b.toml"] {
        fs::write(dir.0.join("conf.d").join(file), "#\n".repeat(6 << 20)).unwrap();
    }
    let text = refused(&dir);
    assert!(text.contains("conf.d/b.toml, which is included: larger than 16 MiB"), "{text}");
    for number in 0..1_001 {
        fs::write(dir.0.join(format!("conf.d/a{number}.toml")), "").unwrap();
    }
    fs::write(dir.0.join("conf.d/a.toml"), "").unwrap();
    assert!(refused(&dir).contains("more than 1000 files"));
}

#[test]
fn an_included_file_that_is_not_utf8_is_refused_with_its_line() {
    let dir = home("latin", "[\"conf.d/*.toml\"]", &[]);
    fs::write(dir.0.join("conf.d/a.toml"), b"# 1\n# \xe4\n").unwrap();
    assert!(refused(&dir).contains("a.toml, which is included: line 2 is not UTF-8"));
}

#[test]
fn a_home_with_the_characters_of_a_pattern_is_taken_as_it_is() {
    let dir = home("stars[a]*?", "[\"conf.d/*.toml\"]", &["conf.d/a.toml"]);
    assert_eq!(names(&dir), ["a"]);
}

#[test]
fn variables_come_from_the_environment_and_a_group_from_its_name() {
    let dir = home("environment", "[]", &[]);
    let path = dir.0.join("conf/nm.toml");
    let with = |node: &str, server: &str| {
        let text =
            format!("[nodeManager]\n{node}\n[[server]]\nname = \"a\"\ncommand = \"{server}\"\n");
        fs::write(&path, text).unwrap();
    };
    with("controlGroup = \"root\"\ncontrolMode = \"0660\"", "x ${PATH}");
    let config = load(&path).unwrap();
    assert_eq!(config.servers[0].command[1], std::env::var("PATH").unwrap());
    assert_eq!(config.servers[0].file, config.file);
    assert_eq!(config.node.control_group.unwrap().gid, Some(0));
    with("", "x ${NM_TEST_NO_SUCH_VARIABLE}");
    assert!(
        load(&path).unwrap_err().to_string().contains("${NM_TEST_NO_SUCH_VARIABLE} is not set")
    );
    assert!(load_for_command(&path).is_ok());
    with("controlGroup = \"no-such-group\"", "x");
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("nm.toml:2: controlGroup can't be \"no-such-group\": there is no"));
}
