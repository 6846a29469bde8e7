//! A daemon's PID file: any bytes are a number that a process can have, or none.

use nodemanager::sys::pid_file::parse;

pub const WORDS: &[&str] = &[
    "0",
    "1",
    "412",
    "4194304",
    "2147483647",
    "2147483648",
    "4294967297",
    "-1",
    "+",
    "x",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\x0b",
    "\u{a0}",
    "\u{663}",
    "                                                            ",
];

pub fn run(data: &[u8]) {
    assert_eq!(parse(data), plain(data).map(|pid| pid as i32));
    if let Some(pid) = parse(data) {
        assert!(pid > 1, "nobody may be signalled by this number");
        assert_eq!(parse(format!("{pid}\n").as_bytes()), Some(pid), "written and read");
    }
}

/// Byte by byte: blanks, digits, and a blank or the end. What comes then must be text.
fn plain(data: &[u8]) -> Option<u64> {
    if data.len() > 64 || String::from_utf8_lossy(data).as_bytes() != data {
        return None;
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
    let mut number: Option<u64> = None;
    for byte in data.iter().skip_while(|byte| is_blank(byte)) {
        match byte {
            b'0'..=b'9' => {
                let digit = u64::from(byte - b'0');
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            }
            blank if is_blank(blank) => break,
            _ => return None,
        }
    }
    number.filter(|number| (2..=0x7fff_ffff).contains(number))
}

pub fn seeds() -> Vec<Vec<u8>> {
    ["412\n", " \t4194304 redis\r\n", "2147483648", "-1\n", ""].map(Into::into).to_vec()
}
