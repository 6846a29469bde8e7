//! Every reader of bytes from outside, each as a function of bytes that asserts what must hold.
//!
//! Shared by libFuzzer (`fuzz/fuzz_targets/any.rs`) and by `cargo test` (`tests/fuzz/main.rs`). A new
//! reader is a file here, its `mod` line and its line in `TARGETS`, and a `[[bin]]` in `Cargo.toml`.
//! Must not depend on anything but its bytes: no clock, no randomness.

mod answers;
mod bequest;
mod config;
mod disabled;
mod env_file;
mod history;
mod import_jeusnm;
mod import_supervisord;
mod journal;
mod link;
mod log_times;
mod notices;
mod pair_file;
mod pid_file;
mod process;
mod reports;
mod requests;
mod smtp;
mod wishes;

/// One reader.
pub struct Target {
    /// Of its file here, of its corpus and of its libFuzzer binary.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Words of its format, for the mutations of `cargo test`.
    pub words: &'static [&'static str],
    /// Inputs to begin with, made by the real encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "answers", run: answers::run, words: answers::WORDS, seeds: answers::seeds },
    Target { name: "bequest", run: bequest::run, words: bequest::WORDS, seeds: bequest::seeds },
    Target { name: "config", run: config::run, words: config::WORDS, seeds: config::seeds },
    Target { name: "disabled", run: disabled::run, words: disabled::WORDS, seeds: disabled::seeds },
    Target { name: "env_file", run: env_file::run, words: env_file::WORDS, seeds: env_file::seeds },
    Target { name: "history", run: history::run, words: history::WORDS, seeds: history::seeds },
    Target {
        name: "import_jeusnm",
        run: import_jeusnm::run,
        words: import_jeusnm::WORDS,
        seeds: import_jeusnm::seeds,
    },
    Target {
        name: "import_supervisord",
        run: import_supervisord::run,
        words: import_supervisord::WORDS,
        seeds: import_supervisord::seeds,
    },
    Target { name: "journal", run: journal::run, words: journal::WORDS, seeds: journal::seeds },
    Target { name: "link", run: link::run, words: link::WORDS, seeds: link::seeds },
    Target {
        name: "log_times",
        run: log_times::run,
        words: log_times::WORDS,
        seeds: log_times::seeds,
    },
    Target { name: "notices", run: notices::run, words: notices::WORDS, seeds: notices::seeds },
    Target {
        name: "pair_file",
        run: pair_file::run,
        words: pair_file::WORDS,
        seeds: pair_file::seeds,
    },
    Target { name: "pid_file", run: pid_file::run, words: pid_file::WORDS, seeds: pid_file::seeds },
    Target { name: "process", run: process::run, words: process::WORDS, seeds: process::seeds },
    Target { name: "reports", run: reports::run, words: reports::WORDS, seeds: reports::seeds },
    Target { name: "requests", run: requests::run, words: requests::WORDS, seeds: requests::seeds },
    Target { name: "smtp", run: smtp::run, words: smtp::WORDS, seeds: smtp::seeds },
    Target { name: "wishes", run: wishes::run, words: wishes::WORDS, seeds: wishes::seeds },
];

/// The input as numbers and pieces, for targets that build something from it.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// The next two bytes as a number.
    pub fn short(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// The next eight bytes as a number.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The next so many bytes, or what is left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        piece
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value that was read is the same after it was written and read again.
pub fn comes_back<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_vec(value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(&again, value);
}
