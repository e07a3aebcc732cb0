//! Sending with tokens, transmit stamps, and no false refusals.

use crate::refusal::{self, Refusal};
use crate::stamping::{self, Granted, Stamps};
use crate::sys::batch::{self, BATCH, Packet};
use crate::sys::cmsg::Outgoing;
use crate::sys::name::Name;
use crate::sys::{self, SCM_TS_OPT_ID};
use crate::token::{SendToken, Tokens};
use std::ffi::c_uint;
use std::io;
use std::os::fd::BorrowedFd;

/// Which transmit stamps to take. A caller that asks for them must drain them: they take up
/// room in the error queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TxStamps {
    /// None.
    #[default]
    Off,
    /// When the driver took the packet.
    Sent,
    /// That, and when it entered the queueing discipline.
    SentAndScheduled,
}

/// Attempts to send one packet before the kernel's refusal is believed: an ICMP error may
/// arrive between an attempt and its repetition.
const ATTEMPTS: u32 = 3;

/// The sending half of a socket.
pub(crate) struct Outbox {
    tokens: Tokens,
    stamping: Granted,
    /// Whether the transmit stamps that `stamping` grants are on.
    taking: bool,
    letters: Vec<Envelope>,
}

/// A packet's envelope.
#[derive(Clone, Copy)]
struct Envelope {
    token: SendToken,
    name: Name,
    control: Outgoing,
}

impl Outbox {
    /// Sets up stamping on `fd`, receive stamps included.
    pub(crate) fn new(fd: BorrowedFd<'_>, tx: TxStamps) -> io::Result<Self> {
        let tokens = if sys::chooses_timestamp_id() {
            Tokens::chosen()
        } else {
            Tokens::counted()
        };
        Self::with_tokens(fd, tx, tokens)
    }

    pub(crate) fn with_tokens(
        fd: BorrowedFd<'_>,
        tx: TxStamps,
        tokens: Tokens,
    ) -> io::Result<Self> {
        let tx = match tx {
            TxStamps::Off => 0,
            TxStamps::Sent => TX | libc::SOF_TIMESTAMPING_TX_SOFTWARE,
            TxStamps::SentAndScheduled => {
                TX | libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_SCHED
            }
        };
        let stamping = stamping::enable(fd, tx)?;
        Ok(Self {
            tokens,
            stamping,
            taking: stamping.flags() & TX != 0,
            letters: Vec::with_capacity(BATCH),
        })
    }

    /// Which stamps the kernel gives.
    pub(crate) fn stamps(&self) -> Stamps {
        self.stamping.stamps()
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Turns transmit stamps on or off for later packets.
    pub(crate) fn take_stamps(&mut self, fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
        if on == self.taking || self.stamping.flags() & TX == 0 {
            return Ok(());
        }
        // The kernel does not count packets without stamps: where it counts, its count begins anew.
        if on {
            self.restart_count(fd, self.tokens.peek());
        }
        let flags = if on {
            self.stamping.flags()
        } else {
            self.stamping.flags() & !TX_KINDS
        };
        self.stamping.set(fd, flags)?;
        self.taking = on;
        Ok(())
    }

    /// Sends one packet.
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        bytes: &[u8],
        name: Name,
        control: Outgoing,
    ) -> Result<SendToken, Refusal> {
        let letter = self.address(name, control);
        self.deliver(fd, bytes, &letter)
    }

    /// Sends packets in as few system calls as possible, and passes each outcome to `f` in
    /// turn. A refused packet does not hold up the next.
    pub(crate) fn send_many<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        packets: impl Iterator<Item = (&'a [u8], Name, Outgoing)>,
        mut f: impl FnMut(Result<SendToken, Refusal>),
    ) {
        let mut packets = packets.fuse();
        loop {
            let mut letters = std::mem::take(&mut self.letters);
            letters.clear();
            let mut batch = [Packet::default(); BATCH];
            for (slot, (bytes, name, control)) in batch.iter_mut().zip(&mut packets) {
                slot.bytes = bytes;
                letters.push(self.address(name, control));
            }
            for (slot, letter) in batch.iter_mut().zip(&letters) {
                slot.name = letter.name.as_bytes();
                slot.control = letter.control.as_bytes();
            }
            let mut at = 0;
            while let (Some(rest @ [first, ..]), Some(letter)) =
                (batch.get(at..letters.len()), letters.get(at))
            {
                match batch::send_many(fd, rest) {
                    Ok(sent) => {
                        for letter in letters.iter().skip(at).take(sent) {
                            self.tokens.sent();
                            f(Ok(letter.token));
                        }
                        at += sent;
                        // It stopped for an error that it does not report.
                        if let Some(next) = letters.get(at) {
                            self.restart_count(fd, next.token);
                        }
                    }
                    Err(_) => {
                        // Whatever the error was: send this packet again, alone and with care.
                        self.restart_count(fd, letter.token);
                        f(self.deliver(fd, first.bytes, letter));
                        at += 1;
                    }
                }
            }
            let more = letters.len() == BATCH;
            self.letters = letters;
            if !more {
                return;
            }
        }
    }

    fn address(&mut self, name: Name, mut control: Outgoing) -> Envelope {
        let token = self.tokens.take();
        if self.taking
            && self.stamping.flags() & libc::SOF_TIMESTAMPING_OPT_ID != 0
            && let Some(id) = self.tokens.id(token)
        {
            control.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &id.to_ne_bytes());
        }
        Envelope {
            token,
            name,
            control,
        }
    }

    fn deliver(
        &mut self,
        fd: BorrowedFd<'_>,
        bytes: &[u8],
        letter: &Envelope,
    ) -> Result<SendToken, Refusal> {
        let packet = Packet {
            bytes,
            name: letter.name.as_bytes(),
            control: letter.control.as_bytes(),
        };
        let mut attempt = 1;
        loop {
            let error = match batch::send(fd, &packet) {
                Ok(()) => {
                    self.tokens.sent();
                    return Ok(letter.token);
                }
                Err(error) => Refusal::new(&error),
            };
            // An ICMP error pending on the socket also fails the send. The failure has
            // cleared it, so an error that comes again is a true refusal.
            let again = match error.errno {
                libc::EINTR => true,
                errno => refusal::may_be_pending(errno) && attempt < ATTEMPTS,
            };
            if !again {
                self.restart_count(fd, SendToken(letter.token.0.wrapping_add(1)));
                return Err(error);
            }
            self.restart_count(fd, letter.token);
            attempt += 1;
        }
    }

    fn restart_count(&mut self, fd: BorrowedFd<'_>, next: SendToken) {
        if self.tokens.failed(next) && self.stamping.flags() & libc::SOF_TIMESTAMPING_OPT_ID != 0 {
            let without = self.stamping.flags() & !libc::SOF_TIMESTAMPING_OPT_ID;
            // Both were accepted when the socket was opened, so errors are ignored.
            let again = if self.taking {
                self.stamping.flags()
            } else {
                self.stamping.flags() & !TX_KINDS
            };
            for flags in [without, again] {
                let _ = self.stamping.set(fd, flags);
            }
        }
    }
}

/// The flags for the places where transmit stamps are taken.
const TX_KINDS: c_uint = libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_SCHED;
/// Flags for an id in each stamp, without a copy of the packet.
const TX: c_uint = libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY;
