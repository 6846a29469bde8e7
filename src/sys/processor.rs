//! Which processor this process runs on.
//!
//! Must not keep it from any of them: where it may run is its starter's matter, and its children's.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;

/// More than is in /proc/loadavg.
const LOAD_MAX_BYTES: usize = 128;

/// Moves this process to another processor, if it is on this one, another one has nothing to do, and this
/// process may use it: who is in a hurry should not wait for a time slice of one that is taken apart here.
/// Returns whether it did.
pub fn leave(processor: u64) -> bool {
    let own = Pid::from_raw(0);
    let (Ok(here), Ok(allowed)) = (sched_getcpu(), sched_getaffinity(own)) else { return false };
    let mut others = allowed;
    if u64::try_from(here) != Ok(processor) || !is_any_idle(&allowed) || others.unset(here).is_err()
    {
        return false;
    }
    // Without others the first call fails. The second one allows them all again, and moves nobody.
    sched_setaffinity(own, &others).is_ok() && sched_setaffinity(own, &allowed).is_ok()
}

/// Fewer want to run than there are processors, or as many. For who shares one: another one is idle.
fn is_any_idle(allowed: &CpuSet) -> bool {
    let mut text = [0; LOAD_MAX_BYTES];
    let read = File::open("/proc/loadavg").and_then(|mut file| file.read(&mut text));
    let text = read.ok().and_then(|length| std::str::from_utf8(text.get(..length)?).ok());
    let processors = (0..CpuSet::count()).filter(|one| allowed.is_set(*one) == Ok(true)).count();
    text.and_then(running).is_some_and(|running| running <= processors)
}

/// In /proc/loadavg, behind three averages: those that want to run, and all.
fn running(text: &str) -> Option<usize> {
    text.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_to_run_is_read_from_the_fourth_word() {
        assert_eq!(running("0.20 0.18 0.12 1/80 11206\n"), Some(1));
        for strange in ["", "0.20 0.18 0.12", "a b c d/e f", "0.1 0.1 0.1 x"] {
            assert_eq!(running(strange), None);
        }
    }

    #[test]
    fn who_leaves_a_processor_may_use_it_again() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let here = u64::try_from(sched_getcpu().unwrap()).unwrap();
        leave(here);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
        assert!(!leave(u64::MAX), "it is not on that one");
    }
}
