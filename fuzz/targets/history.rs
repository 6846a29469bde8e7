//! The history of events: any bytes are records, each of which is a line that reads back.

use nodemanager::events::{Draft, Kind, LINE_MAX, Record, records};

pub const WORDS: &[&str] = &[
    "{\"seq\":",
    "18446744073709551615",
    "-1",
    ",\"time\":\"2026-11-21T19:44:01.123Z\"",
    ",\"kind\":\"takeover\"",
    ",\"server\":null",
    ",\"server\":\"web@2\"",
    ",\"text\":\"",
    ",\"fields\":{",
    "\"pid\":",
    "}}\n",
    "\\n",
    "\\u0000",
    "\n",
    "[[[[[[",
];

pub fn run(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').count();
    let found: Vec<Record> = records(data).collect();
    assert!(found.len() <= lines, "{} records in {lines} lines", found.len());
    for record in &found {
        let line = record.line();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        // A fraction may change in its last digit; no field of ours is one.
        if record.fields.values().any(has_fraction) {
            continue;
        }
        assert!(records(line.as_bytes()).eq([record.clone()]), "{line:?}");
    }
    told(data);
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(values) => values.iter().any(has_fraction),
        serde_json::Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

/// Whatever a server's text is, what is made of it is one bounded line.
fn told(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let draft = Draft::new(Kind::ServerFailed, &*text).of("web").with("reason", &*text);
    let record = Record::new(7, "2026-11-21T19:44:01.123Z".to_owned(), draft);
    let line = record.line();
    assert!(line.len() <= LINE_MAX && line.matches('\n').count() == 1, "{} bytes", line.len());
    assert!(records(line.as_bytes()).eq([record]), "{line:?}");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let line = |seq: u64, kind: Kind| {
        let draft = Draft::new(kind, "it says \"so\"\t").of("web").with("pid", seq);
        Record::new(seq, "2026-11-21T19:44:01.123Z".to_owned(), draft).line()
    };
    let three =
        line(1, Kind::ServerRunning) + &line(2, Kind::ServerEnded) + &line(3, Kind::Takeover);
    let torn = three[..three.len() - 20].to_owned();
    vec![three.into(), torn.into(), b"rubbish\n{}\n".to_vec()]
}
