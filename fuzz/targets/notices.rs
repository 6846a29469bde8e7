//! What servers send to $NOTIFY_SOCKET.

use nodemanager::sd_notify::parse;

pub const WORDS: &[&str] = &[
    "READY=1",
    "STATUS=",
    "STOPPING=1",
    "EXTEND_TIMEOUT_USEC=",
    "WATCHDOG=1",
    "WATCHDOG=trigger",
    "WATCHDOG_USEC=",
    "MAINPID=",
    "BARRIER=1",
    "18446744073709551615",
    "-1",
    "=",
    "\n",
    "\u{1b}[31m",
];

pub fn run(data: &[u8]) {
    let notice = parse(data);
    let has = |line: &[u8]| data.split(|byte| *byte == b'\n').any(|found| found == line);
    assert_eq!(notice.told.ready, has(b"READY=1"));
    assert_eq!(notice.told.stopping, has(b"STOPPING=1"));
    assert_eq!(notice.told.watchdog, has(b"WATCHDOG=1"));
    assert_eq!(notice.told.watchdog_trigger, has(b"WATCHDOG=trigger"));
    if let Some(text) = &notice.told.status {
        assert!(!text.contains(char::is_control) && text.chars().count() <= 300);
    }
    assert!(notice.main_pid.is_none_or(|pid| pid > 0));
    assert!(notice.told.watchdog_ms.is_none_or(|ms| ms > 0));
    // Lines that mean nothing change nothing.
    let padded = [b"X_UNKNOWN=1\n".as_slice(), data, b"\nno line"].concat();
    assert_eq!(parse(&padded), notice);
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"READY=1\nSTATUS=serving 12 clients\nMAINPID=4711".to_vec(),
        b"WATCHDOG=1\nWATCHDOG_USEC=30000000".to_vec(),
        b"STOPPING=1\nEXTEND_TIMEOUT_USEC=5000000\nBARRIER=1".to_vec(),
        b"WATCHDOG=trigger".to_vec(),
    ]
}
