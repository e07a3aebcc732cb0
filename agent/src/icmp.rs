//! The agent's raw sockets: for each address family one that sends traceroutes and one that
//! receives ICMP errors, for all sessions together.
//!
//! A thread reads the errors and gives each to the listeners whose ports and addresses it quotes.
//! It judges nothing else: the listeners, which know what was sent, decide whether an error fits
//! a packet. A listener that fetches too late loses errors and is told how many.

use hopgap_net::NetError;
use hopgap_net::clock::Clock;
use hopgap_net::probe::{Refusal, TxStamps};
use hopgap_net::raw::{Family, IcmpReceived, IcmpSocket, RawPacket, RawSender};
use hopgap_net::timer::{Ready, wait};
use hopgap_proto::icmp::{self, IcmpError, Version};
use hopgap_proto::time::{Span, Wall};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tracing::warn;

/// Most errors that wait for one listener: a tenth of a second of a flood.
const MOST_WAITING: usize = 4_096;
/// Longest wait for an error, so that the reader notices when the last owner is gone.
const IDLE: Span = Span::from_millis(200);
/// Pause between reads when waiting for the socket, or reading it, fails.
const BLIND: std::time::Duration = std::time::Duration::from_millis(5);

/// The raw sockets of one process, each opened on first use. Clones share the sockets.
#[derive(Clone, Default)]
pub struct RawSockets(Arc<Families>);

#[derive(Default)]
struct Families {
    v4: Mutex<Option<Arc<RawFamily>>>,
    v6: Mutex<Option<Arc<RawFamily>>>,
}

impl RawSockets {
    /// Returns the sockets of a family and opens them if needed.
    ///
    /// # Errors
    /// [`NetError::NeedsNetRaw`] without the right to open them, or the kernel's error.
    pub fn of(&self, family: Family) -> Result<Arc<RawFamily>, NetError> {
        let place = match family {
            Family::V4 => &self.0.v4,
            Family::V6 => &self.0.v6,
        };
        let mut place = locked(place);
        if let Some(open) = &*place {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(RawFamily::open(family)?);
        *place = Some(Arc::clone(&open));
        Ok(open)
    }
}

/// The raw sockets of one family.
pub struct RawFamily {
    version: Version,
    sender: Mutex<RawSender>,
    listeners: Arc<Mutex<Listeners>>,
    /// The receiving socket, until the reader thread takes it.
    unread: Mutex<Option<IcmpSocket>>,
}

impl RawFamily {
    fn open(family: Family) -> Result<Self, NetError> {
        Ok(Self {
            version: match family {
                Family::V4 => Version::V4,
                Family::V6 => Version::V6,
            },
            sender: Mutex::new(RawSender::open(family, TxStamps::Off)?),
            unread: Mutex::new(Some(IcmpSocket::open(family)?)),
            listeners: Arc::default(),
        })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// The kernel refused: the packet never left.
    pub fn send(&self, packet: &RawPacket<'_>) -> Result<(), Refusal> {
        locked(&self.sender).send(packet).map(drop)
    }

    /// Registers a listener for errors that quote a packet of these flows. Errors arrive only
    /// after somebody has called [`Self::read`].
    pub fn listen(&self, flows: QuotedFlows) -> Listening {
        let inbox = Arc::new(Inbox::default());
        let mut listeners = locked(&self.listeners);
        listeners.number += 1;
        let number = listeners.number;
        listeners.all.insert(number, (flows, Arc::clone(&inbox)));
        Listening {
            number,
            version: self.version,
            inbox,
            listeners: Arc::downgrade(&self.listeners),
        }
    }

    /// Starts the reader thread, unless it runs already. Call this only after giving up all
    /// rights that are not needed: the new thread inherits the caller's rights.
    pub fn read(&self) {
        let mut unread = locked(&self.unread);
        let Some(socket) = unread.take() else { return };
        let reader = Reader {
            socket,
            version: self.version,
            listeners: Arc::downgrade(&self.listeners),
        };
        let thread = std::thread::Builder::new().name("icmp".to_owned());
        if let Err(error) = thread.spawn(move || reader.run()) {
            warn!("ICMP errors are not read: cannot start a thread: {error}");
        }
    }
}

/// The packets whose ICMP errors a listener wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedFlows {
    /// Source address, with the first port.
    pub source: SocketAddr,
    /// Number of source ports, from the first one on.
    pub ports: u8,
    /// Destination; `None` for any.
    pub target: Option<SocketAddr>,
}

impl QuotedFlows {
    fn holds(&self, error: &IcmpError<'_>) -> bool {
        let quoted = &error.quoted;
        let Some(udp) = quoted.udp else { return false };
        let from = self.source.ip();
        let port = udp.source_port.checked_sub(self.source.port());
        let to = SocketAddr::new(quoted.destination, udp.destination_port);
        port.is_some_and(|port| port < u16::from(self.ports))
            && (from.is_unspecified() || from == quoted.source)
            && self
                .target
                .is_none_or(|t| (t.ip(), t.port()) == (to.ip(), to.port()))
    }
}

#[derive(Default)]
struct Listeners {
    number: u64,
    all: BTreeMap<u64, (QuotedFlows, Arc<Inbox>)>,
}

#[derive(Default)]
struct Inbox {
    waiting: Mutex<VecDeque<ReceivedError>>,
    unread: AtomicU32,
}

/// An ICMP error that arrived.
struct ReceivedError {
    from: IpAddr,
    stamp: Option<Wall>,
    message: Box<[u8]>,
}

/// A registered listener. Dropping it ends the registration.
pub struct Listening {
    number: u64,
    version: Version,
    inbox: Arc<Inbox>,
    listeners: Weak<Mutex<Listeners>>,
}

impl Listening {
    /// Passes the errors since the last call to `f`, each with its sender and its time of
    /// arrival. Returns how many were lost for lack of room.
    pub fn take(&self, mut f: impl FnMut(IpAddr, Option<Wall>, &IcmpError<'_>)) -> u32 {
        let waiting = std::mem::take(&mut *locked(&self.inbox.waiting));
        for heard in waiting {
            if let Ok(error) = IcmpError::parse(self.version, &heard.message) {
                f(heard.from, heard.stamp, &error);
            }
        }
        self.inbox.unread.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(listeners) = self.listeners.upgrade() {
            locked(&listeners).all.remove(&self.number);
        }
    }
}

/// The state of the reader thread.
struct Reader {
    socket: IcmpSocket,
    version: Version,
    listeners: Weak<Mutex<Listeners>>,
}

impl Reader {
    fn run(mut self) {
        let mut complained = false;
        let mut complain = |what: &str, error: std::io::Error| {
            if !complained {
                warn!("{what}: {error}");
            }
            complained = true;
            std::thread::sleep(BLIND);
        };
        while let Some(listeners) = self.listeners.upgrade() {
            let fds = [self.socket.as_fd()];
            if let Err(error) = wait(Some(Clock::now() + IDLE), &fds, &mut [Ready::NONE]) {
                complain("cannot wait for ICMP errors", error);
            }
            loop {
                let version = self.version;
                let read = self
                    .socket
                    .recv_batch(|received| give(version, &received, &listeners));
                match read {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        complain("cannot read ICMP errors", error);
                        break;
                    }
                }
            }
        }
    }
}

/// Gives an error to all listeners whose flows it quotes.
fn give(version: Version, received: &IcmpReceived<'_>, listeners: &Mutex<Listeners>) {
    let message = match version {
        Version::V4 => icmp::ipv4_payload(received.packet).map(|(_, payload)| payload),
        Version::V6 => Some(received.packet),
    };
    let Some((message, Ok(error))) = message.map(|m| (m, IcmpError::parse(version, m))) else {
        return;
    };
    let listeners = locked(listeners);
    for (_, inbox) in listeners.all.values().filter(|(f, _)| f.holds(&error)) {
        let mut waiting = locked(&inbox.waiting);
        if waiting.len() < MOST_WAITING {
            waiting.push_back(ReceivedError {
                from: received.from,
                stamp: received.stamp,
                message: message.into(),
            });
        } else {
            inbox.unread.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Locks a mutex. Ignores poisoning: a panic leaves nothing that it guards half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
