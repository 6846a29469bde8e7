//! The kinds of events: their stable names, which docs/EVENTS.md lists.
//!
//! A new kind is one line here, one row there, and the place in `shell::events` that makes it.

/// Makes the enumeration, the list of all, and their names.
macro_rules! kinds {
    ($($(#[$says:meta])* $kind:ident = $name:literal;)*) => {
        /// What kind of event it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$says])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// Its stable name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// A pair serves that was not there before.
    PairStarted = "pair-started";
    /// It was told to end.
    PairEnding = "pair-ending";
    /// It has ended.
    PairEnded = "pair-ended";
    /// The standby took the place of an active that died or hung.
    Takeover = "takeover";
    /// The standby took the place of an active that handed over.
    Switchover = "switchover";
    /// The active was to hand over, and goes on.
    SwitchoverFailed = "switchover-failed";
    /// The program on disk was not taken.
    UpgradeFailed = "upgrade-failed";
    /// Nothing is restarted by itself.
    MaintenanceOn = "maintenance-on";
    MaintenanceOff = "maintenance-off";
    /// Hangs repeat in a short time.
    HangsRepeat = "hangs-repeat";
    StandbyWatching = "standby-watching";
    StandbyDown = "standby-down";
    StandbyHung = "standby-hung";
    KeeperJoined = "keeper-joined";
    KeeperLost = "keeper-lost";
    /// Another configuration is on its way.
    ConfigurationApplying = "configuration-applying";
    /// It is in force.
    ConfigurationApplied = "configuration-applied";
    /// It could not be put in force.
    ConfigurationNotApplied = "configuration-not-applied";
    ServerRunning = "server-running";
    /// Its process ended by itself, or was ended because it was not well.
    ServerEnded = "server-ended";
    /// It was stopped because somebody asked for it.
    ServerStopped = "server-stopped";
    /// How it ended was unknown, and is known now.
    ServerExitKnown = "server-exit-known";
    /// It ended well, and stays so.
    ServerExited = "server-exited";
    /// A failure; the next try follows.
    ServerBackoff = "server-backoff";
    /// The tries of its window are used up; it is tried on slowly.
    ServerFailing = "server-failing";
    /// Given up.
    ServerFailed = "server-failed";
    /// It is up again after it was failing or FAILED.
    ServerRecovered = "server-recovered";
    /// A health check failed, or it was not ready in time.
    ServerUnhealthy = "server-unhealthy";
    ServerEnabled = "server-enabled";
    ServerDisabled = "server-disabled";
    ServerDrained = "server-drained";
    ServerNotDrained = "server-not-drained";
    /// A server that it needs has ended.
    ServerNeedLost = "server-need-lost";
    /// A command beside it failed.
    ServerCommandFailed = "server-command-failed";
    /// It is not in the configuration and still runs.
    ServerLeftOver = "server-left-over";
    HookFailed = "hook-failed";
    /// Too many hooks waited.
    HookDropped = "hook-dropped";
    MailFailed = "mail-failed";
}

impl Kind {
    /// It tells of hooks and mail themselves: no hook and no mail is for it, so that none comes of
    /// its own failure again and again.
    pub fn is_of_alerts(self) -> bool {
        matches!(self, Kind::HookFailed | Kind::HookDropped | Kind::MailFailed)
    }
}
