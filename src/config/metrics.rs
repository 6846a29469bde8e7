//! `[metrics]`: where metrics are told to whoever asks.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::reader::{Reader, Refused};
use super::sections::METRICS_KEYS;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Where metrics are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Its port is not 0.
    pub listen: SocketAddr,
    pub line: u32,
}

/// `[metrics]` of the main file.
pub fn metrics(top: &Reader<'_>) -> Option<Metrics> {
    let table = top.value("metrics")?.get_ref().as_table().or_else(|| {
        let text = "metrics must be a table: write [metrics]".to_owned();
        top.document.error(top.line_of("metrics"), text);
        None
    })?;
    let keys = Reader::new(top.document, Some(table), METRICS_KEYS, "[metrics]".to_owned());
    if keys.value("listen").is_none() {
        let text = "[metrics] has no listen, such as \"127.0.0.1:9100\"".to_owned();
        top.document.error(top.line_of("metrics"), text);
    }
    let wanted = "an address and a port such as \"127.0.0.1:9100\" or \"[::1]:9100\"";
    let listen = keys.get("listen", wanted, |value| {
        let text = value.as_str().ok_or(Refused::NotWanted)?;
        let address: SocketAddr = text.parse().map_err(|_| Refused::NotWanted)?;
        match address.port() {
            // Nobody could know where to ask.
            0 => Err(Refused::NotWanted),
            _ => Ok(address),
        }
    })?;
    Some(Metrics { listen, line: keys.line_of("listen").unwrap_or(1) })
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use std::path::Path;

    fn read(metrics: &str) -> Result<Option<super::Metrics>, String> {
        let text = format!("[nodeManager]\nstandbyPort = 1\n{metrics}");
        let read = parse(&text, Path::new("nm.toml"), Path::new("/home"));
        read.map(|config| config.metrics).map_err(|errors| errors.to_string())
    }

    #[test]
    fn an_address_with_its_port_is_where_metrics_are_told_and_without_it_nowhere() {
        assert_eq!(read(""), Ok(None));
        for address in ["127.0.0.1:9100", "[::1]:9100", "0.0.0.0:1"] {
            let metrics = read(&format!("[metrics]\nlisten = \"{address}\"\n")).unwrap().unwrap();
            assert_eq!((metrics.listen.to_string().as_str(), metrics.line), (address, 4));
        }
    }

    #[test]
    fn what_is_no_address_is_an_error_with_its_line_and_what_would_be_right() {
        for wrong in ["\"localhost:9100\"", "\"127.0.0.1\"", "\"127.0.0.1:0\"", "9100", "\":9100\""]
        {
            let error = read(&format!("[metrics]\nlisten = {wrong}\n")).unwrap_err();
            let wanted = "nm.toml:4: listen of [metrics] must be an address and a port such as";
            assert!(error.contains(wanted), "{error}");
        }
        assert!(read("[metrics]\n").unwrap_err().contains("[metrics] has no listen"));
        assert!(read("[[metrics]]\n").unwrap_err().contains("write [metrics]"));
        assert!(read("[metrics]\nlsten = 1\n").unwrap_err().contains("listen"));
    }
}
