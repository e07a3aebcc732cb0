//! Chooses which of a name's addresses to measure: the first that answers.
//!
//! A name often has an IPv6 and an IPv4 address, but the reflector may answer at only one of
//! them. A probe is sent to each, one shortly after the other (RFC 8305), and the first answer
//! decides. A single address is not probed.

use crate::session::error_estimate;
use hopgap_engine::sender::trace_request;
use hopgap_net::clock::Clock;
use hopgap_proto::stamp::SessionKeys;
use hopgap_proto::time::{Mono, Span};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Delay before the next address is probed, too (RFC 8305 section 5).
const STAGGER: Span = Span::from_millis(250);
/// Time between probes to a silent address.
const AGAIN: Span = Span::from_millis(400);
/// Longest time to wait for any answer.
const PATIENCE: Span = Span::from_millis(2_000);
/// Pause between two looks at the sockets.
const LOOK: Duration = Duration::from_millis(5);

/// What counts as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// A reply of a reflector.
    Replies,
    /// A reply, or the host's ICMP error that nothing listens on the port: the host is reached.
    RefusalsToo,
}

/// The result of probing an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It answered.
    Answer,
    /// The host said that nothing listens on the port.
    Refusal,
    /// The kernel could not send to it, such as for lack of a route or of an address of the
    /// family.
    Unreachable(ErrorKind),
    /// No answer.
    Silence,
    /// It was not probed, as another answered first or there was only one.
    NotAsked,
}

/// The address that was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The address to measure.
    pub destination: SocketAddr,
    /// Whether it answered, or refused where refusals count.
    pub answered: bool,
    /// What came of each address, in the order of the resolver.
    pub heard: Vec<(SocketAddr, Reaction)>,
}

/// Probes `addresses`, if there are at least two, and returns the first that answered. If none
/// did, returns the first to which the kernel could send, else `first`.
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
    /// When the next probe is due. Unused once the result is known.
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
            // Do not wait if all addresses before it have failed.
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

/// Returns the message about the choice; `None` if there was only one address.
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
