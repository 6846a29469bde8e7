//! The exit statuses of all commands, in one place: scripts depend on them.

/// Done.
pub const DONE: u8 = 0;
/// It was tried and failed.
pub const FAILED: u8 = 1;
/// `status`: a wanted server is not up; `status --pair`: no WATCHING standby, or no keeper.
pub const NOT_WHOLE: u8 = 3;
/// No server has this name.
pub const UNKNOWN_NAME: u8 = 4;
/// The command line is wrong (EX_USAGE).
pub const USAGE: u8 = 64;
/// No node manager runs (EX_UNAVAILABLE).
pub const NOT_RUNNING: u8 = 69;
/// Somebody else runs it, or try again later (EX_TEMPFAIL).
pub const TRY_LATER: u8 = 75;
/// Not permitted (EX_NOPERM).
pub const NOT_PERMITTED: u8 = 77;
/// The configuration is wrong (EX_CONFIG).
pub const BAD_CONFIG: u8 = 78;
/// The time is over; what was asked for goes on (as timeout(1)).
pub const TIME_OVER: u8 = 124;

/// Most telling first: what makes the whole command useless, then what failed for good, then
/// what may still come true.
const ORDER: [u8; 9] = [
    NOT_PERMITTED,
    NOT_RUNNING,
    BAD_CONFIG,
    USAGE,
    UNKNOWN_NAME,
    FAILED,
    TRY_LATER,
    TIME_OVER,
    NOT_WHOLE,
];

/// The one that tells most of several exit statuses; a number that is none of ours counts as
/// [`FAILED`].
pub fn worst(all: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |exit: u8| ORDER.iter().position(|known| *known == exit).unwrap_or(ORDER.len());
    let known = |exit: u8| if exit == DONE || ORDER.contains(&exit) { exit } else { FAILED };
    all.into_iter().map(known).min_by_key(|exit| rank(*exit)).unwrap_or(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_hides_what_may_still_come_true_and_success_hides_nothing() {
        assert_eq!(worst([DONE, TIME_OVER, FAILED, TRY_LATER]), FAILED);
        assert_eq!(worst([DONE, TIME_OVER]), TIME_OVER);
        assert_eq!(worst([FAILED, UNKNOWN_NAME]), UNKNOWN_NAME);
        assert_eq!(worst([DONE, 42]), FAILED);
        assert_eq!(worst([]), DONE);
    }
}
