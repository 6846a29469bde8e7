//! What a readiness event is about, packed into mio's token.
//!
//! Must hold no state. The kind is in the upper bits and a number in the lower ones, so the loop
//! needs no table from tokens to things.

use mio::Token;

/// Where a readiness event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Signals,
    ControlListener,
    LinkListener,
    /// The keeper's reports of exit statuses.
    Reports,
    /// The other twin's pidfd.
    OtherTwin,
    /// The keeper's pidfd.
    Keeper,
    /// A client of the control socket.
    Client(usize),
    /// A connection on standbyPort.
    Peer(usize),
    /// The gate's socket of a server's child.
    Gate(usize),
    /// The pidfd of a server's leader.
    Leader(usize),
    /// The pidfd of one more living member of a dead leader's group.
    Witness(usize),
    /// A server's FIFO.
    Output(usize),
    /// A child that nobody wanted any more.
    Discarded(usize),
    /// The process that writes the remembered wishes.
    Saver,
    /// A connection that asks a server how it is.
    Probe(usize),
    /// A command that runs beside a server.
    Job(usize),
    /// The pidfd of a hook or another command of a server.
    Task(usize),
    /// The process that compresses logs.
    Compressor,
    /// What a server says of itself.
    Told(usize),
    /// The process that reads a configuration.
    Applier,
    /// The process in which another program shows that it could go on.
    Prover,
    /// A program that is run for an event.
    Hook(usize),
    /// The process that sends mail.
    Mailer,
    /// Where metrics are told.
    ScrapeListener,
    /// Who asks for metrics.
    Scraper(usize),
}

const NUMBER_BITS: u32 = 40;
const NUMBER_MASK: usize = (1 << NUMBER_BITS) - 1;

impl Source {
    /// Its token.
    pub fn token(self) -> Token {
        let (kind, number) = match self {
            Source::Signals => (0, 0),
            Source::ControlListener => (1, 0),
            Source::LinkListener => (2, 0),
            Source::Reports => (3, 0),
            Source::OtherTwin => (4, 0),
            Source::Keeper => (5, 0),
            Source::Client(number) => (6, number),
            Source::Peer(number) => (7, number),
            Source::Gate(number) => (8, number),
            Source::Leader(number) => (9, number),
            Source::Witness(number) => (10, number),
            Source::Output(number) => (11, number),
            Source::Discarded(number) => (12, number),
            Source::Saver => (13, 0),
            Source::Probe(number) => (20, number),
            Source::Job(number) => (21, number),
            Source::Task(number) => (22, number),
            Source::Compressor => (14, 0),
            Source::Told(number) => (15, number),
            Source::Applier => (16, 0),
            Source::Prover => (17, 0),
            Source::Mailer => (18, 0),
            Source::ScrapeListener => (19, 0),
            Source::Hook(number) => (23, number),
            Source::Scraper(number) => (24, number),
        };
        Token(kind << NUMBER_BITS | number & NUMBER_MASK)
    }

    /// What the token stands for; `None` for one that was never given.
    pub fn of(token: Token) -> Option<Source> {
        let number = token.0 & NUMBER_MASK;
        Some(match token.0 >> NUMBER_BITS {
            0 => Source::Signals,
            1 => Source::ControlListener,
            2 => Source::LinkListener,
            3 => Source::Reports,
            4 => Source::OtherTwin,
            5 => Source::Keeper,
            6 => Source::Client(number),
            7 => Source::Peer(number),
            8 => Source::Gate(number),
            9 => Source::Leader(number),
            10 => Source::Witness(number),
            11 => Source::Output(number),
            12 => Source::Discarded(number),
            13 => Source::Saver,
            20 => Source::Probe(number),
            21 => Source::Job(number),
            22 => Source::Task(number),
            14 => Source::Compressor,
            15 => Source::Told(number),
            16 => Source::Applier,
            17 => Source::Prover,
            18 => Source::Mailer,
            19 => Source::ScrapeListener,
            23 => Source::Hook(number),
            24 => Source::Scraper(number),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_comes_back_from_its_token() {
        for source in [
            Source::Signals,
            Source::ControlListener,
            Source::LinkListener,
            Source::Reports,
            Source::OtherTwin,
            Source::Keeper,
            Source::Saver,
            Source::Compressor,
            Source::Applier,
            Source::Prover,
            Source::Mailer,
            Source::ScrapeListener,
            Source::Scraper(3),
            Source::Hook(4),
            Source::Client(1),
            Source::Peer(2),
            Source::Gate(3),
            Source::Leader(9_999),
            Source::Witness(5),
            Source::Output(6),
            Source::Probe(7),
            Source::Job(8),
            Source::Task(8),
            Source::Told(7),
            Source::Discarded(NUMBER_MASK),
        ] {
            assert_eq!(Source::of(source.token()), Some(source));
        }
        assert_eq!(Source::of(Token(usize::MAX)), None);
    }
}
