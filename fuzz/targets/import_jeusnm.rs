//! `jeusnm.xml`: any text is refused with its name, or written anew as TOML.

use nodemanager::import::jeusnm::import;

pub const WORDS: &[&str] = &[
    "<nodeManager>",
    "</nodeManager>",
    "<standbyPort>7731</standbyPort>",
    "<name>",
    "</name>",
    "<log>",
    "<serverRetryCount>5</serverRetryCount>",
    "<serverRetryRestart>true</serverRetryRestart>",
    "<host>0.0.0.0</host>",
    "<server>",
    "</server>",
    "&amp;",
    "&#10;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?xml version=\"1.0\"?>",
    "xmlns=\"http://www.tmaxsoft.com/xml/ns/jeus\"",
    "\"",
    "'''",
    "\n",
    "\u{e4}",
];

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match import(text, "jeusnm.xml") {
        Ok(written) => {
            let table: Result<toml::Table, _> = written.parse();
            let table =
                table.unwrap_or_else(|error| panic!("{error} in what was written: {written}"));
            let node = &table["nodeManager"];
            assert!(node.get("name").is_some() && node.get("standbyPort").is_some(), "{written}");
        }
        Err(error) => assert!(error.contains("jeusnm.xml"), "{error}"),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    let whole = format!(
        "{head}<nodeManager xmlns=\"http://www.tmaxsoft.com/xml/ns/jeus\">\n  <name>nm</name>\n  \
         <host>127.0.0.1</host>\n  <port>7730</port>\n  <standbyPort>7731</standbyPort>\n  \
         <serverAutoRestart>true</serverAutoRestart>\n  <serverRetryRestart>false</serverRetryRestart>\n  \
         <serverRetryCount>5</serverRetryCount>\n  <log><level>INFO</level></log>\n</nodeManager>\n"
    );
    vec![whole.clone().into(), whole.replace("</name>", "").into(), b"<x/>".to_vec()]
}
