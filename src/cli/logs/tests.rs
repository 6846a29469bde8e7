//! The `logs` command on files that grow, rotate, shrink and vanish.

use super::*;
use crate::output::rotate::rotate;
use crate::output::test_dir::{TestDir, wait_for};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Collects what was written, and goes away like a closed pipe when it has seen `last`.
#[derive(Clone)]
struct Reader {
    seen: Arc<Mutex<Vec<u8>>>,
    last: &'static str,
}

impl Reader {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.seen.lock().unwrap().extend(bytes);
        let over = !self.last.is_empty() && self.text().contains(self.last);
        if over { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(follow: bool, lines: usize, files: &[(&str, &Path)]) -> LogsOptions {
    let files = files.iter().map(|(label, path)| LogFile {
        label: label.to_string(),
        path: path.to_path_buf(),
        of: Origin::Server { name: label.to_string(), is_stderr: false, is_stamped: false },
    });
    LogsOptions { follow, lines: Some(lines), files: files.collect(), ..LogsOptions::default() }
}

fn shown(options: &LogsOptions) -> String {
    let mut out = Vec::new();
    run(options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn follow(
    lines: usize,
    files: &[(&str, &Path)],
    last: &'static str,
) -> (Reader, JoinHandle<io::Result<()>>) {
    let reader = Reader { seen: Arc::default(), last };
    let (mut out, options) = (reader.clone(), options(true, lines, files));
    (reader, std::thread::spawn(move || run(&options, &mut out)))
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn ten_lines_are_shown_when_no_number_is_asked_for() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    (1..=15).for_each(|n| append(&log, &format!("{n}\n")));
    let options = LogsOptions { lines: None, ..options(false, 0, &[("web", &log)]) };
    assert_eq!(shown(&options), "6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n");
}

#[test]
fn the_lines_of_several_servers_are_labelled_and_continue_into_rotated_files() {
    let dir = TestDir::new();
    let (web, db) = (dir.path("web.out"), dir.path("db.out"));
    append(&web, "1\n2\n");
    rotate(&web, 9).unwrap();
    append(&web, "3\nunfinished");
    append(&db, "a\n");
    let options = options(false, 3, &[("web", &web), ("db", &db), ("no", &dir.path("no.out"))]);
    assert_eq!(shown(&options), "[web] 2\n[web] 3\n[web] unfinished\n[db] a\n");
}

#[test]
fn a_single_log_is_shown_byte_for_byte_also_when_its_line_is_longer_than_the_memory_for_it() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let line = "x".repeat(300_000);
    append(&log, &line);
    assert!(shown(&options(false, 1, &[("web", &log)])) == line);
    let labelled = shown(&options(false, 1, &[("web", &log), ("db", &dir.path("db.out"))]));
    assert!(labelled == format!("[web] {line}\n"));
}

#[test]
fn following_loses_no_line_over_many_rotations_between_two_looks() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    append(&log, "0\n");
    let (reader, thread) = follow(10, &[("web", &log)], "\n2000\n");
    wait_for("the first line", || reader.text() == "0\n");
    for n in 1..=2000 {
        append(&log, &format!("{n}\n"));
        if n % 7 == 0 {
            rotate(&log, 1_000).unwrap();
        }
    }
    thread.join().unwrap().unwrap();
    let expected: String = (0..=2000).map(|n| format!("{n}\n")).collect();
    assert_eq!(reader.text(), expected);
}

#[test]
fn following_loses_and_doubles_no_line_while_what_it_reads_is_compressed() {
    use crate::output::gzip::compress_rotated;
    let dir = TestDir::new();
    let log = dir.path("web.out");
    append(&log, "0\n");
    let (reader, thread) = follow(10, &[("web", &log)], "\n600\n");
    wait_for("the first line", || reader.text() == "0\n");
    for n in 1..=600 {
        append(&log, &format!("{n}\n"));
        if n % 7 == 0 {
            rotate(&log, 1_000).unwrap();
        }
        if n % 10 == 0 {
            compress_rotated(&log, 1_000, std::time::Duration::ZERO).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    thread.join().unwrap().unwrap();
    let expected: String = (0..=600).map(|n| format!("{n}\n")).collect();
    assert_eq!(reader.text(), expected);
}

#[test]
fn labels_have_colours_where_that_is_asked_for() {
    let dir = TestDir::new();
    let (web, db) = (dir.path("web.out"), dir.path("db.out"));
    append(&web, "1\n");
    append(&db, "2\n");
    let options =
        LogsOptions { has_colours: true, ..options(false, 3, &[("web", &web), ("db", &db)]) };
    assert_eq!(shown(&options), "\x1b[36m[web]\x1b[0m 1\n\x1b[32m[db]\x1b[0m 2\n");
}

#[test]
fn since_shows_all_of_it_and_a_number_the_last_of_it() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let line = |minute: u32| format!("2026-11-21T19:{minute:02}:00Z line\n");
    append(&log, &(0..30).map(line).collect::<String>());
    let since = Some("2026-11-21T19:10:00Z".parse().unwrap());
    let all = LogsOptions { since, lines: None, ..options(false, 0, &[("web", &log)]) };
    assert_eq!(shown(&all), (10..30).map(line).collect::<String>());
    let last = LogsOptions { lines: Some(2), ..all };
    assert_eq!(shown(&last), (28..30).map(line).collect::<String>());
}

#[test]
fn a_rotation_in_the_middle_of_a_look_loses_no_line() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let mut out = Vec::new();
    let mut printer = Printer {
        out: &mut out,
        labelled: false,
        has_colours: false,
        open_line_of: None,
        json: None,
    };
    let mut follower = Follower::new(0, "web", &log, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=400 {
                append(&log, &format!("{n}\n"));
                rotate(&log, 10_000).unwrap();
            }
        });
        while !writer.is_finished() {
            follower.look(&mut printer).unwrap();
        }
    });
    while follower.look(&mut printer).unwrap() {}
    let expected: String = (1..=400).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn following_waits_for_a_file_that_is_not_there_yet_and_notices_truncation_and_removal() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let (reader, thread) = follow(10, &[("web", &log)], "end\n");
    append(&log, "a long first line\n");
    wait_for("the first line", || reader.text() == "a long first line\n");
    OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    append(&log, "cut\n");
    wait_for("the line after the cut", || reader.text().ends_with("\ncut\n"));
    fs::remove_file(&log).unwrap();
    append(&log, "end\n");
    thread.join().unwrap().unwrap();
    assert_eq!(reader.text(), "a long first line\ncut\nend\n");
}

#[test]
fn the_lines_of_followed_logs_do_not_mix() {
    let dir = TestDir::new();
    let (web, db) = (dir.path("web.out"), dir.path("db.out"));
    append(&web, "old\nhalf a li");
    append(&db, "");
    let (reader, thread) = follow(2, &[("web", &web), ("db", &db)], "[db] end\n");
    wait_for("the first line", || reader.text() == "[web] old\n");
    append(&db, "1\n");
    wait_for("the other log's line", || reader.text().ends_with("[db] 1\n"));
    append(&web, "ne\n");
    wait_for("the whole line", || reader.text().ends_with("[web] half a line\n"));
    append(&db, "end\n");
    thread.join().unwrap().unwrap();
}

#[test]
fn a_reader_that_goes_away_ends_it_without_an_error() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    append(&log, "1\n");
    let mut gone = Reader { seen: Arc::default(), last: "1" };
    run(&options(true, 10, &[("web", &log)]), &mut gone).unwrap();
}

fn json(lines: usize, files: Vec<LogFile>) -> Vec<serde_json::Value> {
    let options = LogsOptions { lines: Some(lines), files, json: true, ..LogsOptions::default() };
    shown(&options).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn server_log(path: &Path, is_stderr: bool, is_stamped: bool) -> LogFile {
    let of = Origin::Server { name: "web".to_owned(), is_stderr, is_stamped };
    LogFile { label: "web".to_owned(), path: path.to_owned(), of }
}

#[test]
fn as_json_a_line_has_its_time_where_the_node_manager_wrote_it_and_says_what_it_is_of() {
    use serde_json::json;
    let dir = TestDir::new();
    let (out, err, own) = (dir.path("web.out"), dir.path("web.err"), dir.path("node.log"));
    let stamp = "2026-11-21T19:44:01.123+01:00";
    append(&out, &format!("{stamp} a \"b\"\n{stamp} \nno stamp\n"));
    append(&err, &format!("{stamp} its own\nno end"));
    append(&own, "[2026.11.21 19:44:01.123 +0000][INFO] [node] [NodeManager-0301] x\n");
    let of = Origin::Pair { node: "node".to_owned(), is_standby: true };
    let own = LogFile { label: "node".to_owned(), path: own, of };
    let files = vec![server_log(&out, false, true), server_log(&err, true, false), own];
    let time = "2026-11-21T18:44:01.123Z";
    let own = "[2026.11.21 19:44:01.123 +0000][INFO] [node] [NodeManager-0301] x";
    let expected = [
        json!({"time": time, "server": "web", "stream": "stdout", "line": "a \"b\""}),
        json!({"time": time, "server": "web", "stream": "stdout", "line": ""}),
        json!({"server": "web", "stream": "stdout", "line": "no stamp"}),
        json!({"server": "web", "stream": "stderr", "line": format!("{stamp} its own")}),
        json!({"time": "2026-11-21T19:44:01.123Z", "node": "node", "stream": "standby", "line": own}),
        json!({"server": "web", "stream": "stderr", "line": "no end", "partial": true}),
    ];
    assert_eq!(json(9, files), expected);
}

#[test]
fn as_json_a_long_line_comes_in_pieces_that_cut_no_character_and_a_rotated_one_as_one() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    append(&log, "cut ");
    rotate(&log, 9).unwrap();
    let long = format!("x{}", "\u{e4}".repeat(100_000));
    append(&log, &format!("in two\n{long}\n"));
    let found = json(9, vec![server_log(&log, false, false)]);
    assert_eq!(found[0]["line"], "cut in two");
    let pieces: Vec<&str> = found[1..].iter().map(|one| one["line"].as_str().unwrap()).collect();
    assert!(pieces.len() > 2 && pieces.concat() == long, "{} pieces", pieces.len());
    let partial = found[1..].iter().filter(|one| one["partial"] == true).count();
    assert_eq!(partial, pieces.len() - 1);
    let bytes = dir.path("bytes.out");
    fs::write(&bytes, b"\xff\x01\n").unwrap();
    assert_eq!(json(1, vec![server_log(&bytes, false, false)])[0]["line"], "\u{fffd}\u{1}");
}
