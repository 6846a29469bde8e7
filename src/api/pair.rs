//! What is asked of the pair itself: switchover, upgrade, maintenance.
//!
//! Plain values; must hold no behaviour.

use super::yes;
use serde::{Deserialize, Serialize};

/// Asks something of the pair. An unknown field is refused: it could change what is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairAsk {
    pub id: String,
    /// Answer when the pair is whole again; else when it is on its way.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// Switches maintenance on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaintenanceAsk {
    pub id: String,
    pub on: bool,
}

/// What came of a [`PairAsk`] or a [`MaintenanceAsk`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairAnswer {
    /// The exit status of the command.
    pub exit: u8,
    /// For people.
    pub text: String,
}
