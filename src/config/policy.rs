//! The `restart` table of a server.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::reader::{self, Reader, Refused};
use super::sections::MAX_TRIES;
use super::units::quoted;
use crate::core::restart::{Policy, Then, When};
use toml::de::DeValue;

const WHEN: &[(&str, When)] =
    &[("always", When::Always), ("on-failure", When::OnFailure), ("never", When::Never)];

/// What the table says, over the defaults.
pub fn policy(keys: &Reader<'_>, default: &Policy) -> Policy {
    let policy = Policy {
        when: keys.choice("when", WHEN, default.when),
        tries: keys.number("tries", "a number", 0..=MAX_TRIES).unwrap_or(default.tries),
        window_ms: keys.duration("window", "2m", default.window_ms),
        delay_ms: keys.duration("delay", "1s", default.delay_ms),
        delay_max_ms: keys.duration("delayMax", "30s", default.delay_max_ms),
        reset_after_ms: keys.duration("resetAfter", "1m", default.reset_after_ms),
        then: keys.choice("then", &[("slow", Then::Slow), ("fail", Then::Fail)], default.then),
        jitter_percent: keys
            .get("jitter", "a share of the delay such as \"10%\"", percent)
            .unwrap_or(default.jitter_percent),
        success_codes: codes(keys, "successCodes").unwrap_or(default.success_codes.clone()),
        no_restart_codes: codes(keys, "noRestartCodes").unwrap_or(default.no_restart_codes.clone()),
    };
    // what goes on slowly for ever must not become a loop without a pause
    keys.at_least("delayMax", policy.delay_max_ms, 100, "100ms");
    if policy.delay_ms > policy.delay_max_ms {
        let (delay, most) = (policy.delay_ms, policy.delay_max_ms);
        keys.error("delay", format!("({delay} ms) must not be more than delayMax ({most} ms)"));
    }
    let is_both = |code: &&i32| policy.success_codes.contains(code);
    if let Some(code) = policy.no_restart_codes.iter().find(is_both) {
        let text = format!("has {code}, which is one of successCodes: an end is one or the other");
        keys.error("noRestartCodes", text);
    }
    policy
}

/// `"10%"`, from 0 to 100.
fn percent(value: &DeValue<'_>) -> Result<u32, Refused> {
    let text = value.as_str().ok_or(Refused::NotWanted)?;
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(number) if number <= 100 => Ok(number),
        _ => {
            Err(Refused::Because(format!("must be from \"0%\" to \"100%\", not {}", quoted(text))))
        }
    }
}

/// Exit codes, from 0 to 255.
fn codes(keys: &Reader<'_>, key: &'static str) -> Option<Vec<i32>> {
    keys.get(key, "an array of exit codes from 0 to 255 such as [0, 3]", |value| {
        let codes = value.as_array().ok_or(Refused::NotWanted)?;
        let code = |item: &DeValue<'_>| {
            let code = reader::integer(item).and_then(|code| i32::try_from(code).ok());
            code.filter(|code| (0..=255).contains(code)).ok_or(Refused::NotWanted)
        };
        codes.iter().map(|item| code(item.get_ref())).collect()
    })
}
