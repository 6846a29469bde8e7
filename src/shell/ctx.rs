//! What every part of the loop needs: the poll, the inbox, the configuration, the time.
//!
//! Must not know the parts.

use super::bequest::{Bequest, Originals, Twin};
use super::cgroups;
use super::packed::PackedConfig;
use super::token::Source;
use crate::config::{Config, ServerConfig};
use crate::core::{Event, Ms};
use crate::output::tail::last_lines;
use crate::sys::mark::Owner;
use crate::sys::{self, process, pulse::Pulse};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// The parts' common ground.
pub struct Ctx {
    pub poll: Poll,
    /// What happened and was not yet handed to the core.
    pub inbox: VecDeque<Event>,
    /// How many there were so far.
    pub told: u64,
    /// Sources whose event could not be dealt with; see `look_again`.
    pub again: BTreeSet<Source>,
    pub config: Config,
    /// The same, to be handed on.
    pub packed: PackedConfig,
    /// The places of `config.servers`, in the order of their names.
    by_name: Vec<u32>,
    pub twin: Twin,
    pub originals: Originals,
    /// What marks the servers' processes.
    pub owner: Owner,
    /// The file of the program that the pair was started with.
    pub image: PathBuf,
    pub pulse: Pulse,
    /// Where the servers' cgroups are.
    pub cgroup_root: cgroups::Root,
    /// Standard output and error of whoever started the pair, where a server is to inherit them.
    pub inheritance: Option<[OwnedFd; 2]>,
}

impl Ctx {
    /// # Errors
    /// No epoll instance can be made.
    pub fn new(
        bequest: &Bequest,
        config: Config,
        packed: PackedConfig,
        pulse: Pulse,
    ) -> io::Result<Ctx> {
        let name = |at: &u32| config.servers.get(*at as usize).map(|one| &one.name);
        let mut by_name: Vec<u32> = (0..).take(config.servers.len()).collect();
        by_name.sort_unstable_by(|one, other| name(one).cmp(&name(other)));
        Ok(Ctx {
            by_name,
            poll: Poll::new()?,
            inbox: VecDeque::new(),
            told: 0,
            again: BTreeSet::new(),
            twin: bequest.twin,
            originals: bequest.originals,
            owner: Owner::new(&config.node.name, &config.node.run_dir, &config.file),
            image: bequest.image.clone(),
            pulse,
            inheritance: None,
            cgroup_root: cgroups::root(&config.node),
            config,
            packed,
        })
    }

    /// The configuration of a server; `None` for one that is left over.
    pub fn server(&self, name: &str) -> Option<&ServerConfig> {
        self.config.servers.get(self.place(name)?)
    }

    /// Its place among those of the configuration.
    pub fn place(&self, name: &str) -> Option<usize> {
        let known = |at: &u32| match self.config.servers.get(*at as usize) {
            Some(one) => one.name.as_str(),
            None => "",
        };
        let at = self.by_name.binary_search_by(|at| known(at).cmp(name)).ok()?;
        self.by_name.get(at).map(|at| *at as usize)
    }

    /// As `server`, and that of a server which was taken out while its process lived.
    pub fn server_or_retired(&self, name: &str) -> Option<&ServerConfig> {
        let is_it = |one: &&ServerConfig| one.name == name;
        self.server(name).or_else(|| self.config.applied.retired.iter().find(is_it))
    }

    /// Tells the core, after what it has asked for so far.
    pub fn tell(&mut self, event: Event) {
        self.told += 1;
        self.inbox.push_back(event);
    }

    /// The descriptor could not be asked or read. An edge comes only once, so the event is dealt
    /// with again in the next turn, at the latest at the next heartbeat.
    pub fn look_again(&mut self, source: Source) {
        self.again.insert(source);
    }

    /// The monotonic time.
    pub fn now(&self) -> Ms {
        process::monotonic_ms()
    }

    /// Watches a descriptor for reading.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC (fs.epoll.max_user_watches).
    pub fn watch(&self, fd: &impl AsRawFd, source: Source) -> io::Result<()> {
        let raw = fd.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&raw), source.token(), Interest::READABLE)
    }

    /// Waits for an event, at most this long; none: until the next one. `events` has what came.
    ///
    /// # Errors
    /// Those of epoll_wait(2), but not that a signal came.
    pub fn wait(&mut self, events: &mut Events, time: Duration) -> io::Result<()> {
        let is_brief = !time.is_zero() && time < Duration::from_millis(1);
        if is_brief {
            // The poll rounds up to whole milliseconds.
            sys::wait_briefly(&self.poll, time);
        }
        match self.poll.poll(events, Some(if is_brief { Duration::ZERO } else { time })) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Stops watching it; must come before its close, because a child may still hold a copy of it
    /// and keep it firing.
    pub fn unwatch(&self, fd: &impl AsRawFd) {
        let raw = fd.as_raw_fd();
        // It was never watched, or is already forgotten: nothing to do then.
        let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
    }

    /// Stops watching and closes.
    pub fn close(&self, fd: OwnedFd) {
        self.unwatch(&fd);
    }

    /// Every server's name with each of its FIFOs.
    pub fn fifos(&self) -> Vec<(String, PathBuf)> {
        let run_dir = &self.config.node.run_dir;
        let piped = self.config.all_servers().flat_map(ServerConfig::piped);
        piped.map(|one| (one.server.name.to_string(), one.fifo_path(run_dir))).collect()
    }

    /// The last lines that a server wrote: of standard error where that has a log of its own and
    /// something is in it. None where its output is in no log.
    pub fn last_output(&self, name: &str, lines: usize, max_bytes: usize) -> Vec<String> {
        let logged = self.server(name).into_iter().flat_map(ServerConfig::logged);
        let mut found = Vec::new();
        for stream in logged {
            let last = last_lines(&stream.log_path(&self.config.node.log_dir), lines, max_bytes);
            if !last.is_empty() {
                found = last;
            }
        }
        found
    }
}
