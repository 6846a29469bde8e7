//! Every reader of bytes from outside, with 100,000 damaged inputs each.
//!
//! The inputs come from `fuzz/corpus` by seeded mutation, so a run is the same each time. `NM_FUZZ_CASES`
//! sets the number of cases, `NM_FUZZ_SEED` the seed, `NM_FUZZ_ONLY` the one target to run. A failure tells target,
//! seed, case and input; docs/FUZZING.md says how libFuzzer runs the same targets for long.

mod mutate;
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use mutate::{Random, input};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use targets::{TARGETS, Target};

const CASES: u64 = 100_000;
const SEED: u64 = 1;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

/// The corpus in the order of its names, so that every machine makes the same inputs of it.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(target)).expect("every target has a corpus");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input of the corpus")).collect()
}

/// Runs one case; says what failed.
fn try_case(target: &Target, seed: u64, case: &str, bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).map_err(|_| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "target {}, seed {seed}, {case}, {} bytes\n  hex {hex}\n  text b\"{}\"",
            target.name,
            bytes.len(),
            bytes.escape_ascii()
        )
    })
}

fn fuzz(target: &Target) -> Result<(), String> {
    let (cases, seed) = (number("NM_FUZZ_CASES", CASES), number("NM_FUZZ_SEED", SEED));
    let old = corpus(target);
    for (index, bytes) in old.iter().enumerate() {
        try_case(target, seed, &format!("input {index} of the corpus"), bytes)?;
    }
    for case in 0..cases {
        // Each case has its own numbers: it can be made again without those before it.
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(case << 20));
        let bytes = input(&mut random, &old, target.words);
        try_case(target, seed, &format!("case {case}"), &bytes)?;
    }
    println!("{}: {cases} cases with seed {seed} from {} inputs", target.name, old.len());
    Ok(())
}

#[test]
fn no_input_whatsoever_breaks_a_reader() {
    let only = std::env::var("NM_FUZZ_ONLY").ok();
    let chosen: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| only.as_ref().is_none_or(|name| name == target.name))
        .collect();
    assert!(!chosen.is_empty(), "there is no target {only:?}");
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = chosen.iter().map(|target| scope.spawn(|| fuzz(target))).collect();
        let results = running.into_iter().map(|thread| thread.join().expect("the target's thread"));
        results.filter_map(Result::err).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_target_has_a_binary_for_libfuzzer() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    let (_, bins) = manifest.split_once("[[bin]]").expect("binaries");
    let built: Vec<&str> =
        bins.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(built, names);
}

/// `cargo test --test fuzz -- --ignored`: writes what the encoders give into `fuzz/corpus`, beside
/// the inputs that were found.
#[test]
#[ignore = "writes into the sources"]
fn the_valid_inputs_of_the_corpus_are_written_anew() {
    for target in TARGETS {
        fs::create_dir_all(folder(target)).expect("the corpus");
        for (index, bytes) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder(target).join(format!("seed-{index}")), bytes).expect("an input");
        }
    }
}
