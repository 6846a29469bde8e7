//! The link: frames to messages, what a connection is believed, and what the core is told.

use nodemanager::core::{Entry, Identity, NodeRecord, Phase, Record, ServerRecord, Wanted};
use nodemanager::shell::peer::{Worth, judge};
use nodemanager::shell::requests::message_event;
use nodemanager::wire::{
    Decoder, FrameError, MAX_FRAME, MAX_HELLO, MAX_PUSH, Message, PROTOCOL, Secret, encode,
};

pub const WORDS: &[&str] = &[
    "{\"kind\":\"beat\",\"counter\":1}",
    "{\"kind\":\"watching\"}",
    "\"kind\":",
    "\"hello\"",
    "\"entry\"",
    "s3cret",
    "\n",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "null",
    "\0\0\0\u{1}",
    "\0\u{10}\0\0",
    "\0\0\u{10}\u{1}",
    "\0\0\0\0",
    "{",
    "}",
    "\"pid\":",
    "\"seq\":",
];

const SECRET: &str = "s3cret";

/// All that a decoder says to these bytes, pushed in pieces of so many.
fn decoded(bytes: &[u8], limit: usize, piece: usize) -> (Vec<Message>, Option<FrameError>) {
    let mut decoder = Decoder::new(limit);
    let mut messages = Vec::new();
    for part in bytes.chunks(piece) {
        let pushed = decoder.push(part);
        assert!(pushed.is_ok(), "{piece} bytes were not taken: {pushed:?}");
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(
                        decoder.next(),
                        Err(error.clone()),
                        "after an error only that error"
                    );
                    assert_eq!(decoder.push(b"x"), Err(error.clone()));
                    return (messages, Some(error));
                }
            }
        }
    }
    (messages, None)
}

pub fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let limit = if mode & 2 == 0 { MAX_HELLO } else { MAX_FRAME };
    // Half of the inputs are lines that get true heads, so that the payloads are looked at.
    let bytes = if mode & 1 == 0 { rest.to_vec() } else { framed(rest) };
    let whole = decoded(&bytes, limit, MAX_PUSH);
    let told =
        |(messages, error): (Vec<Message>, Option<FrameError>)| (messages, error.map(without_text));
    let expected = told(expected(&bytes, limit));
    assert_eq!(told(whole.clone()), expected, "the frames are not those of docs/LINK.md");
    for piece in [1, 2 + usize::from(mode >> 2)] {
        assert_eq!(decoded(&bytes, limit, piece), whole, "in pieces of {piece}");
    }
    let mut out = Vec::new();
    for message in &whole.0 {
        let start = out.len();
        encode(message, &mut out).expect("what came can be sent");
        assert_eq!(decoded(&out[start..], MAX_FRAME, MAX_PUSH), (vec![message.clone()], None));
    }
    if mode & 1 == 1 && limit == MAX_FRAME {
        is_canonical(rest, &whole.0);
    }
    assert_eq!(decoded(&out, MAX_FRAME, 5).0, whole.0);
    is_believed(whole.0);
}

/// Of two errors in one payload either may be told.
fn without_text(error: FrameError) -> FrameError {
    match error {
        FrameError::Message(_) => FrameError::Message(String::new()),
        other => other,
    }
}

fn framed(lines: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        bytes.extend_from_slice(&(line.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(line).to_be_bytes());
        bytes.extend_from_slice(line);
    }
    bytes
}

/// The frames once more, read in the plainest way.
fn expected(mut bytes: &[u8], limit: usize) -> (Vec<Message>, Option<FrameError>) {
    let mut messages = Vec::new();
    while bytes.len() >= 8 {
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let len = word(0) as usize;
        if len > limit {
            return (messages, Some(FrameError::TooLong { bytes: len, limit }));
        }
        if bytes.len() < 8 + len {
            break;
        }
        let payload = &bytes[8..8 + len];
        if crc32fast::hash(payload) != word(4) {
            return (messages, Some(FrameError::Checksum));
        }
        match serde_json::from_slice(payload) {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, Some(FrameError::Message(error.to_string()))),
        }
        bytes = &bytes[8 + len..];
    }
    (messages, None)
}

/// A payload as this program writes it is sent on byte for byte.
fn is_canonical(lines: &[u8], messages: &[Message]) {
    for (line, message) in lines.split(|byte| *byte == b'\n').zip(messages) {
        let written = serde_json::to_vec(message).expect("a message");
        if written == line {
            let mut out = Vec::new();
            encode(message, &mut out).expect("a message");
            assert_eq!(out, framed(line));
        }
    }
}

/// Nothing counts before a hello with the secret.
fn is_believed(messages: Vec<Message>) {
    let secret = Secret(SECRET.to_string());
    let mut is_proved = false;
    for message in messages {
        let proves = matches!(&message, Message::Hello { protocol, secret, .. }
            if *protocol == PROTOCOL && secret.0 == SECRET);
        match judge(message.clone(), is_proved, &secret) {
            Ok(Worth::Proof { .. }) => {
                assert!(proves && !is_proved);
                is_proved = true;
            }
            Ok(Worth::Welcome) => assert!(is_proved && matches!(message, Message::Welcome { .. })),
            Ok(Worth::Said(said)) => {
                assert!(is_proved && *said == message);
                let both = [true, false].map(|is_active| message_event((*said).clone(), is_active));
                let is_beat = matches!(*said, Message::Beat { .. });
                assert!(is_beat || both.iter().flatten().count() < 2, "said to both: {said:?}");
            }
            Err(reason) => {
                let is_refusal = matches!(&message, Message::Refused { .. });
                assert!(!proves && (!is_proved || is_refusal), "{reason}");
                assert!(!reason.contains(SECRET) || is_refusal, "the secret is told");
                return;
            }
        }
        // Without a secret of one's own nothing is ever proved.
        let none = Secret(String::new());
        assert!(!matches!(judge(message, false, &none), Ok(Worth::Proof { .. })));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let process = Identity { pid: 7, start_ticks: 8, inode: 9 };
    let mut server = ServerRecord::new("web", Wanted::Up);
    server.phase = Phase::Up { process };
    let hello = Message::Hello {
        protocol: PROTOCOL,
        version: "1".to_string(),
        pid: 5,
        start_ticks: 6,
        secret: Secret(SECRET.to_string()),
    };
    let talk = [
        hello,
        Message::Beat { counter: u64::MAX },
        Message::Entry(Entry { seq: 9, record: Record::Server(server.into()) }),
        Message::Entry(Entry { seq: 9, record: Record::Node(NodeRecord::default().into()) }),
        Message::SnapshotEnd { seq: 9, servers: 1 },
        Message::Ack { seq: 9 },
        Message::Watching,
        Message::Stop,
        Message::Refused { reason: "no".to_string() },
    ];
    let mut frames = vec![2];
    talk.iter().for_each(|message| encode(message, &mut frames).expect("a message"));
    let lines: Vec<String> =
        talk.iter().map(|message| serde_json::to_string(message).expect("a message")).collect();
    let lines = [b"\x03", lines.join("\n").as_bytes()].concat();
    let mut damaged = frames[..60].to_vec();
    damaged.push(0xff);
    vec![frames, lines, damaged, b"\x01{\"kind\":\"later\",\"x\":1}\n{}".to_vec()]
}
