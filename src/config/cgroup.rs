//! What a server's cgroup limits, and where the cgroups are.
//!
//! Pure, as all of the parsing: whether the kernel has a limit is seen when it is written.

use super::reader::{self, Reader, Refused};
use super::sections::CGROUP_KEYS;
use super::units::parse_size;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::de::DeValue;

/// Files in one `set`.
const MAX_SET: usize = 100;
/// Bytes of a value in `set`; the kernel takes a page.
const MAX_VALUE: usize = 1_000;
/// Below that not even the program is loaded.
const LEAST_MEMORY: (u64, &str) = (1 << 20, "1MiB");
/// Microseconds in which a server gets its share of the processors.
const PERIOD_US: u64 = 100_000;
/// As many processors as a share may name.
const MAX_PROCESSORS: u64 = 10_000;

/// Below which directory the servers' cgroups are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupRoot {
    /// The node manager's own cgroup, where it is delegated to it.
    #[default]
    Auto,
    /// There are none.
    Off,
    /// This directory of the cgroup v2 file system, which somebody prepared.
    At(PathBuf),
}

/// One file of a server's cgroup and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupLimit {
    /// As the configuration names it: `memoryMax`, or the file's name in `set`.
    pub key: String,
    /// `memory.max`
    pub file: String,
    pub value: String,
}

impl CgroupLimit {
    /// The controller that has this file.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// `cgroupRoot` of `[nodeManager]`.
pub fn root(keys: &Reader<'_>) -> CgroupRoot {
    let wanted = "\"auto\", \"off\" or an absolute path below a cgroup2 mount";
    let read = |value: &DeValue<'_>| match value.as_str() {
        Some("auto") => Ok(CgroupRoot::Auto),
        Some("off") => Ok(CgroupRoot::Off),
        Some(path) if path.starts_with('/') && !path.contains('\0') => {
            Ok(CgroupRoot::At(PathBuf::from(path)))
        }
        _ => Err(Refused::NotWanted),
    };
    keys.get("cgroupRoot", wanted, read).unwrap_or_default()
}

/// `cgroup` of a `[[server]]`.
pub fn limits(keys: &Reader<'_>) -> Vec<CgroupLimit> {
    let inner = keys.inner("cgroup", CGROUP_KEYS);
    let mut limits = Vec::new();
    let mut add = |key: &'static str, file: &str, value: Option<String>| {
        let limit = value.map(|value| CgroupLimit { key: key.into(), file: file.into(), value });
        limits.extend(limit);
    };
    add("memoryMax", "memory.max", memory(&inner, "memoryMax", LEAST_MEMORY));
    add("memoryHigh", "memory.high", memory(&inner, "memoryHigh", LEAST_MEMORY));
    add("memorySwapMax", "memory.swap.max", memory(&inner, "memorySwapMax", (0, "0")));
    let share = "a share of one processor such as \"150%\", or \"max\"";
    add("cpuMax", "cpu.max", inner.get("cpuMax", share, cpu_max));
    let weight = inner.number("cpuWeight", "a number", 1..=10_000);
    add("cpuWeight", "cpu.weight", weight.map(|weight| weight.to_string()));
    add("pidsMax", "pids.max", inner.get("pidsMax", "a number from 1, or \"max\"", pids_max));
    limits.extend(set(&inner));
    limits
}

fn memory(keys: &Reader<'_>, key: &'static str, least: (u64, &str)) -> Option<String> {
    keys.get(key, "a size such as \"1GiB\", or \"max\"", |value| {
        let bytes = match (value.as_str(), reader::integer(value)) {
            (Some("max"), _) => return Ok("max".to_owned()),
            (Some(text), _) => parse_size(text).map_err(reader::is_refused)?,
            (_, Some(bytes)) => u64::try_from(bytes).map_err(|_| Refused::NotWanted)?,
            _ => return Err(Refused::NotWanted),
        };
        match bytes < least.0 {
            true => Err(Refused::Because(format!("must be at least {:?}", least.1))),
            false => Ok(bytes.to_string()),
        }
    })
}

/// `"12.5%"` as the kernel has it: microseconds of each period, and the period.
fn cpu_max(value: &DeValue<'_>) -> Result<String, Refused> {
    let text = value.as_str().ok_or(Refused::NotWanted)?;
    if text == "max" {
        return Ok(format!("max {PERIOD_US}"));
    }
    let percent = text.strip_suffix('%').ok_or(Refused::NotWanted)?;
    let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !is_number(whole) || !is_number(tenth) || tenth.len() > 1 {
        return Err(Refused::NotWanted);
    }
    let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n <= MAX_PROCESSORS * 100);
    let (whole, tenth) = number(whole).zip(number(tenth)).ok_or(Refused::NotWanted)?;
    let quota_us = (whole * 10 + tenth) * (PERIOD_US / 1_000);
    // The kernel refuses less than a millisecond.
    match quota_us < 1_000 {
        true => Err(Refused::Because("must be at least \"1%\"".to_owned())),
        false => Ok(format!("{quota_us} {PERIOD_US}")),
    }
}

fn pids_max(value: &DeValue<'_>) -> Result<String, Refused> {
    match (value.as_str(), reader::integer(value)) {
        (Some("max"), _) => Ok("max".to_owned()),
        // The kernel's limit to PIDs is 2^22.
        (_, Some(number)) if (1..=1 << 22).contains(&number) => Ok(number.to_string()),
        _ => Err(Refused::NotWanted),
    }
}

/// Files that have no key of their own.
fn set(keys: &Reader<'_>) -> Vec<CgroupLimit> {
    let table = keys.inner("set", &[]);
    let mut limits = Vec::new();
    for (key, value) in table.entries() {
        let file: &str = key.get_ref();
        let value = match (value.get_ref().as_str(), reader::integer(value.get_ref())) {
            (Some(text), _) => Some(text.to_owned()),
            (_, Some(number)) => Some(number.to_string()),
            _ => None,
        };
        let is_short = |text: &&String| !text.is_empty() && text.len() <= MAX_VALUE;
        match value.filter(|text| is_short(&text) && !text.contains(char::is_control)) {
            _ if !is_file(file) => {
                let text = "is no file of a controller: write { \"io.weight\" = \"50\" }";
                table.error(file, text.to_owned());
            }
            None => table.error(file, "must be a string or a number".to_owned()),
            Some(value) => {
                limits.push(CgroupLimit { key: file.to_owned(), file: file.to_owned(), value });
            }
        }
    }
    if limits.len() > MAX_SET {
        keys.error("set", format!("has more than {MAX_SET} files"));
        limits.clear();
    }
    limits
}

/// `<controller>.<name>`, of a controller: `cgroup.` is the kernel's own, and the node manager's.
fn is_file(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    };
    name.len() <= 100
        && name.contains('.')
        && name.split('.').all(is_part)
        && !name.starts_with("cgroup.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    fn read(node: &str, server: &str) -> Result<(CgroupRoot, Vec<CgroupLimit>), String> {
        let text = format!(
            "[nodeManager]\nstandbyPort = 7731\n{node}\n[[server]]\nname = \"a\"\n\
             command = \"x\"\n{server}\n"
        );
        let config = parse(&text, Path::new("/c.toml"), Path::new("/h"));
        let mut config = config.map_err(|errors| errors.to_string())?;
        Ok((config.node.cgroup_root, config.servers.remove(0).cgroup.clone()))
    }

    #[test]
    fn limits_become_files_and_values_of_the_kernel() {
        let (_, limits) = read(
            "",
            "cgroup = { memoryMax = \"1GiB\", memoryHigh = \"max\", memorySwapMax = 0, \
             cpuMax = \"12.5%\", cpuWeight = 50, pidsMax = 9, set = { \"io.weight\" = 50, \
             \"hugetlb.2MB.max\" = \"max\" } }",
        )
        .unwrap();
        let pairs: Vec<_> = limits.iter().map(|one| (&*one.file, &*one.value)).collect();
        assert_eq!(
            pairs,
            [
                ("memory.max", "1073741824"),
                ("memory.high", "max"),
                ("memory.swap.max", "0"),
                ("cpu.max", "12500 100000"),
                ("cpu.weight", "50"),
                ("pids.max", "9"),
                ("hugetlb.2MB.max", "max"),
                ("io.weight", "50"),
            ]
        );
        assert_eq!(limits[2].controller(), "memory");
        assert_eq!(limits[6].controller(), "hugetlb");
        assert_eq!(read("", "").unwrap(), (CgroupRoot::Auto, Vec::new()));
    }

    #[test]
    fn where_the_cgroups_are_is_a_word_or_an_absolute_path() {
        assert_eq!(read("cgroupRoot = \"off\"", "").unwrap().0, CgroupRoot::Off);
        let at = CgroupRoot::At("/sys/fs/cgroup/nm".into());
        assert_eq!(read("cgroupRoot = \"/sys/fs/cgroup/nm\"", "").unwrap().0, at);
        for wrong in ["\"nm\"", "\"\"", "true"] {
            let error = read(&format!("cgroupRoot = {wrong}"), "").unwrap_err();
            assert!(error.contains("c.toml:3") && error.contains("absolute path"), "{error}");
        }
    }

    #[test]
    fn a_limit_that_is_none_is_refused_with_its_line() {
        for (wrong, text) in [
            ("memoryMax = \"1GB\"", "write \"GiB\""),
            ("memoryMax = \"64K\"", "must be at least \"1MiB\""),
            ("memoryMax = -1", "must be a size such as"),
            ("cpuMax = 150", "must be a share of one processor such as \"150%\""),
            ("cpuMax = \"0.9%\"", "must be at least \"1%\""),
            ("cpuMax = \"1.25%\"", "must be a share"),
            ("cpuMax = \"99999999999999999999%\"", "must be a share"),
            ("cpuWeight = 0", "must be a number from 1 to 10000"),
            ("pidsMax = 0", "must be a number from 1"),
            ("memory = 7", "unknown key \"memory\" in cgroup of [[server]] a"),
            ("set = { \"cgroup.kill\" = \"1\" }", "is no file of a controller"),
            ("set = { \"../x.y\" = \"1\" }", "is no file of a controller"),
            ("set = { \"io\\t.max\" = \"1\" }", "set.io\\t.max of [[server]] a is no file"),
            ("set = { \"io.max\" = [] }", "must be a string or a number"),
        ] {
            let error = read("", &format!("cgroup = {{ {wrong} }}")).unwrap_err();
            assert!(error.contains("c.toml:7") && error.contains(text), "{wrong}: {error}");
        }
    }
}
