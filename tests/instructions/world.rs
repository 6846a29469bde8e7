//! A pair in one process: the real core of both twins, the real journal, link and pulse, and no processes.
//!
//! Carries out actions as the shell does, in the same order. Must not do more than the shell, or it would be
//! counted; and what the shell does with processes (fork, signals, pidfds, /proc, output), its log lines and its
//! events have no place here.

use nodemanager::config::{self, Config};
use nodemanager::core::node::Node;
use nodemanager::core::{Action, Event, Found, Identity, Ms, Record, Recovered};
use nodemanager::shell::bequest::{Bequest, Originals, Twin};
use nodemanager::shell::packed::PackedConfig;
use nodemanager::shell::requests::message_event;
use nodemanager::shell::store::Store;
use nodemanager::shell::{make_dirs, plans};
use nodemanager::sys::mark::Owner;
use nodemanager::sys::pulse::Pulse;
use nodemanager::wire::{Decoder, MAX_FRAME, MAX_PUSH, Message, Secret, encode, encode_entry};
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Any moment: the core takes the time from its caller.
const BEGIN: Ms = Ms(100_000_000);
/// No process has this number (the kernel's limit is lower), and all of them have as many digits.
const NO_PID: i32 = 5_000_000;
/// Paths are in many records, so they are equally long wherever the test runs.
const PATH_LENGTH: usize = 64;

/// One twin and what it holds.
pub struct One {
    pub node: Node,
    inbox: VecDeque<Event>,
    store: Store,
    twin: Twin,
    /// Bytes for the other one.
    sent: Vec<u8>,
    decoder: Decoder,
    is_linked: bool,
    is_active: bool,
    /// What the next standby is handed.
    pub handed: Option<Vec<u8>>,
}

/// The pair.
pub struct World {
    pub config: Config,
    /// The same, as it is handed on.
    pub packed: PackedConfig,
    pub now: Ms,
    pub active: One,
    pub standby: Option<One>,
    pulse: Pulse,
    last_ticks: u64,
    _home: Home,
}

/// A directory that is removed at the end.
struct Home(PathBuf);

impl Home {
    fn new() -> Home {
        let name = format!("nm-paths-{:010}-", std::process::id());
        let short = std::env::temp_dir().join(name).display().to_string();
        let home = Home(PathBuf::from(format!("{short:x<PATH_LENGTH$}")));
        fs::create_dir_all(&home.0).expect("the test's home");
        home
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration file with so many servers, which restart at once and are up once they run.
fn write_config(home: &Path, servers: usize) -> PathBuf {
    let mut text = "[nodeManager]\nname = \"paths\"\nstandbyPort = 7731\n".to_string();
    for number in 0..servers {
        let _ = write!(
            text,
            "\n[[server]]\nname = \"server-{number:05}\"\ncommand = \"/bin/sleep 1000000\"\nsettleTime = \"0s\"\n\
             env = {{ LANG = \"C\" }}\nrestart = {{ delay = \"0s\", tries = 1000 }}\n"
        );
    }
    let file = home.join("nodemanager.toml");
    fs::write(&file, text).expect("the configuration can be written");
    file
}

/// What `self.bequest()` of the shell is.
pub fn bequest() -> Bequest {
    let originals = Originals { nofile: (1024, 4096), umask: 0o22, oom_score_adj: Some(0) };
    Bequest {
        secret: Secret("0123456789abcdef0123456789abcdef".to_string()),
        revives: true,
        has_reports: true,
        active: Some(Identity { pid: NO_PID, start_ticks: 1, inode: 0 }),
        image: PathBuf::from("/usr/bin/nodemanager"),
        ..Bequest::new(Twin::B, originals)
    }
}

impl One {
    fn new(node: Node, config: &Config, twin: Twin, is_active: bool) -> One {
        let owner = Owner::new(&config.node.name, &config.node.run_dir, &config.file);
        let store = Store::new(&config.node, owner, config.servers.len());
        One {
            node,
            inbox: VecDeque::new(),
            store: store.expect("/proc can be read"),
            twin,
            sent: Vec::new(),
            decoder: Decoder::new(MAX_FRAME),
            is_linked: false,
            is_active,
            handed: None,
        }
    }

    fn send(&mut self, message: &Message) {
        if self.is_linked {
            encode(message, &mut self.sent).expect("the message fits into a frame");
        }
    }

    /// Takes in what the other one sent.
    fn receive(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_PUSH) {
            self.decoder.push(piece).expect("all before it was taken");
            while let Some(message) = self.decoder.next().expect("a message") {
                self.inbox.extend(message_event(message, self.is_active));
            }
        }
    }
}

impl World {
    /// A pair that has not begun.
    pub fn new(servers: usize) -> World {
        let home = Home::new();
        let config = config::load(&write_config(&home.0, servers)).expect("a sound configuration");
        make_dirs(&config).expect("the directories can be made");
        let (pair, plans) = plans(&config, &|_| false);
        let node = Node::first(BEGIN, pair, plans, false);
        let mut active = One::new(node, &config, Twin::A, true);
        // With none, survivors are looked for among the processes of the machine, however many they are.
        active.store.open(Vec::new());
        let pulse = Pulse::create().expect("a memfd");
        let (now, standby, last_ticks) = (BEGIN, None, 1_000_000);
        let packed = PackedConfig::new(&config).expect("a memfd");
        World { config, packed, now, active, standby, pulse, last_ticks, _home: home }
    }

    /// The first active starts all servers.
    pub fn start(&mut self) {
        let mut actions = Vec::new();
        self.active.node.begin(self.now, &mut actions);
        self.carry_out(true, actions);
        self.turn();
    }

    /// A standby that was handed its bequest gets its copy, until it watches.
    pub fn join(&mut self, standby: Node) {
        let process = self.next_process();
        let mut standby = One::new(standby, &self.config, Twin::B, false);
        (standby.is_linked, self.active.is_linked) = (true, true);
        standby.inbox.push_back(Event::LinkUp);
        self.standby = Some(standby);
        self.active.inbox.push_back(Event::StandbySpawned { process });
        self.active.inbox.push_back(Event::StandbyConnected);
        self.turn();
    }

    /// The active is dead: the standby goes on.
    pub fn take_over(&mut self) {
        let Some(mut standby) = self.standby.take() else { panic!("there is no standby") };
        standby.is_active = true;
        standby.is_linked = false;
        standby.inbox.push_back(Event::ActiveDied);
        self.active = standby;
        self.turn();
    }

    /// Both journal files are nearly empty again: no compaction comes in the middle of what is counted.
    pub fn open_journal(&mut self) {
        let entries = self.active.node.entries();
        self.active.store.open(entries);
    }

    /// Something happened to the active.
    pub fn tell(&mut self, event: Event) {
        self.active.inbox.push_back(event);
    }

    /// Events, actions and messages, until nothing is left.
    pub fn turn(&mut self) {
        loop {
            let is_quiet = !self.empty_inbox(true) & !self.empty_inbox(false) & !self.deliver();
            if is_quiet {
                return;
            }
        }
    }

    fn empty_inbox(&mut self, of_active: bool) -> bool {
        let mut any = false;
        while let Some(one) = self.one(of_active)
            && let Some(event) = one.inbox.pop_front()
        {
            any = true;
            let mut actions = Vec::new();
            let now = self.now;
            let Some(one) = self.one(of_active) else { return any };
            one.node.handle(now, event, &mut actions);
            self.carry_out(of_active, actions);
        }
        any
    }

    fn deliver(&mut self) -> bool {
        let Some(standby) = &mut self.standby else { return false };
        let (there, back) =
            (std::mem::take(&mut self.active.sent), std::mem::take(&mut standby.sent));
        standby.receive(&there);
        self.active.receive(&back);
        !there.is_empty() || !back.is_empty()
    }

    fn one(&mut self, of_active: bool) -> Option<&mut One> {
        if of_active { Some(&mut self.active) } else { self.standby.as_mut() }
    }

    /// What is due now, as in `Shell::tick`.
    pub fn tick(&mut self, of_active: bool) {
        let now = self.now;
        let Some(one) = self.one(of_active) else { return };
        if one.node.deadline().is_some_and(|at| at <= now) {
            let mut actions = Vec::new();
            one.node.tick(now, &mut actions);
            self.carry_out(of_active, actions);
        }
    }

    fn carry_out(&mut self, of_active: bool, actions: Vec<Action>) {
        for action in actions {
            let event = self.act(of_active, action);
            if let (Some(event), Some(one)) = (event, self.one(of_active)) {
                one.inbox.push_back(event);
            }
        }
    }

    /// One action; the event that answers it.
    fn act(&mut self, of_active: bool, action: Action) -> Option<Event> {
        if let Action::Spawn { server, start_number } = action {
            let process = self.next_process();
            return Some(Event::Spawned { server, start_number, process });
        }
        let one = if of_active { &mut self.active } else { self.standby.as_mut()? };
        match action {
            Action::OpenGate { server, start_number } => {
                return Some(Event::Executed { server, start_number });
            }
            Action::ProbeGroup { server, process } => {
                return Some(Event::Group { server, process, living: None });
            }
            Action::Verify { server, process, .. } => {
                return Some(Event::Verified { server, process, found: Found::Alive });
            }
            Action::OpenJournal { entries, goes_on: false } => one.store.open(entries),
            Action::OpenJournal { entries, goes_on: true } => {
                let node = &one.node;
                one.store.go_on(entries, || node.entries());
            }
            Action::Save { entry, answer } => {
                if let Record::Node(node) = &entry.record
                    && let Some(ending) = &node.ending
                {
                    self.pulse.set_end_asked(ending.asked());
                }
                let node = &one.node;
                let text = serde_json::to_vec(&*entry).expect("the text of a record");
                let result = one.store.save(&text, || node.entries());
                if one.is_linked {
                    encode_entry(&text, &mut one.sent).expect("the record fits into a frame");
                }
                let seq = entry.seq;
                return answer.then_some(match result {
                    Ok(()) => Event::Saved { seq },
                    Err(error) => Event::NotSaved { seq, error },
                });
            }
            Action::SendSnapshot { entries, seq } => {
                let servers = entries.len() as u64;
                for entry in entries {
                    one.send(&Message::Entry(entry));
                }
                one.send(&Message::SnapshotEnd { seq, servers });
            }
            Action::SpawnStandby => one.handed = bequest().to_bytes().ok(),
            Action::Ack { seq } => one.send(&Message::Ack { seq }),
            Action::SayWatching => one.send(&Message::Watching),
            Action::Beat => {
                self.pulse.beat(one.twin.slot());
                let counter = self.pulse.read(one.twin.slot()).counter;
                one.send(&Message::Beat { counter });
                let counter = self.pulse.read(one.twin.other().slot()).counter;
                if of_active {
                    assert!(!one.store.needs_open(), "the journal is there");
                }
                return Some(Event::Pulse { counter });
            }
            Action::TakeLock => return Some(Event::Locked),
            Action::ReadJournal { known_seq, .. } => {
                let recovered =
                    one.store.read(false, known_seq, &[]).expect("the journal can be read");
                let (end_asked, disabled) = (self.pulse.end_asked(), Some(BTreeSet::new()));
                return Some(Event::Recovered(Recovered { end_asked, disabled, ..recovered }));
            }
            // Done with processes and doors, or told.
            _ => {}
        }
        None
    }

    fn next_process(&mut self) -> Identity {
        self.last_ticks += 1;
        Identity { pid: NO_PID, start_ticks: self.last_ticks, inode: self.last_ticks }
    }
}
