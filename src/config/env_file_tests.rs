//! The format of systemd's EnvironmentFile, and the errors that it does not have.

use super::*;
use std::path::PathBuf;

fn of(text: &str) -> Vec<(String, String)> {
    parse(text.as_bytes()).expect(text)
}

fn one(text: &str) -> String {
    let all = of(text);
    assert_eq!(all.len(), 1, "{text:?}: {all:?}");
    assert_eq!(all[0].0, "A");
    all[0].1.clone()
}

#[test]
fn comments_blank_lines_and_lines_without_an_equals_sign_are_left_out() {
    let text = "# a=1\n  ; b=2\n\nno sign here\n\tA=1\n B = 2 \nC=\n_d9=x";
    let pairs = [("A", "1"), ("B", "2"), ("C", ""), ("_d9", "x")];
    assert_eq!(of(text), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_plain_value_ends_at_its_last_letter_and_a_backslash_takes_the_next_one_as_it_is() {
    assert_eq!(one("A=  x  y \t"), "x  y");
    assert_eq!(one("A=x=y # z"), "x=y # z");
    assert_eq!(one("A=x\"y\"'z'"), "x\"y\"'z'");
    assert_eq!(one("A=x\\ \\ny\\\\"), "x ny\\");
    assert_eq!(one("A=x\\\n  y"), "x  y");
    assert_eq!(one("A=x\\  "), "x ");
    assert_eq!(one("A=x\\"), "x");
}

#[test]
fn quotes_keep_blanks_and_lines_and_stand_one_beside_the_other() {
    assert_eq!(one("A=' x \\ '"), " x \\ ");
    assert_eq!(one("A=\" x \"\n"), " x ");
    assert_eq!(one("A='x\ny' "), "x\ny");
    assert_eq!(one("A=\"x\" 'y'z"), "xyz");
    assert_eq!(one("A=\"x\\\"\\$\\`\\\\\\n\\\ny\""), "x\"$`\\\\ny");
}

#[test]
fn carriage_returns_at_the_ends_of_lines_are_left_out() {
    assert_eq!(of("A=1\r\nB='2'\r\n"), of("A=1\nB='2'\n"));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("A=1\nexport B=2\n", 2, "without \"export\""),
        ("\n\n1A=1", 3, "\"1A\" is no name"),
        ("=1", 1, "\"\" is no name"),
        ("A='x\ny\nB=2", 1, "the quote ' that is opened here is not closed"),
        ("A='\n'\nB=x\nC=\"x\ny", 4, "the quote \" that is opened here"),
        ("A=x\\\ny\nB C=1", 3, "\"B C\" is no name"),
        ("A=1\nB=\0", 2, "NUL"),
        ("NM_SERVER=x", 1, "by the node manager itself"),
        ("NM_PAIR=x", 1, "by the node manager itself"),
    ];
    for (text, line, cause) in cases {
        let wrong = parse(text.as_bytes()).expect_err(text);
        assert!(wrong.line == line && wrong.text.contains(cause), "{text:?}: {wrong:?}");
    }
    assert_eq!(parse(b"A=1\nB=\xe4").unwrap_err(), super::wrong(2, "not UTF-8"));
}

#[test]
fn only_a_regular_file_of_bounded_size_is_read_and_only_an_optional_one_may_be_missing() {
    let dir = std::env::temp_dir().join(format!("nodemanager-env-file-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let at = |name: &str, may_be_missing| EnvFile { path: dir.join(name), may_be_missing };
    let refused = |file: EnvFile, cause: &str| {
        let error = read(&file).unwrap_err();
        assert!(error.contains(cause) && error.contains(file.path.to_str().unwrap()), "{error}");
    };
    refused(at("absent", false), "No such file");
    assert_eq!(read(&at("absent", true)), Ok(Vec::new()));
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(at("fifo", true), "not a regular file");
    refused(EnvFile { path: PathBuf::from("/dev/zero"), may_be_missing: true }, "not a regular");
    std::fs::write(dir.join("large"), vec![b'#'; (256 << 10) + 1]).unwrap();
    refused(at("large", true), "larger than 256 KiB");
    std::fs::write(dir.join("wrong"), "A=1\nB C=2").unwrap();
    refused(at("wrong", true), "wrong:2: ");
    std::fs::write(dir.join("good"), "A=1").unwrap();
    assert_eq!(read(&at("good", false)).unwrap(), of("A=1"));
    std::fs::remove_dir_all(&dir).unwrap();
}
