//! No text whatsoever makes the parser panic.

use super::tests::{SAMPLE, parsed};
use super::*;

/// Numbers that look random and are the same at each run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(60)).map(|_| self.below(256) as u8).collect()
    }

    fn pieces(&mut self) -> Vec<u8> {
        const PIECES: &[&str] = &[
            "[nodeManager]",
            "[[server]]",
            "[server.stop]",
            "name",
            "command",
            "stop",
            "env",
            "restart",
            "delay",
            "standbyPort",
            "runDir",
            "=",
            " = ",
            "{",
            "}",
            "[",
            "]",
            ",",
            ".",
            "\n",
            "\"",
            "'",
            "\"\"\"",
            "\"web\"",
            "\"10s\"",
            "\"\\u0000\"",
            "1",
            "-9223372036854775809",
            "0x",
            "1e400",
            "inf",
            "true",
            "1979-05-27",
            "#",
            "ä",
            "\r\n",
            " ",
            "\"18446744073709551615d\"",
        ];
        (0..self.below(24)).flat_map(|_| PIECES[self.below(PIECES.len())].bytes()).collect()
    }

    fn mutated(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let (at, other) = (self.below(bytes.len()), self.below(bytes.len()));
            match self.below(4) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes.swap(at, other),
                2 => drop(bytes.drain(at.min(other)..(at.min(other) + 5).min(at.max(other)))),
                _ => bytes.splice(at..at, self.pieces()).for_each(drop),
            }
        }
        bytes
    }
}

#[test]
fn no_text_makes_the_parser_panic_and_every_refusal_has_a_reason() {
    const SMALL: &str = "[nodeManager]\nstandbyPort = 7\nheartbeatTimeout = \"3s\"\n[[server]]\n\
        name = \"a\"\ncommand = \"x 'y'\"\nstop = { signal = 15 }\n[server.env]\nA = \"b\"\n";
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for case in 0..50_000 {
        let bytes = match case % 16 {
            0..4 => random.bytes(),
            4..9 => random.pieces(),
            9..15 => random.mutated(SMALL),
            _ if case % 64 == 63 => random.mutated(SAMPLE),
            _ => continue,
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.matches('\n').count() as u32 + 1;
        match parsed(&text) {
            Ok(config) => {
                accepted += 1;
                assert!(config.servers.iter().all(|server| !server.command.is_empty()), "{text}");
                assert!(!effective_lines(&config).is_empty());
            }
            Err(errors) => {
                assert!(!errors.0.is_empty(), "{text}");
                assert!(errors.0.iter().all(|error| error.line <= Some(lines)), "{text}: {errors}");
            }
        }
    }
    assert!(accepted > 100, "only {accepted} were accepted, so little was tried");
}
