//! Unit tests of the text of mails. Must not send any.

use super::*;
use crate::events::{Draft, Kind};

fn mail() -> Mail {
    Mail {
        to: vec!["ops@example.org".to_owned(), "b@example.org".to_owned()],
        from: "nm@example.org".to_owned(),
        on: Vec::new(),
        group_ms: 0,
        way: MailWay::Smtp("127.0.0.1:25".to_owned()),
    }
}

fn event(seq: u64, kind: Kind, text: &str) -> Record {
    Record::new(seq, "2026-11-21T19:44:01.123Z".to_owned(), Draft::new(kind, text).of("web"))
}

fn composed(events: &[Record], left_out: u64) -> String {
    let now = "2026-11-21T20:00:00+00:00[UTC]".parse().unwrap();
    compose(&mail(), "nm-1", "box", &now, events, left_out)
}

#[test]
fn a_mail_about_one_event_says_it_in_the_subject() {
    let text = composed(&[event(7, Kind::ServerFailed, "FAILED: exit 3 = bad – .")], 0);
    for line in [
        "To: ops@example.org,\n b@example.org\n",
        "Subject: [nm-1@box] server-failed web\n",
        "Date: Sat, 21 Nov 2026 20:00:00 +0000\n",
        "2026-11-21 19:44:01.123 +0000  server-failed  web\n    FAILED: exit 3 =3D bad =E2=80=93 .\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.is_ascii());
}

#[test]
fn a_storm_is_counted_in_the_subject_and_lines_stay_short() {
    let long = "ü".repeat(300);
    let mut events: Vec<Record> =
        (0..30).map(|seq| event(seq, Kind::ServerFailed, &long)).collect();
    events.push(event(31, Kind::Takeover, "x"));
    let text = composed(&events, 5);
    assert!(text.contains("36 events: 30 server-failed,\n 1 takeover\n"), "{text}");
    assert!(text.contains("... and 5 more\n"));
    assert!(text.lines().all(|line| line.len() <= 78), "{text}");
}
