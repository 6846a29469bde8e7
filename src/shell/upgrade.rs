//! The pair moves to the program that is on disk now.
//!
//! Must not trust it: a process of its own proves first that the new program understands what it will be
//! handed and reads the journal, while nothing is touched; then a standby that runs it proves that it
//! speaks the link's protocol by being WATCHING; then the active hands over, and the new one starts
//! its standby from the program that it runs itself. A program that does not work changes nothing.

pub mod prover;

use super::Shell;
use super::bequest::{self, at};
use super::helpers::end_of;
use super::pair_requests::parse_pair;
use super::requests::Refused;
use super::token::Source;
use crate::api::PairAnswer;
use crate::core::ask::Verb;
use crate::core::{ClientId, Exit, Ms};
use crate::sys::{pidfd, process};
use crate::wire::PROTOCOL;
use log::{info, warn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use prover::Proof;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A program that has proven nothing by then does not do so any more.
const PROVER_LIMIT_MS: u64 = 20_000;
/// What the prover hands back may not be larger.
const PROOF_MAX: u64 = 64 << 10;

/// An upgrade that is being proven.
#[derive(Default)]
pub struct Upgrade {
    proving: Option<Proving>,
}

struct Proving {
    process: Option<OwnedFd>,
    image: OwnedFd,
    result: File,
    /// Who waits for it.
    client: Option<ClientId>,
    id: String,
    until: Ms,
}

impl Upgrade {
    /// Whoever asked with this id has asked again, and waits now as this client.
    fn wait_again(&mut self, asked: &str, client: ClientId) -> bool {
        let found = self.proving.as_mut().filter(|proving| proving.id == asked);
        found.map(|proving| proving.client = Some(client)).is_some()
    }

    /// Nobody waits for it any more; it goes on.
    pub fn forget_client(&mut self, client: ClientId) {
        if let Some(proving) = &mut self.proving {
            proving.client.take_if(|waiting| *waiting == client);
        }
    }

    pub fn deadline(&self) -> Option<Ms> {
        self.proving.as_ref().map(|proving| proving.until)
    }
}

impl Shell {
    pub(super) fn on_upgrade(&mut self, client: ClientId, body: &[u8]) -> Result<(), Refused> {
        let ask = parse_pair(body)?;
        if self.node.record.handed_over.contains(&ask.id) {
            self.ask_about_pair(client, ask, Verb::Switch);
            return Ok(());
        }
        if self.upgrade.wait_again(&ask.id, client) || self.succession.wait_again(&ask.id, client) {
            return Ok(());
        }
        self.check_upgrade()?;
        let file = &self.ctx.image;
        let path = file.display();
        let (image, is_own) = open_program(file).map_err(|error| {
            (409, 1, format!("cannot upgrade: {path}: {error}; nothing was changed"))
        })?;
        if is_own {
            self.renew_keeper();
            let text = format!("the active runs {path} as it is on disk; nothing to do");
            self.control.answer(&mut self.ctx, client, 200, &PairAnswer { exit: 0, text });
            return Ok(());
        }
        let text = format!("cannot run {path}");
        let waiting = ask.wait.then_some(client);
        let proving = self
            .start_prover(image, waiting, ask.id)
            .map_err(|error| (500, 1, format!("{text}: {error}; nothing was changed")))?;
        self.upgrade.proving = Some(proving);
        if !ask.wait {
            let text = "it is being proven; the log says what comes of it".to_string();
            self.control.answer(&mut self.ctx, client, 200, &PairAnswer { exit: 0, text });
        }
        Ok(())
    }

    /// Is this a moment for it?
    fn check_upgrade(&self) -> Result<(), Refused> {
        if self.node.record.ending.is_some() {
            return Err((409, 75, "the pair is ending".to_string()));
        }
        let is_busy = self.upgrade.proving.is_some().then_some("an upgrade is on its way");
        if let Some(text) = self.succession.obstacle().or(is_busy) {
            return Err((503, 75, format!("{text}; try again")));
        }
        if self.ctx.config.node.standby_port.is_none() {
            let text = "without standbyPort nobody can go on with another program; end the pair \
                        (`nodemanager shutdown`, its servers stay up) and start it again";
            return Err((409, 1, text.to_string()));
        }
        Ok(())
    }

    fn start_prover(
        &mut self,
        image: OwnedFd,
        client: Option<ClientId>,
        id: String,
    ) -> io::Result<Proving> {
        let result = memfd_create(c"nodemanager-proof", MFdFlags::MFD_CLOEXEC)?;
        let packed = self.bequest().pack()?;
        let config = self.ctx.packed.handed();
        let fds = vec![at(&packed, bequest::BEQUEST), config, at(&result, bequest::RESULT)];
        let program = program_path(&image)?;
        let process = Some(self.spawn_watched("prover", Some(program), fds, Source::Prover)?);
        let until = self.ctx.now().after(PROVER_LIMIT_MS);
        Ok(Proving { process, image, result: File::from(result), client, id, until })
    }

    /// The process that was to prove the new program has ended.
    pub(super) fn on_prover(&mut self) {
        let Some(proving) = &mut self.upgrade.proving else { return };
        let Some(exit) = end_of(&mut self.ctx, &mut proving.process, Source::Prover) else {
            return;
        };
        let Some(mut proving) = self.upgrade.proving.take() else { return };
        let path = self.ctx.image.display().to_string();
        let proven = read_proof(&mut proving.result, exit).and_then(|proof| {
            self.check_upgrade().map_err(|(_, _, text)| text)?;
            Ok(proof)
        });
        match proven {
            Ok(Proof { version, .. }) => {
                let (own, records) = (env!("CARGO_PKG_VERSION"), self.node.servers.len());
                info!(target: "0163", "upgrade from {own} to {version} ({path}): it has read the journal (servers: {records}); a standby is started that runs it, and takes over");
                self.begin_upgrade(proving.image, proving.client, proving.id);
            }
            Err(text) => {
                let text = format!("not upgraded: {path}: {text}; nothing was changed");
                warn!(target: "0164", "{text}");
                self.not_upgraded(&text);
                if let Some(client) = proving.client {
                    self.control.refuse(&mut self.ctx, client, 409, 1, text);
                }
            }
        }
    }

    /// After an upgrade the keeper follows, once the pair is whole: until then a keeper that has to start
    /// the pair again takes the program before.
    pub(super) fn renew_keeper(&self) {
        let Some(keeper) = self.keeper.keeper() else { return };
        let inode = |path: &str| std::fs::metadata(path).map(|one| (one.dev(), one.ino())).ok();
        let theirs = inode(&format!("/proc/{}/exe", keeper.pid));
        let is_other = theirs.is_some() && theirs != inode("/proc/self/exe");
        // Who does not know the signal would die of it.
        if is_other && process::catches(keeper.pid, libc::SIGUSR2) {
            self.keeper.signal(libc::SIGUSR2);
        }
    }

    /// Ends a prover that takes too long; called in each turn.
    pub(super) fn look_at_prover(&mut self) {
        let now = self.ctx.now();
        if let Some(proving) = self.upgrade.proving.as_mut().filter(|one| one.until <= now) {
            // Its end is told as any other; it is asked for once.
            let _ = proving.process.as_ref().map(|it| pidfd::signal(it, libc::SIGKILL));
            proving.until = now.after(PROVER_LIMIT_MS);
        }
    }
}

/// The file as it is now, and whether it is what this process runs.
fn open_program(path: &std::path::Path) -> io::Result<(OwnedFd, bool)> {
    use std::os::unix::fs::OpenOptionsExt;
    // A FIFO would keep this process waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::other("is no program"));
    }
    let own = std::fs::metadata("/proc/self/exe")?;
    let is_own = (own.dev(), own.ino()) == (found.dev(), found.ino());
    Ok((file.into(), is_own))
}

/// Where a child finds it, also when the file is replaced once more: this process has it open.
pub fn program_path(image: &OwnedFd) -> io::Result<CString> {
    let text = format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd());
    CString::new(text).map_err(io::Error::other)
}

fn read_proof(file: &mut File, exit: Exit) -> Result<Proof, String> {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(PROOF_MAX).read_to_end(&mut bytes));
    let is_well = exit == Exit::Code(0) && read.is_ok();
    let found = serde_json::from_slice::<Result<Proof, String>>(&bytes);
    match found {
        Ok(Ok(proof)) if is_well && proof.protocol == PROTOCOL => Ok(proof),
        Ok(Ok(proof)) if is_well => Err(format!(
            "version {} speaks protocol {} on the link, this one {PROTOCOL}; end the pair \
             (`nodemanager shutdown`, its servers stay up) and start it with the new program",
            proof.version, proof.protocol
        )),
        Ok(Err(text)) => Err(text),
        _ => Err(format!(
            "it does not prove that it is a node manager that can go on ({})",
            crate::core::server::exit_text(exit)
        )),
    }
}
