//! The frames of the link.

use super::*;
use crate::core::{Identity, NodeRecord, Phase, Record};

/// Numbers that look random and are the same in every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn all_kinds() -> Vec<Message> {
    let version = "1.2.3".to_string();
    let secret = Secret("s3cr3t".into());
    vec![
        Message::Hello { protocol: 1, version: version.clone(), pid: 5, start_ticks: 6, secret },
        Message::Welcome { protocol: 1, version, pid: 7, start_ticks: u64::MAX },
        Message::Refused { reason: "\"wrong\" secret \u{fc}".into() },
        Message::Beat { counter: u64::MAX },
        Message::Entry(Entry { seq: 9, record: Record::Node(NodeRecord::default().into()) }),
        Message::SnapshotEnd { seq: 9, servers: 3 },
        Message::Ack { seq: 9 },
        Message::Watching,
        Message::Stop,
        Message::Stopping,
    ]
}

#[test]
fn a_record_as_it_is_in_the_journal_makes_the_frame_of_its_message() {
    let entry = Entry { seq: 9, record: Record::Node(NodeRecord::default().into()) };
    let (mut whole, mut quick) = (Vec::new(), Vec::new());
    encode_entry(&serde_json::to_vec(&entry).unwrap(), &mut quick).unwrap();
    encode(&Message::Entry(entry), &mut whole).unwrap();
    assert_eq!(quick, whole);
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        encode(message, &mut bytes).unwrap();
    }
    bytes
}

fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Message>, FrameError> {
    let mut decoder = Decoder::new(MAX_FRAME);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece)?;
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

#[test]
fn every_message_arrives_as_it_was_sent_in_pieces_of_any_size() {
    let bytes = encoded(&all_kinds());
    for piece in 1..bytes.len() + 1 {
        assert_eq!(decode(&bytes, piece).unwrap(), all_kinds(), "pieces of {piece}");
    }
}

#[test]
fn a_server_record_of_any_depth_arrives_whole() {
    let identity = Identity { pid: 1, start_ticks: u64::MAX, inode: u64::MAX - 1 };
    let phase = Phase::Verifying {
        was: Box::new(Phase::Up { process: identity }),
        until: crate::core::Ms(u64::MAX),
    };
    let text = serde_json::json!({
        "name": "web", "wanted": "up", "phase": phase, "startNumber": 3, "adopted": true,
        "restarts": 2, "failures": [1, 2], "failuresInRow": 1, "marks": []
    });
    let record = Record::Server(serde_json::from_value(text).unwrap());
    let message = Message::Entry(Entry { seq: u64::MAX, record });
    assert_eq!(decode(&encoded(std::slice::from_ref(&message)), 1000).unwrap(), vec![message]);
}

#[test]
fn the_bytes_on_the_link_are_the_documented_ones() {
    let bytes = encoded(&[Message::SnapshotEnd { seq: 12, servers: 3 }]);
    assert_eq!(&bytes[..4], [0, 0, 0, 43]);
    assert_eq!(&bytes[8..], br#"{"kind":"snapshotEnd","seq":12,"servers":3}"#);
}

#[test]
fn what_a_newer_twin_adds_is_ignored() {
    let kind = br#"{"kind":"handover","sockets":[1,2],"deep":{"a":null}}"#;
    let field = br#"{"kind":"ack","seq":4,"since":"noon"}"#;
    let mut bytes = frame(kind);
    bytes.extend_from_slice(&frame(field));
    assert_eq!(decode(&bytes, 7).unwrap(), vec![Message::Unknown, Message::Ack { seq: 4 }]);
}

#[test]
fn before_the_secret_is_proven_only_short_frames_are_taken() {
    let mut decoder = Decoder::new(MAX_HELLO);
    decoder.push(&(MAX_HELLO as u32 + 1).to_be_bytes()).unwrap();
    assert_eq!(decoder.next(), Ok(None));
    decoder.push(&[0; 4]).unwrap();
    let error = FrameError::TooLong { bytes: MAX_HELLO + 1, limit: MAX_HELLO };
    assert_eq!(decoder.next(), Err(error.clone()));
    assert_eq!(decoder.next(), Err(error.clone()));
    assert_eq!(decoder.push(&[1]), Err(error));

    let long = Message::Refused { reason: "r".repeat(MAX_HELLO) };
    let bytes = encoded(std::slice::from_ref(&long));
    let mut decoder = Decoder::new(MAX_HELLO);
    decoder.set_limit(MAX_FRAME);
    decoder.push(&bytes).unwrap();
    assert_eq!(decoder.next(), Ok(Some(long)));
}

#[test]
fn a_message_that_is_too_long_is_not_encoded() {
    let mut bytes = vec![1];
    let message = Message::Refused { reason: "r".repeat(MAX_FRAME) };
    assert!(matches!(encode(&message, &mut bytes), Err(FrameError::TooLong { .. })));
    assert_eq!(bytes, [1]);
}

#[test]
fn pushing_without_taking_ends_in_an_error_and_not_in_memory() {
    let mut decoder = Decoder::new(MAX_FRAME);
    let beats = encoded(&vec![Message::Beat { counter: 1 }; 1000]);
    let refused = (0..100).find_map(|_| decoder.push(&beats).err());
    assert_eq!(refused, Some(FrameError::Overflow));
}

#[test]
fn a_flipped_bit_anywhere_gives_no_wrong_message() {
    let bytes = encoded(&all_kinds());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            if let Ok(messages) = decode(&changed, 4096) {
                assert!(messages.len() < all_kinds().len());
                assert!(all_kinds().starts_with(&messages));
            }
        }
    }
}

#[test]
fn payloads_that_are_no_message_are_errors() {
    let deep = "[".repeat(100_000);
    for payload in ["", "{", "null", "[]", r#"{"seq":1}"#, r#"{"kind":"ack"}"#, deep.as_str()] {
        let error = decode(&frame(payload.as_bytes()), MAX_PUSH).unwrap_err();
        assert!(matches!(error, FrameError::Message(_)), "{payload:.20}");
    }
}

#[test]
fn random_and_mutated_input_never_panics_and_never_fills_memory() {
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    let good = encoded(&all_kinds());
    for round in 0..100_000 {
        let mut bytes = match round % 3 {
            0 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
            1 => good.clone(),
            _ => {
                let mut payload = br#"{"kind":"welcome","protocol":1,"pid":2}"#.to_vec();
                let at = random.below(payload.len());
                payload[at] = random.next() as u8;
                frame(&payload)
            }
        };
        for _ in 0..random.below(3) {
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        let mut decoder = Decoder::new(MAX_HELLO);
        for piece in bytes.chunks(1 + random.below(200)) {
            if decoder.push(piece).is_err() {
                break;
            }
            while let Ok(Some(_)) = decoder.next() {}
            assert!(decoder.buffer.capacity() <= 2 * (FRAME_HEAD + MAX_HELLO + MAX_PUSH));
        }
    }
}

#[test]
fn secrets_match_only_when_they_are_the_same_and_not_empty() {
    let secret = |text: &str| Secret(text.to_string());
    assert!(secret_matches(&secret("abcdef"), &secret("abcdef")));
    for (a, b) in [("abcdef", "abcdeg"), ("abcdef", "abcde"), ("", "a"), ("a", ""), ("", "")] {
        assert!(!secret_matches(&secret(a), &secret(b)), "{a:?} {b:?}");
    }
    assert!(!format!("{:?}", all_kinds()).contains("s3cr3t"));
}
