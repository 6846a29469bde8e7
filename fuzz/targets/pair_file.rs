//! `run/pair.json`, as the commands read it when nobody answers.

use nodemanager::api::{PairFile, Twin};
use nodemanager::cli::client::parse_pair_file;

pub const WORDS: &[&str] = &[
    "null",
    "\"pid\":",
    "-1",
    "\"ended\"",
    "4294967296",
    "{",
    "}",
    "\"state\":",
    "1e9",
    "\"keeper\":",
];

pub fn run(data: &[u8]) {
    let Some(file) = parse_pair_file(data) else {
        return;
    };
    super::comes_back(&file);
    // What is told is what is believed, to the last digit.
    let Ok(told) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let pid = |twin: &Option<Twin>| twin.as_ref().map(|twin| i64::from(twin.pid));
    let twins = [("active", &file.active), ("standby", &file.standby), ("keeper", &file.keeper)];
    for (key, twin) in twins.into_iter().filter(|(_, twin)| told.is_object() && twin.is_some()) {
        let value = &told[key];
        let believed = if value.is_array() { value[0].as_i64() } else { value["pid"].as_i64() };
        assert_eq!(believed, pid(twin));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let twin = |pid| Some(Twin { pid, start_ticks: 4711, version: "0.1.0".to_string() });
    let file = PairFile {
        schema: 1,
        node: "node".to_string(),
        state: "serving".to_string(),
        active: twin(12),
        standby: None,
        keeper: twin(10),
        waits_for: Some("the lock".to_string()),
        decides_within_ms: Some(u64::MAX),
        written_at: "2026-11-21T19:44:01.123Z".to_string(),
    };
    let whole = serde_json::to_vec(&file).expect("a pair file");
    vec![whole[..whole.len() / 2].to_vec(), whole, b"null".to_vec()]
}
