//! `stdout_logfile`, `stderr_logfile` and their sizes as the `output` table of a server.
//!
//! Must not know other keys.

use super::ini::Item;
use super::program::Program;
use super::words;

/// Where a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Log,
    Null,
    Inherited,
    Syslog,
}

/// Writes the table, and what can't be in it.
pub fn write(program: &mut Program<'_>) {
    let (stdout, stderr) = (way(program, "stdout"), way(program, "stderr"));
    let is_merged = matches!(program.boolean("redirect_stderr"), Some((true, _)));
    let mut table = Vec::new();
    let way = stdout.as_ref().map_or(Way::Log, |(way, _)| *way);
    let size = size(program, way);
    let unlimited = size.as_deref() == Some("0");
    let to = match way {
        Way::Log if unlimited => Some("direct"),
        Way::Log => None,
        Way::Null => Some("null"),
        Way::Inherited => Some("inherit"),
        Way::Syslog => Some("syslog"),
    };
    table.extend(to.map(|to| format!("to = \"{to}\"")));
    match (is_merged, &stderr) {
        (true, None) => {
            table.extend((way == Way::Inherited).then(|| "stderr = \"merge\"".to_owned()));
        }
        (true, Some((_, item))) => {
            program.note(item, "redirect_stderr is set, so it has no effect");
        }
        (false, Some((Way::Null, _))) => table.push("stderr = \"null\"".to_owned()),
        (false, other) => {
            table.push("stderr = \"separate\"".to_owned());
            if let Some((stderr, item)) = other
                && *stderr != way
            {
                let text = "standard error goes the same kind of way as standard output here";
                program.note(item, text);
            }
        }
    }
    let files = files(program);
    if to.is_none() {
        table.extend(size.filter(|size| size != "0").map(|size| format!("maxSize = \"{size}\"")));
        table.extend(files.map(|files| format!("maxFiles = {files}")));
    }
    if !table.is_empty() {
        program.lines.push(format!("output = {{ {} }}", table.join(", ")));
    }
    leftover(program);
}

fn way(program: &mut Program<'_>, stream: &str) -> Option<(Way, Item)> {
    if let Some((true, item)) = program.boolean(&format!("{stream}_syslog")) {
        return Some((Way::Syslog, item));
    }
    let item = program.take(&format!("{stream}_logfile"))?;
    let way = match item.value.as_str() {
        "/dev/stdout" | "/dev/stderr" | "/dev/fd/1" | "/dev/fd/2" | "/proc/self/fd/1"
        | "/proc/self/fd/2" | "/proc/1/fd/1" | "/proc/1/fd/2" => Way::Inherited,
        "/dev/null" => Way::Null,
        "syslog" => Way::Syslog,
        path if path.eq_ignore_ascii_case("none") => Way::Null,
        path if path.eq_ignore_ascii_case("auto") => Way::Log,
        _ => {
            let ending = if stream == "stdout" { "out" } else { "err" };
            let text = format!("the log is <logDir>/NAME.{ending} here; see `nodemanager logs`");
            program.note(&item, &text);
            Way::Log
        }
    };
    Some((way, item))
}

/// One size for both streams; `0`: without a limit.
fn size(program: &mut Program<'_>, way: Way) -> Option<String> {
    let mut found: Option<String> = None;
    for key in ["stdout_logfile_maxbytes", "stderr_logfile_maxbytes"] {
        let Some(item) = program.take(key) else { continue };
        match words::size(&item.value) {
            None => program.note(&item, "no size; left out"),
            Some(size) if is_too_small(&size) => {
                program.note(&item, "the least is 1KiB here");
                found.get_or_insert("1KiB".to_owned());
            }
            Some(size) if found.as_ref().is_some_and(|found| *found != size) => {
                program.note(&item, "both streams have the size of the first here");
            }
            Some(size) => {
                if size == "0" && way == Way::Log && key.starts_with("stdout") {
                    let text = "a log without a limit is written by the server itself (direct)";
                    program.note(&item, text);
                }
                found.get_or_insert(size);
            }
        }
    }
    found
}

fn is_too_small(size: &str) -> bool {
    size.parse::<u64>().is_ok_and(|bytes| (1..1024).contains(&bytes))
}

fn files(program: &mut Program<'_>) -> Option<u32> {
    let mut found = None;
    for key in ["stdout_logfile_backups", "stderr_logfile_backups"] {
        let Some((number, item)) = program.number(key) else { continue };
        let kept = number.clamp(1, 1_000);
        if kept != number {
            program.note(&item, "1 to 1000 rotated files are kept here");
        } else if found.is_some_and(|found| found != kept) {
            program.note(&item, "both streams have the number of the first here");
        }
        found.get_or_insert(kept);
    }
    found
}

/// What belongs to events.
fn leftover(program: &mut Program<'_>) {
    for key in ["stdout_capture_maxbytes", "stderr_capture_maxbytes"] {
        if let Some(item) = program.take(key) {
            program.note(&item, "there are no capture modes here");
        }
    }
    for key in ["stdout_events_enabled", "stderr_events_enabled"] {
        if let Some((true, item)) = program.boolean(key) {
            program.note(&item, "there are no log events here; see `nodemanager logs -f --json`");
        }
    }
}
