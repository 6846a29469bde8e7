//! Examples, completions and man pages fit the command line and the documents, and other programs
//! can read them.

use super::support::{binary, both};
use nodemanager::cli::args::{self, Command as Asked, Shell};
use nodemanager::cli::help::{
    EXAMPLES, command, completions, page_of_commands, page_of_configuration,
};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a program says to this input; `None` when it is not installed.
fn fed(program: &str, words: &[&str], input: &[u8]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("skipped: {program} is not installed");
        return None;
    };
    child.stdin.take().expect("its input").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    Some((output.status.success(), both(&output)))
}

#[test]
fn every_command_has_examples_and_each_of_them_can_be_typed() {
    for one in command().get_subcommands().filter(|one| !one.is_hide_set()) {
        let name = one.get_name();
        let known = EXAMPLES.iter().find(|(known, _)| *known == name);
        let (_, lines) = known.unwrap_or_else(|| panic!("no example of {name}"));
        for line in *lines {
            let words = line.split(" | ").next().and_then(|line| line.split(" > ").next());
            let words: Vec<&str> = words.unwrap_or_default().split(' ').collect();
            assert!(words.contains(&name), "{line}");
            args::parse(words).unwrap_or_else(|failure| panic!("{line}: {}", failure.text));
        }
        let help = args::parse(["nodemanager", name, "--help"]).expect_err("help");
        assert!(help.text.contains(lines[0]), "{}", help.text);
    }
}

#[test]
fn words_of_other_supervisors_are_taken_silently() {
    let asked = |line: &str| args::parse(line.split(' ')).expect(line).command;
    let same = [
        ("nodemanager update web", "nodemanager apply web"),
        ("nodemanager reread", "nodemanager diff"),
        ("nodemanager tail -f web", "nodemanager logs -f web"),
        ("nodemanager maintail -n 3", "nodemanager logs --self -n 3"),
        ("nodemanager reset-failed web", "nodemanager reset web"),
    ];
    for (theirs, ours) in same {
        assert_eq!(asked(theirs), asked(ours), "{theirs}");
    }
    assert!(matches!(asked("nodemanager pid web"), Asked::Pid(_)));
    let help = args::parse(["nodemanager", "--help"]).expect_err("help").text;
    for word in ["update", "reread", "tail", "maintail", "pid ", "reset-failed"] {
        assert!(!help.contains(&format!("\n  {word}")), "{word}:\n{help}");
    }
}

#[test]
fn completions_know_every_command_and_shells_can_read_them() {
    for (shell, program) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let script = completions(shell);
        let text = String::from_utf8_lossy(&script).into_owned();
        for (name, _) in EXAMPLES {
            assert!(text.contains(name), "{program}: {name}");
        }
        assert!(!text.contains("compressor") && !text.contains("maintail"), "{program}");
        if let Some((is_read, said)) = fed(program, &["-n"], &script) {
            assert!(is_read, "{program}: {said}");
        }
    }
}

#[test]
fn bash_completes_a_command() {
    let script = format!(
        "source <(\"{}\" completions bash); COMP_WORDS=(nodemanager sta); COMP_CWORD=1; \
         _nodemanager nodemanager sta nodemanager; printf '%s ' \"${{COMPREPLY[@]}}\"",
        binary()
    );
    let Ok(output) = Command::new("bash").args(["-c", &script]).output() else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "status start ", "{}", both(&output));
}

#[test]
fn the_pages_have_every_command_and_every_key_and_can_be_read_without_a_warning() {
    let commands = page_of_commands().expect("a page");
    let text = String::from_utf8_lossy(&commands).into_owned();
    for (name, _) in EXAMPLES {
        assert!(text.contains(&format!(".SS {name}\n")), "{name}");
    }
    let keys = page_of_configuration();
    let text = String::from_utf8_lossy(&keys).into_owned();
    let document = include_str!("../../docs/CONFIGURATION.md");
    for line in document.lines().filter_map(|line| line.strip_prefix("| `")) {
        let key = line.split('`').next().unwrap_or_default();
        assert!(text.contains(&format!(".TP\n\\fB{key}\\fR\n")), "{key}");
    }
    assert!(!text.contains('`'), "a mark of the document is left");
    for page in [commands, keys] {
        let words = ["-man", "-Tutf8", "-ww", "-z"];
        if let Some((is_read, said)) = fed("groff", &words, &page) {
            assert!(is_read && !said.contains("warning"), "{said}");
        }
        if let Some((_, said)) = fed("mandoc", &["-Tlint", "-Werror"], &page) {
            assert!(!said.contains("ERROR"), "{said}");
        }
    }
}

#[test]
fn pages_and_scripts_are_printed_without_a_configuration() {
    for words in
        [&["man"][..], &["man", "nodemanager.toml"], &["man", "5"], &["completions", "zsh"]]
    {
        let mut command = Command::new(binary());
        command.args(words).env("NODEMANAGER_CONFIG", "/nowhere/at/all.toml");
        let output = command.output().expect("the program can be run");
        assert!(output.status.success() && output.stdout.len() > 1_000, "{}", both(&output));
    }
}
