//! The journal on real files.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A directory of its own for one test, removed at its end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("nm-journal-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look random and are the same in every run.
pub(super) struct Xorshift(pub u64);

impl Xorshift {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

pub(super) fn origin() -> Origin {
    Origin { node: "node1".into(), boot_id: "b00t".into(), pid_namespace: 4026531836 }
}

pub(super) fn payloads(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(super) fn create(dir: &Path, capacity: u64, texts: &[&str]) -> Journal {
    Journal::create(dir, origin(), capacity, &mut payloads(texts).into_iter()).unwrap()
}

pub(super) fn contents(dir: &Path) -> Contents {
    read(dir).unwrap().unwrap()
}

#[test]
fn what_was_appended_is_read_back_in_order_after_the_snapshot() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["one", "two"]);
    assert_eq!(journal.append(b"three").unwrap(), Appended::Written);
    let found = contents(dir.path());
    assert_eq!(found.payloads, payloads(&["one", "two", "three"]));
    assert_eq!((found.origin, found.generation, found.damage), (origin(), 1, None));
    journal.compact(&mut payloads(&["four"]).into_iter()).unwrap();
    assert_eq!(journal.append(b"five").unwrap(), Appended::Written);
    let found = contents(dir.path());
    assert_eq!((found.generation, found.payloads), (2, payloads(&["four", "five"])));
    assert_eq!(journal.warning(), None);
}

#[test]
fn there_is_no_journal_where_none_was_finished() {
    let dir = Scratch::new();
    assert!(read(dir.path()).unwrap().is_none());
    assert!(read(&dir.path().join("missing")).unwrap().is_none());
    fs::write(dir.path().join("journal.a"), []).unwrap();
    assert!(read(dir.path()).unwrap().is_none());
    fs::write(dir.path().join("journal.b"), vec![0; 70_000]).unwrap();
    assert!(read(dir.path()).unwrap().is_none());
}

#[test]
fn the_next_active_goes_on_in_a_later_generation() {
    let dir = Scratch::new();
    for generation in 1..=5 {
        let journal = create(dir.path(), MIN_FILE, &["again"]);
        assert_eq!(journal.generation(), generation);
        assert_eq!(contents(dir.path()).generation, generation);
    }
}

#[test]
fn whoever_read_a_journal_goes_on_behind_its_last_record() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["one"]);
    assert_eq!(journal.append(b"two").unwrap(), Appended::Written);
    drop(journal);
    let end = contents(dir.path()).end.unwrap();
    let mut journal = Journal::go_on(dir.path(), origin(), MIN_FILE, end).unwrap();
    assert_eq!(journal.append(b"three").unwrap(), Appended::Written);
    let found = contents(dir.path());
    assert_eq!((found.generation, found.payloads), (1, payloads(&["one", "two", "three"])));
}

#[test]
fn nobody_goes_on_in_a_generation_that_is_over() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["one"]);
    let end = contents(dir.path()).end.unwrap();
    journal.compact(&mut payloads(&["two"]).into_iter()).unwrap();
    let error = Journal::go_on(dir.path(), origin(), MIN_FILE, end).err().unwrap();
    assert_eq!(error.to_string(), "the journal is not the one that was read");
    assert_eq!(contents(dir.path()).payloads, payloads(&["two"]));
}

#[test]
fn a_full_file_says_so_and_a_compaction_makes_room() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &[]);
    let mut count = 0;
    while journal.append(&[7; 1000]).unwrap() == Appended::Written {
        count += 1;
        assert!(count < 66, "more was written than the file holds");
    }
    assert!(count > 55, "the file was called full after {count} records of 1000 bytes");
    assert_eq!(contents(dir.path()).payloads.len(), count);
    assert_eq!(fs::metadata(dir.path().join("journal.a")).unwrap().len(), MIN_FILE);
    journal.compact(&mut payloads(&["small"]).into_iter()).unwrap();
    assert_eq!(journal.append(&[8; 1000]).unwrap(), Appended::Written);
}

#[test]
fn a_snapshot_or_record_that_does_not_fit_makes_both_files_larger() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &[]);
    let large = vec![vec![1; 50_000]; 30];
    journal.compact(&mut large.clone().into_iter()).unwrap();
    assert_eq!(contents(dir.path()).payloads, large);
    for name in ["journal.a", "journal.b"] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().len(), 4 << 20);
    }

    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &[]);
    let record = vec![2; MAX_PAYLOAD];
    assert_eq!(journal.append(&record).unwrap(), Appended::Full);
    journal.compact(&mut std::iter::empty()).unwrap();
    assert_eq!(journal.append(&record).unwrap(), Appended::Written);
    assert_eq!(contents(dir.path()).payloads, vec![record]);
}

#[test]
fn payloads_and_names_outside_the_limits_are_refused_and_change_nothing() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["kept"]);
    assert!(journal.append(&[]).is_err());
    assert!(journal.append(&vec![0; MAX_PAYLOAD + 1]).is_err());
    assert!(journal.compact(&mut vec![vec![]].into_iter()).is_err());
    let long = Origin { node: "n".repeat(MAX_NAME + 1), ..origin() };
    assert!(Journal::create(dir.path(), long, MIN_FILE, &mut std::iter::empty()).is_err());
    let found = contents(dir.path());
    assert_eq!((found.payloads, found.damage), (payloads(&["kept"]), None));
}

#[test]
fn another_version_is_refused_by_reader_and_writer_and_left_as_it_is() {
    for version in [1, 3, u32::MAX] {
        expect_refused(version);
    }
}

fn expect_refused(strange: u32) {
    let dir = Scratch::new();
    drop(create(dir.path(), MIN_FILE, &["old"]));
    drop(create(dir.path(), MIN_FILE, &["new"]));
    let path = dir.path().join("journal.a");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&strange.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    match read(dir.path()) {
        Err(ReadError::UnknownVersion { file, version }) => {
            assert_eq!((file, version), (path.clone(), strange));
        }
        other => panic!("{other:?}"),
    }
    assert!(Journal::create(dir.path(), origin(), MIN_FILE, &mut std::iter::empty()).is_err());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn removed_replaced_and_cut_files_are_noticed_and_made_anew() {
    let spoil: [fn(&Path); 4] = [
        |dir| fs::remove_dir_all(dir).unwrap(),
        |dir| fs::remove_file(dir.join("journal.b")).unwrap(),
        |dir| {
            fs::copy(dir.join("journal.a"), dir.join("copy")).unwrap();
            fs::rename(dir.join("copy"), dir.join("journal.a")).unwrap();
        },
        |dir| fs::write(dir.join("journal.a"), []).unwrap(),
    ];
    for spoil in spoil {
        let dir = Scratch::new();
        let journal = create(dir.path(), MIN_FILE, &["one"]);
        assert!(!journal.is_gone(dir.path()));
        spoil(dir.path());
        assert!(journal.is_gone(dir.path()));
        fs::create_dir_all(dir.path()).unwrap();
        let anew = create(dir.path(), MIN_FILE, &["two"]);
        assert!(!anew.is_gone(dir.path()));
        let found = contents(dir.path());
        assert_eq!((found.payloads, found.damage), (payloads(&["two"]), None));
    }
}

#[test]
fn what_is_no_regular_file_is_an_error_and_blocks_nobody() {
    let dir = Scratch::new();
    let path = dir.path().join("journal.a");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(read(dir.path()), Err(ReadError::Io { .. })));
    assert!(Journal::create(dir.path(), origin(), MIN_FILE, &mut std::iter::empty()).is_err());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(matches!(read(dir.path()), Err(ReadError::Io { .. })));
    assert!(Journal::create(dir.path(), origin(), MIN_FILE, &mut std::iter::empty()).is_err());
}

#[test]
fn a_reader_beside_a_busy_writer_sees_a_whole_and_never_an_older_journal() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["0"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0u64;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                let mut payload = count.to_string().into_bytes();
                payload.resize(200, b' ');
                if count.is_multiple_of(100) || journal.append(&payload).unwrap() == Appended::Full
                {
                    journal.compact(&mut std::iter::once(payload)).unwrap();
                }
            }
        });
        let mut latest = 0;
        for _ in 0..300 {
            let found = contents(dir.path());
            let numbers: Vec<u64> = found
                .payloads
                .iter()
                .map(|payload| std::str::from_utf8(payload).unwrap().trim().parse().unwrap())
                .collect();
            let last = numbers.last().copied().unwrap();
            let in_order = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            let whole = found.damage.is_none() && in_order && last >= latest;
            if !whole {
                stop.store(true, Ordering::Relaxed);
                panic!("{:?}, {latest} then {numbers:?}", found.damage);
            }
            latest = last;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A tmpfs of one mebibyte, unmounted at the end; `None` where this may not be mounted.
struct SmallDisk(Scratch);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let dir = Scratch::new();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(dir)),
            other => {
                eprintln!("skipped: cannot mount a tmpfs here: {other:?}");
                None
            }
        }
    }

    /// Leaves no free byte, beyond what is reserved already.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_disk_every_append_and_compaction_succeeds() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    let mut journal = create(dir, 256 << 10, &["first"]);
    disk.fill();
    let snapshot = vec![vec![b's'; 500]; 100];
    let mut compactions = 0;
    for count in 0..5000u32 {
        let payload = format!("{count:0600}").into_bytes();
        if journal.append(&payload).unwrap() == Appended::Full {
            journal.compact(&mut snapshot.clone().into_iter()).unwrap();
            assert_eq!(journal.append(&payload).unwrap(), Appended::Written);
            compactions += 1;
        }
        if count % 500 == 0 {
            let found = contents(dir);
            assert_eq!((found.payloads.last(), found.damage), (Some(&payload), None));
        }
    }
    assert!(compactions > 10);
    drop(journal);
    let next = create(dir, 512 << 10, &["the next active starts on the full disk"]);
    assert!(next.warning().is_some_and(|text| text.contains("journal.a")));
    assert_eq!(contents(dir).payloads.len(), 1);
}

#[test]
fn growth_that_a_full_disk_refuses_leaves_the_journal_as_it_was() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    let mut journal = create(dir, MIN_FILE, &["kept"]);
    disk.fill();
    let error = journal.compact(&mut vec![vec![1; 50_000]; 5].into_iter()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("journal.b"), "{error}");
    assert_eq!(journal.append(b"and more").unwrap(), Appended::Written);
    let found = contents(dir);
    assert_eq!((found.payloads, found.damage), (payloads(&["kept", "and more"]), None));
    let tight = vec![vec![1; 50_000]];
    journal.compact(&mut tight.clone().into_iter()).unwrap();
    assert!(journal.warning().is_some());
    assert_eq!(contents(dir).payloads, tight);
}

/// Changes one byte of a file in place.
pub(super) fn flip(path: &Path, offset: u64, bits: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ bits], offset).unwrap();
}

#[test]
fn only_wanted_payloads_are_given_and_all_are_checked() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["one", "two"]);
    assert_eq!(journal.append(b"three").unwrap(), Appended::Written);
    let wanted = |_: usize, payload: &[u8]| payload != b"two";
    let contents = read_wanted(dir.path(), &wanted).unwrap().unwrap();
    assert_eq!(contents.payloads, payloads(&["one", "three"]));
    assert_eq!(contents.damage, None);
    // The unwanted one is damaged: what is behind it can't be believed.
    let path = Slot::A.path(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let contents = read_wanted(dir.path(), &wanted).unwrap().unwrap();
    assert_eq!(contents.payloads, payloads(&["one"]));
    assert!(contents.damage.is_some());
}
