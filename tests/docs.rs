//! The documents and the code say the same: log codes, configuration keys, commands, exit statuses, file
//! names, tests; and the documents are a book without dead links.
//!
//! Must start nothing; it reads the sources, and writes a page's configuration where it can be checked. `NM_RENEW=1` writes docs/COMMANDS.md anew.

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/links.rs"]
mod links;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Codes that the log itself writes: a library's line, and lost lines.
const CODES_OF_THE_LOG: [&str; 2] = ["0000", "0010"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of every Rust file below a directory.
fn sources(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).expect("a directory of the sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &fs::read_to_string(&path).expect("a source file");
        }
    }
    text
}

/// What follows `before` up to `end`, wherever it occurs.
fn all_between<'a>(text: &'a str, before: &str, end: char) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

/// Words in backquotes.
fn quoted(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with("```"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_log_code_is_listed_and_every_listed_code_is_used() {
    let code = sources(&root().join("src"));
    let used: BTreeSet<&str> =
        all_between(&code, "target: \"", '"').into_iter().chain(CODES_OF_THE_LOG).collect();
    let table = read("docs/LOG_CODES.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.get(..4));
    let listed: BTreeSet<&str> =
        rows.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit())).collect();
    assert_eq!(listed, used);
}

#[test]
fn every_kind_of_event_is_described_and_no_other() {
    let code = read("src/events/kind.rs");
    let kinds = all_between(&code, " = \"", '"');
    let document = read("docs/EVENTS.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let described: BTreeSet<&str> =
        rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap_or_default())).collect();
    assert_eq!(described, kinds);
}

#[test]
fn every_configuration_key_is_described_and_no_other() {
    let code = read("src/config/sections.rs");
    let document = read("docs/CONFIGURATION.md");
    let described = quoted(&document);
    let example = read("conf/nodemanager.toml");
    let lists: Vec<&str> = code.split("_KEYS: &[&str] =").skip(1).collect();
    assert!(lists.len() >= 5, "the lists of keys are not where they were");
    for keys in lists.iter().filter_map(|rest| rest.split(';').next()) {
        for key in keys.split('"') {
            let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric());
            // The names of the tables themselves are headings.
            if is_key && !["nodeManager", "server", "hook", "mail", "metrics"].contains(&key) {
                assert!(described.contains(key), "docs/CONFIGURATION.md does not describe {key}");
                assert!(example.contains(key), "conf/nodemanager.toml does not show {key}");
            }
        }
    }
    for row in document.lines().filter_map(|line| line.strip_prefix("| `")) {
        let key = row.split('`').next().unwrap_or_default();
        assert!(code.contains(&format!("\"{key}\"")), "there is no key {key}");
    }
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut named = 0;
    for document in [
        "README.md",
        "docs/RELIABILITY.md",
        "docs/CONFIGURATION.md",
        "docs/LINK.md",
        "docs/KERNELS.md",
        "docs/PAINS.md",
        "docs/FUZZING.md",
        "docs/INIT.md",
        "docs/UPGRADE.md",
        "docs/IMPORT.md",
        "docs/EVENTS.md",
        "docs/METRICS.md",
        "docs/WATCH.md",
        "docs/HTTP.md",
        "docs/pair.md",
        "docs/EXIT_CODES.md",
        "docs/PACKAGES.md",
    ] {
        let text = read(document);
        let links = all_between(&text, "](", ')');
        let is_ours = |path: &&str| {
            ["src/", "tests/", "docs/", "fuzz/", "conf/", "bin/", ".ci/", "packaging/"]
                .iter()
                .any(|dir| path.starts_with(dir))
        };
        for path in quoted(&text).into_iter().chain(links).filter(is_ours) {
            let path = path.split_whitespace().next().unwrap_or_default();
            assert!(root().join(path).exists(), "{document} names {path}, which does not exist");
            named += 1;
        }
    }
    assert!(named > 40, "the documents name only {named} files");
}

#[test]
fn every_test_that_a_document_names_exists() {
    let code = sources(&root().join("tests")) + &sources(&root().join("src"));
    let is_test = |word: &&str| {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.matches('_').count() > 3 && word.chars().all(is_name)
    };
    for (document, least) in [("RELIABILITY.md", 20), ("PAINS.md", 60), ("KERNELS.md", 12)] {
        let text = read(&format!("docs/{document}"));
        let tests: Vec<&str> = quoted(&text).into_iter().filter(is_test).collect();
        assert!(tests.len() >= least, "{document} names only {} tests", tests.len());
        for test in tests {
            assert!(code.contains(&format!("fn {test}()")), "{document}: there is no test {test}");
        }
    }
}

#[test]
fn every_pain_has_its_test_or_says_with_what_it_comes() {
    let text = read("docs/PAINS.md");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("the failure"))
        .collect();
    assert_eq!(rows.len(), 25 + 8);
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        assert!(tests.contains('`') || row.contains("comes with"), "no test, no promise: {row}");
    }
}

/// What Linux lacks has a name in the code; the table has it too.
#[test]
fn every_feature_that_is_probed_is_in_the_table_of_kernels() {
    let code = read("src/sys/kernel.rs");
    let table = read("docs/KERNELS.md");
    let versions = all_between(&code, "=> (\"", ')');
    assert!(versions.len() >= 10, "the features are not where they were");
    for feature in versions {
        let version = feature.rsplit('"').nth(1).unwrap_or_default();
        let name = feature.split([' ', '(', '"']).next().unwrap_or_default();
        let is_row =
            |row: &&str| row.starts_with("| ") && row.contains(name) && row.contains(version);
        assert!(table.lines().any(|row| is_row(&row)), "docs/KERNELS.md lacks {name} ({version})");
    }
}

#[test]
fn the_page_of_the_commands_is_what_the_command_line_says() {
    let page = commands::page();
    if std::env::var_os("NM_RENEW").is_some() {
        fs::write(root().join("docs/COMMANDS.md"), &page).expect("docs/COMMANDS.md can be written");
    }
    let differs = read("docs/COMMANDS.md") != page;
    assert!(
        !differs,
        "docs/COMMANDS.md is not what the command line says; NM_RENEW=1 cargo test --test docs renews it"
    );
}

/// The numbers in the first cells of a table.
fn first_cells(text: &str) -> BTreeSet<u8> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    cells.filter_map(|cell| cell.parse().ok()).collect()
}

#[test]
fn every_exit_status_is_in_each_list_of_them_and_no_other() {
    let source = read("src/exit.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    let numbers =
        lines.filter_map(|line| line.rsplit(' ').next()?.trim_end_matches(';').parse().ok());
    let known: BTreeSet<u8> = numbers.collect();
    assert!(known.len() >= 10, "the exit statuses are not where they were");
    for document in ["README.md", "docs/EXIT_CODES.md"] {
        assert_eq!(first_cells(&read(document)), known, "{document}");
    }
    let page = read("src/cli/help.rs");
    let page = page.split("## EXIT STATUS").nth(1).and_then(|rest| rest.split("##").next());
    let items = page.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("* "));
    let items = items.filter_map(|item| item.split(':').next()?.parse().ok());
    assert_eq!(items.collect::<BTreeSet<u8>>(), known, "the man page");
    let http = read("docs/openapi.json");
    let file: serde_json::Value = serde_json::from_str(&http).expect("docs/openapi.json");
    let schemas = &file["components"]["schemas"];
    let listed = schemas["Error"]["properties"]["exit"]["enum"].as_array().cloned();
    let listed: BTreeSet<u8> =
        listed.into_iter().flatten().filter_map(|n| n.as_u64()?.try_into().ok()).collect();
    assert_eq!(listed, known, "docs/openapi.json");
}

/// What people copy must work: every whole configuration in the manual.
#[test]
fn every_configuration_in_a_page_is_right() {
    let dir = std::env::temp_dir().join(format!("nm-docs-{}", std::process::id()));
    fs::create_dir_all(dir.join("conf")).expect("a directory for configurations");
    let file = dir.join("conf/nodemanager.toml");
    let (mut checked, mut wrong) = (0, Vec::new());
    for (name, text) in links::documents(&root()) {
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if !(block.contains("[nodeManager]") && name.starts_with("docs")) {
                continue;
            }
            checked += 1;
            fs::write(&file, block).expect("a configuration");
            if let Err(errors) = nodemanager::config::load(&file) {
                wrong.push(format!("{}: {errors}", name.display()));
            }
        }
    }
    fs::remove_dir_all(&dir).expect("the directory can be removed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 15, "only {checked} configurations were found");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = links::documents(&root());
    let mut checked = 0;
    let mut dead = Vec::new();
    for (name, text) in &documents {
        let dir = name.parent().unwrap_or(Path::new(""));
        for link in links::links(text).iter().filter(|link| !link.contains("://")) {
            checked += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { name.clone() } else { links::plain(&dir.join(path)) };
            let has_anchor = anchor.is_empty()
                || documents.get(&target).is_some_and(|text| links::anchors(text).contains(anchor));
            if !root().join(&target).exists() || !has_anchor {
                dead.push(format!("{}: {link}", name.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n  {}", dead.join("\n  "));
    assert!(checked > 100, "only {checked} links were found");
}

#[test]
fn every_document_is_in_the_table_of_contents_once() {
    let documents = links::documents(&root());
    let listed = links::links(&read("docs/SUMMARY.md"));
    let of_book = documents.keys().filter_map(|name| name.strip_prefix("docs").ok());
    let wanted: Vec<&Path> = of_book.filter(|name| *name != Path::new("SUMMARY.md")).collect();
    for name in &wanted {
        let times = listed.iter().filter(|link| Path::new(link) == *name).count();
        assert_eq!(times, 1, "docs/SUMMARY.md has {} so many times", name.display());
    }
    assert_eq!(listed.len(), wanted.len(), "docs/SUMMARY.md lists what is not in docs");
}

/// Pages are read by people elsewhere: what a command printed must not show where it was run.
#[test]
fn no_document_names_the_directory_of_these_sources_or_the_home_of_root() {
    let own = root().display().to_string();
    for (name, text) in links::documents(&root()) {
        for path in [own.as_str(), "/root/", "target/debug"] {
            assert!(!text.contains(path), "{} names {path}", name.display());
        }
    }
}

#[test]
fn links_and_headings_are_read_as_they_are_meant() {
    let text = "# A `b` c: d\n[x](one.md#two) and `[y](no)` [z](#a-b-c-d)\n```\n# [q](no)\n```\n    [p](no)\n";
    assert_eq!(links::links(text), ["one.md#two", "#a-b-c-d"]);
    assert_eq!(links::anchors(text).into_iter().collect::<Vec<_>>(), ["a-b-c-d"]);
    assert_eq!(links::plain(Path::new("docs/howto/../x.md")), Path::new("docs/x.md"));
}
