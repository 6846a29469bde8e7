//! What a process of the pair is handed in two memfds: the bequest, and the configuration.

use nodemanager::config::{self, Config};
use nodemanager::core::Identity;
use nodemanager::shell::bequest::{Bequest, Endpoint, Originals, Twin};
use nodemanager::wire::Secret;
use std::path::Path;

pub const WORDS: &[&str] = &[
    "null",
    "true",
    "\"a\"",
    "\"b\"",
    "-1",
    "18446744073709551616",
    "\"left\":[",
    "{",
    "}",
    "[",
    "]",
    "\"config\":",
    "\"twin\":",
    ",",
];

pub fn run(data: &[u8]) {
    configuration(data);
    let Ok(bequest) = Bequest::from_bytes(data) else { return };
    let bytes = bequest.to_bytes().expect("what was read can be written");
    let again = Bequest::from_bytes(&bytes).expect("what was written can be read");
    assert_eq!(again.to_bytes().expect("as before"), bytes);
    assert_eq!((again.twin, again.originals), (bequest.twin, bequest.originals));
    // No number was bent on the way in.
    // A field that is not known is skipped, and need not be a value that can be held.
    let Ok(told) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let written: serde_json::Value = serde_json::from_slice(&bytes).expect("it was just written");
    for key in ["revives", "originals", "hasReports", "active", "left", "endpoints", "wishes"] {
        if let Some(value) = told.get(key) {
            super::bequest::same_where_told(&written[key], value);
        }
    }
}

fn configuration(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Config>(data) else { return };
    let bytes = serde_json::to_vec(&config).expect("what was read can be written");
    let again: Config = serde_json::from_slice(&bytes).expect("what was written can be read");
    assert_eq!(again, config);
}

/// What is told is written; fields that are not known may be left out.
fn same_where_told(written: &serde_json::Value, told: &serde_json::Value) {
    use serde_json::Value::{Array, Object};
    match (written, told) {
        (Object(written), Object(told)) => {
            for (key, value) in written {
                told.get(key).into_iter().for_each(|told| same_where_told(value, told));
            }
        }
        (Array(written), Array(told)) if written.len() == told.len() => {
            written.iter().zip(told).for_each(|(written, told)| same_where_told(written, told));
        }
        // A structure may be told as the list of its fields.
        (Object(_), Array(_)) => {}
        (written, told) => assert_eq!(written, told),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let text = "[nodeManager]\nstandbyPort = 7\n[[server]]\nname = \"a\"\ncommand = \"x y\"\n";
    let config = config::parse(text, Path::new("/c"), Path::new("/h")).expect("a configuration");
    let process = Identity { pid: 7, start_ticks: 8, inode: 9 };
    let bequest = Bequest {
        twin: Twin::B,
        secret: Secret("s3cret".to_string()),
        revives: false,
        originals: Originals { nofile: (1024, u64::MAX), umask: 0o22, oom_score_adj: Some(-7) },
        has_reports: true,
        active: Some(process),
        left: vec![("a".into(), process)],
        endpoints: vec![Endpoint { server: "a".to_string(), listen: None }],
        wishes: "up a\n".to_string(),
        enabling: Vec::new(),
        names: vec!["a".to_string()],
        gone: vec!["b".to_string()],
        image: Path::new("/usr/bin/nodemanager").to_owned(),
        mail: Vec::new(),
        mail_left_out: 1,
        has_metrics: true,
        has_lifeline: true,
    };
    let whole = bequest.to_bytes().expect("a bequest");
    let config = serde_json::to_vec(&config).expect("a configuration");
    vec![whole[..whole.len() - 9].to_vec(), whole, config]
}
