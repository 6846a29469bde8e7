//! `import`: another program's configuration file, written anew.
//!
//! Must not ask the pair, and must not read the program's own configuration: there may be none yet.

use super::args::{Import, Origin};
use super::{Failure, exit, print};
use crate::import::supervisord::{self, Surroundings};
use crate::import::{ini, jeusnm};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// As much of a file as is read.
const FILE_MAX_BYTES: u64 = 4 << 20;
/// As many included files as are read.
const FILES_MAX: usize = 1_000;

/// Reads the file, and prints what it is here or writes it to `-o`.
pub fn import(asked: &Import, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let text = match asked.from {
        Origin::Supervisord => of_supervisord(&asked.file, err),
        Origin::Jeusnm => {
            let name = asked.file.display().to_string();
            read(&asked.file).and_then(|text| jeusnm::import(&text, &name))
        }
    };
    let text = match text {
        Ok(text) => text,
        Err(problem) => return Failure::new(exit::FAILED, problem).print(err),
    };
    let Some(path) = &asked.output else { return print(out, &text, exit::DONE) };
    match write(path, &text, asked.force) {
        Ok(()) => exit::DONE,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let text = format!("{} is there already; --force writes over it", path.display());
            Failure::new(exit::FAILED, text).print(err)
        }
        Err(error) => {
            Failure::new(exit::FAILED, format!("cannot write {}: {error}", path.display()))
                .print(err)
        }
    }
}

/// The result may hold passwords of the original: it is for its owner only.
fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path)?.write_all(text.as_bytes())
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("{} is larger than {} MiB", path.display(), FILE_MAX_BYTES >> 20));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn of_supervisord(path: &Path, err: &mut dyn Write) -> Result<String, String> {
    let mut document = ini::parse(&read(path)?, &path.display().to_string());
    let whole = std::path::absolute(path).map_err(|error| error.to_string())?;
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let around = Surroundings {
        file: path.display().to_string(),
        here: whole.parent().unwrap_or(Path::new("/")).display().to_string(),
        host: host.unwrap_or_else(|_| "localhost".to_owned()),
    };
    let environment = |name: &str| std::env::var(name).ok();
    for (pattern, place) in supervisord::includes(&document, &around, &environment) {
        let pattern = Path::new(&around.here).join(pattern).display().to_string();
        let found = glob::glob(&pattern).map_err(|error| format!("{place}: {pattern}: {error}"))?;
        let mut files: Vec<_> = found.flatten().take(FILES_MAX).collect();
        files.sort();
        if files.is_empty() {
            print(err, &format!("warning: {place}: no file is called {pattern}\n"), exit::DONE);
        }
        for file in files {
            document.add(ini::parse(&read(&file)?, &file.display().to_string()));
        }
    }
    Ok(supervisord::import(&document, &around))
}
