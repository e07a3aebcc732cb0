//! Which of a name's addresses to measure: the first that answers.
//!
//! A name often has an IPv6 and an IPv4 address, and the reflector answers at one of them
//! only. Each is asked by a probe, one a little after the other (RFC 8305), and the first
//! answer decides. Where there is one address there is nothing to ask.

use crate::session::error_estimate;
use hopgap_engine::sender::trace_request;
use hopgap_net::clock::Clock;
use hopgap_proto::stamp::SessionKeys;
use hopgap_proto::time::{Mono, Span};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The next address is asked this long after the one before (RFC 8305 section 5).
const STAGGER: Span = Span::from_millis(250);
/// An address that is silent is asked again this often.
const AGAIN: Span = Span::from_millis(400);
/// Whoever does not answer for this long does not answer.
const PATIENCE: Span = Span::from_millis(2_000);
/// The sockets are looked at this often.
const LOOK: Duration = Duration::from_millis(5);

/// What counts as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// A reply of a reflector.
    Replies,
    /// That, or the host's word that nothing listens on the port: it is reached.
    RefusalsToo,
}

/// What came of asking an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It answered.
    Answer,
    /// It said that nothing listens on the port.
    Refusal,
    /// The kernel would not send to it, for the want of a route or an address of the family.
    Unreachable(ErrorKind),
    /// Nothing.
    Silence,
    /// It was not asked: another answered before.
    NotAsked,
}

/// The address that was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// To be measured.
    pub destination: SocketAddr,
    /// Whether it answered, or was reached where that is enough.
    pub answered: bool,
    /// What came of each address, in the order of the resolver.
    pub heard: Vec<(SocketAddr, Reaction)>,
}

/// Asks each of `addresses`, of which there is at least one, and chooses the first that
/// answers; where none does, the first to which there is a way.
pub fn choose(
    first: SocketAddr,
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    keys: Option<&SessionKeys>,
    counts: Counts,
) -> Choice {
    let mut asked: Vec<Candidate> = addresses
        .iter()
        .map(|a| Candidate::new(*a, source))
        .collect();
    if asked.len() > 1 {
        ask(&mut asked, keys, counts);
    }
    let heard: Vec<_> = asked.iter().map(|a| (a.address, a.heard)).collect();
    let of = |fits: fn(Reaction) -> bool| heard.iter().find(|(_, h)| fits(*h)).map(|(a, _)| *a);
    let answering = of(|h| h == Reaction::Answer).or_else(|| match counts {
        Counts::RefusalsToo => of(|h| h == Reaction::Refusal),
        Counts::Replies => None,
    });
    let destination = answering
        .or_else(|| of(|h| !matches!(h, Reaction::Unreachable(_))))
        .unwrap_or(first);
    Choice {
        destination,
        answered: answering.is_some(),
        heard,
    }
}

struct Candidate {
    address: SocketAddr,
    source: Option<IpAddr>,
    socket: Option<UdpSocket>,
    /// When it is asked next; nothing asks it once its fate is known.
    next: Option<Mono>,
    heard: Reaction,
}

impl Candidate {
    fn new(address: SocketAddr, source: Option<IpAddr>) -> Self {
        Self {
            address,
            source,
            socket: None,
            next: None,
            heard: Reaction::NotAsked,
        }
    }

    fn begin(&mut self) {
        let any: IpAddr = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let open = || {
            let socket = UdpSocket::bind((self.source.unwrap_or(any), 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(self.address)?;
            Ok::<_, std::io::Error>(socket)
        };
        match open() {
            Ok(socket) => {
                self.socket = Some(socket);
                self.heard = Reaction::Silence;
                self.next = Some(Clock::now());
            }
            Err(error) => self.heard = Reaction::Unreachable(error.kind()),
        }
    }

    /// Sends what is due and reads what came.
    fn turn(&mut self, request: &[u8]) {
        let Some(socket) = &self.socket else { return };
        let mut said = None;
        if self.next.is_some_and(|next| Clock::now() >= next) {
            self.next = Some(Clock::now() + AGAIN);
            said = socket.send(request).err();
        }
        let mut reply = [0; 256];
        match socket.recv(&mut reply) {
            Ok(_) => self.heard = Reaction::Answer,
            Err(error) if error.kind() != ErrorKind::WouldBlock => said = Some(error),
            Err(_) => {}
        }
        match said.map(|error| error.kind()) {
            _ if self.heard == Reaction::Answer => {}
            None | Some(ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Some(ErrorKind::ConnectionRefused) => self.heard = Reaction::Refusal,
            Some(kind) => self.heard = Reaction::Unreachable(kind),
        }
        self.socket = None;
    }
}

fn ask(asked: &mut [Candidate], keys: Option<&SessionKeys>, counts: Counts) {
    let request = trace_request(Clock::pair().wall, error_estimate(), keys);
    let began = Clock::now();
    let mut next_begins = began;
    loop {
        let waiting = asked.iter().any(|a| a.socket.is_some());
        let unasked = asked.iter_mut().find(|a| a.heard == Reaction::NotAsked);
        match unasked {
            // At once where all before it have failed.
            Some(next) if Clock::now() >= next_begins || !waiting => {
                next.begin();
                next_begins = Clock::now() + STAGGER;
            }
            Some(_) => {}
            None if !waiting => return,
            None => {}
        }
        for one in asked.iter_mut() {
            one.turn(&request);
        }
        let decided = asked.iter().any(|a| match a.heard {
            Reaction::Answer => true,
            Reaction::Refusal => counts == Counts::RefusalsToo,
            _ => false,
        });
        if decided || Clock::now() - began >= PATIENCE {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// What is to be said of the choice; nothing where there was none.
pub fn told(host: &str, choice: &Choice) -> Option<String> {
    if choice.heard.len() < 2 {
        return None;
    }
    let chosen = choice.destination.ip();
    let mut said = match choice.answered {
        true => format!("{host}: going to {chosen}, which answered"),
        false => format!("{host}: no address answered, going to {chosen}"),
    };
    for (address, heard) in &choice.heard {
        if *address == choice.destination {
            continue;
        }
        let _ = write!(said, "; {} {}", address.ip(), words(*heard));
    }
    Some(said)
}

fn words(heard: Reaction) -> String {
    match heard {
        Reaction::Answer => "answered, too".to_owned(),
        Reaction::Refusal => "has nothing that listens on the port".to_owned(),
        Reaction::Unreachable(kind) => format!("cannot be sent to ({kind})"),
        Reaction::Silence => "did not answer".to_owned(),
        Reaction::NotAsked => "was not asked".to_owned(),
    }
}

#[cfg(test)]
mod tests;
