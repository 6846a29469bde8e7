//! How much trouble a search spends on one path.
//!
//! Must not know what the trouble is: who makes it takes it from here.

/// How often something may go wrong or be asked for on one path; all finite, so is the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// kill -9 of a twin.
    pub kills: u8,
    /// The standby takes the active for hung, rightly or not.
    pub hangs: u8,
    /// The active takes its standby for hung, rightly or not.
    pub standby_hangs: u8,
    /// The server ends by itself.
    pub exits: u8,
    /// A process of the server's group outlives its leader.
    pub members: u8,
    /// A stop signal is ignored.
    pub deaf: u8,
    /// exec fails.
    pub exec_fails: u8,
    /// Before its exec a child waits for a lock.
    pub locks: u8,
    /// No child can be made.
    pub fork_fails: u8,
    /// A check is answered badly.
    pub bad_answers: u8,
    /// A check is not answered.
    pub no_answers: u8,
    /// A write to the disk fails.
    pub disk_fails: u8,
    /// The link breaks.
    pub cuts: u8,
    /// A timer fires while the answer it guards is on its way.
    pub early_timers: u8,
    /// start, stop or restart of the server.
    pub asks: u8,
    /// The other twin is to be the active.
    pub switches: u8,
    /// Maintenance is switched on; somebody switches it off again.
    pub maintenances: u8,
    /// The pair is told to end.
    pub shutdowns: u8,
    /// Somebody starts the pair once more while it runs.
    pub rivals: u8,
    /// A twin that was killed stays in the kernel for a while.
    pub undying: u8,
}

impl Budget {
    pub const NOTHING: Budget = Budget {
        kills: 0,
        hangs: 0,
        standby_hangs: 0,
        exits: 0,
        members: 0,
        deaf: 0,
        exec_fails: 0,
        locks: 0,
        fork_fails: 0,
        bad_answers: 0,
        no_answers: 0,
        disk_fails: 0,
        cuts: 0,
        early_timers: 0,
        asks: 0,
        switches: 0,
        maintenances: 0,
        shutdowns: 0,
        rivals: 0,
        undying: 0,
    };

    /// What there is of it, for people.
    pub fn told(&self) -> String {
        let all = format!("{self:?}").replace("Budget { ", "").replace(" }", "");
        let parts: Vec<&str> = all.split(", ").filter(|part| !part.ends_with(": 0")).collect();
        parts.join(", ").replace(['_', ':'], " ").replace("  ", " ")
    }

    /// More of everything that there is.
    pub fn deepen(&mut self, by: u8) {
        let all = [
            &mut self.kills,
            &mut self.hangs,
            &mut self.standby_hangs,
            &mut self.exits,
            &mut self.members,
            &mut self.deaf,
            &mut self.exec_fails,
            &mut self.locks,
            &mut self.fork_fails,
            &mut self.bad_answers,
            &mut self.no_answers,
            &mut self.disk_fails,
            &mut self.cuts,
            &mut self.early_timers,
            &mut self.asks,
            &mut self.switches,
            &mut self.maintenances,
            &mut self.shutdowns,
            &mut self.rivals,
            &mut self.undying,
        ];
        for count in all.into_iter().filter(|count| **count > 0) {
            *count = count.saturating_add(by);
        }
    }
}
