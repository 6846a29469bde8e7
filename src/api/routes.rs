//! Every method and path that is answered, on the control socket and where metrics are told.
//!
//! Plain values: must hold no behaviour. Requests are told apart by these tables alone, so what is not here is
//! answered by nobody, and a test holds docs/openapi.json against them.

use super::{
    APPLY_PATH, EVENTS_PATH, MAINTENANCE_PATH, METRICS_PATH, PING_PATH, SHUTDOWN_PATH, STATUS_PATH,
    SWITCHOVER_PATH, UPGRADE_PATH,
};

/// What a request on the control socket is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Ping,
    Status,
    Events,
    Metrics,
    /// With the action's name.
    Servers(&'static str),
    Apply,
    Switchover,
    Upgrade,
    Maintenance,
    Shutdown,
}

/// What a request over TCP is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Metrics,
    Health,
    Ready,
}

/// One method and path, and what is behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    pub method: &'static str,
    pub path: &'static str,
    pub route: T,
}

const fn get<T>(path: &'static str, route: T) -> Entry<T> {
    Entry { method: "GET", path, route }
}

const fn post(path: &'static str, route: Route) -> Entry<Route> {
    Entry { method: "POST", path, route }
}

const fn servers(path: &'static str, verb: &'static str) -> Entry<Route> {
    post(path, Route::Servers(verb))
}

/// The control socket.
pub const CONTROL: &[Entry<Route>] = &[
    get(PING_PATH, Route::Ping),
    get(STATUS_PATH, Route::Status),
    get(EVENTS_PATH, Route::Events),
    get(METRICS_PATH, Route::Metrics),
    servers("/v1/servers/start", "start"),
    servers("/v1/servers/stop", "stop"),
    servers("/v1/servers/restart", "restart"),
    servers("/v1/servers/reload", "reload"),
    servers("/v1/servers/drain", "drain"),
    servers("/v1/servers/kill", "kill"),
    servers("/v1/servers/signal", "signal"),
    servers("/v1/servers/reset", "reset"),
    servers("/v1/servers/enable", "enable"),
    servers("/v1/servers/disable", "disable"),
    servers("/v1/servers/wait", "wait"),
    post(APPLY_PATH, Route::Apply),
    post(SWITCHOVER_PATH, Route::Switchover),
    post(UPGRADE_PATH, Route::Upgrade),
    post(MAINTENANCE_PATH, Route::Maintenance),
    post(SHUTDOWN_PATH, Route::Shutdown),
];

/// The address of `[metrics]`.
pub const METRICS: &[Entry<Page>] =
    &[get("/metrics", Page::Metrics), get("/healthz", Page::Health), get("/readyz", Page::Ready)];

/// Why nothing is behind a method and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// There is no such path.
    Path,
    /// There is, and this method is wanted.
    Method(&'static str),
}

/// What is behind a method and path.
///
/// # Errors
/// Nothing is.
pub fn find<T: Copy>(table: &[Entry<T>], method: &str, path: &str) -> Result<T, Nothing> {
    let mut entries = table.iter().filter(|entry| entry.path == path).peekable();
    let wanted = entries.peek().map_or(Nothing::Path, |entry| Nothing::Method(entry.method));
    entries.find(|entry| entry.method == method).map(|entry| entry.route).ok_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SERVERS_PATH;

    #[test]
    fn the_path_of_an_action_ends_with_its_name_and_no_path_is_there_twice() {
        for (at, entry) in CONTROL.iter().enumerate() {
            if let Route::Servers(verb) = entry.route {
                assert_eq!(entry.path, format!("{SERVERS_PATH}{verb}"));
            }
            let same =
                |other: &Entry<Route>| (other.method, other.path) == (entry.method, entry.path);
            assert!(!CONTROL[at + 1..].iter().any(same), "{entry:?}");
        }
    }

    #[test]
    fn a_path_that_is_not_there_and_a_wrong_method_are_told_apart() {
        assert_eq!(find(CONTROL, "GET", STATUS_PATH), Ok(Route::Status));
        assert_eq!(find(CONTROL, "POST", STATUS_PATH), Err(Nothing::Method("GET")));
        assert_eq!(find(CONTROL, "GET", "/v1/nothing"), Err(Nothing::Path));
    }
}
