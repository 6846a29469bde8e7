//! About a minute of `examples/chaos`: a real pair with some sixty servers under chance.
//!
//! Must not judge by itself: the example audits after each act, and fails when something does not
//! hold. `NM_CHAOS_SEEDS="7 8"` and `NM_CHAOS_MINUTES=10` choose other and longer runs.

mod support;

use std::process::{Command, Stdio};

/// Two runs of half a minute see two beginnings and two ends.
const SEEDS: &str = "1 2";
const MINUTES: f64 = 1.0;

#[test]
fn sixty_servers_survive_an_operator_and_an_adversary_who_act_at_random() {
    let seeds = std::env::var("NM_CHAOS_SEEDS").unwrap_or_else(|_| SEEDS.to_string());
    let minutes = std::env::var("NM_CHAOS_MINUTES").ok();
    let minutes = minutes.and_then(|minutes| minutes.parse().ok()).unwrap_or(MINUTES);
    let seeds: Vec<&str> = seeds.split_whitespace().collect();
    let each = (minutes / seeds.len().max(1) as f64).to_string();
    for seed in seeds {
        let output = Command::new(support::example("chaos"))
            .args(["--seed", seed, "--minutes", &each])
            .stdin(Stdio::null())
            .output()
            .expect("the example can be run");
        println!("{}", support::both(&output));
        assert!(output.status.success(), "seed {seed}: see the directory that it names");
    }
}
