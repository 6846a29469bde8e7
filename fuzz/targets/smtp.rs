//! What a mail server answers: a mail counts as sent only when it said so, whatever else it says.

use nodemanager::mail::smtp::converse;

pub const WORDS: &[&str] = &[
    "220 mail\r\n",
    "250-SIZE\r\n",
    "250 ok\r\n",
    "251 passed on\r\n",
    "354 go on\r\n",
    "221 bye\r\n",
    "450 later\r\n",
    "550 no\r\n",
    "250",
    "25",
    "-",
    "\r\n",
    "\n",
    "\u{e4}\u{e4}",
    "\0",
];

pub fn run(data: &[u8]) {
    let to = ["a@example.org".to_owned(), "b@example.org".to_owned()];
    let mut said = Vec::new();
    let sent = converse(&mut &*data, &mut said, "host", "nm@example.org", &to, "x\n.\n");
    let said = String::from_utf8(said).expect("what is said is text");
    match sent {
        Ok(refused) => {
            let count = refused.matches(" was refused: ").count();
            assert!(count < to.len(), "{refused}");
            assert!(said.contains("DATA\r\nx\r\n..\r\n.\r\n"), "{said}");
            let answers = String::from_utf8_lossy(data);
            assert!(answers.contains("354") && answers.contains("220"), "{answers}");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let good = "220 mail\r\n250-SIZE\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 kept\r\n221 bye\r\n";
    vec![
        good.into(),
        good.replacen("250 ok", "502 no", 1).into(),
        good.replace("221 bye\r\n", "").into(),
        good.replacen("250 ok\r\n354", "550 who\r\n354", 1).into(),
    ]
}
