//! Sessions whose address something on the way translates, as a VPN gateway's NAT does.
//!
//! RFC 8972 section 3: the SSID identifies a session. In an authenticated session the HMAC
//! proves that its sender made a packet, whatever address the packet comes from. One HMAC
//! costs about as much as the rest of an answer, so unknown addresses may have only
//! [`GUESSES`] a second computed. An address that proved itself is known from then on: it
//! needs no guess, and its packets get the queue of known senders.
//!
//! Sessions without authentication stay bound to their address.

use super::limit::{Bucket, Rate};
use super::session::Provisioned;
use super::{Datagram, FIRST_USER_PORT, Output, ReflectedSession, Reflector, Settings};
use core::net::IpAddr;
use hopgap_proto::record::FlowIndex;
use hopgap_proto::time::Mono;
use std::sync::Arc;

/// HMACs that packets from unknown addresses may cost. One is enough to make an address
/// known.
pub(super) const GUESSES: Rate = Rate { per_second: 2_000 };
/// Present and retired sessions of one SSID that are tried for one packet.
const MOST_TRIED: usize = 2;

/// Addresses that sessions were translated to.
#[derive(Debug, Default)]
pub(super) struct Translated {
    guesses: Bucket,
    /// Whether the known addresses changed since that was asked.
    pub(super) changed: bool,
}

impl Provisioned {
    /// Whether its packets may come from `ip`, as far as is known.
    pub(super) fn comes_from(&self, ip: IpAddr) -> bool {
        self.session.from == ip || self.aliases.has(ip)
    }
}

impl Reflector {
    /// The session and flow of a packet from an address that is not the session's own, by
    /// its SSID and HMAC.
    pub(super) fn translated(&mut self, datagram: &Datagram<'_>) -> Option<(usize, FlowIndex)> {
        let (ip, port) = (datagram.from.ip().to_canonical(), datagram.from.port());
        if port < FIRST_USER_PORT {
            return None;
        }
        let claimed = |s: &Provisioned| {
            let ReflectedSession {
                from,
                keys,
                reflector_port,
                ..
            } = &s.session;
            let may_be = *from != ip && keys.is_some() && *reflector_port != port;
            may_be.then(|| s.claimed_flow(datagram.bytes)).flatten()
        };
        let sessions = &self.sessions;
        let candidates = (0..)
            .zip(sessions)
            .filter_map(|(i, s)| Some((i, s, claimed(s)?)));
        for (i, session, flow) in candidates.take(MOST_TRIED) {
            let now = datagram.received.at;
            // Its HMAC is read again with the rest.
            if session.comes_from(ip) {
                return Some((i, flow));
            }
            if !self.translated.guesses.admits(GUESSES, now) {
                return None;
            }
            if session.is_authentic(flow, datagram) {
                return Some((i, flow));
            }
        }
        None
    }

    /// Whether [`Reflector::sources`] has changed since this was last asked, other than by
    /// [`Reflector::set_sessions`].
    pub fn take_sources_changed(&mut self) -> bool {
        core::mem::take(&mut self.translated.changed)
    }

    /// Tells which sessions come from other addresses, and forgets those from which
    /// nothing has come for long. `all`: also what is not due yet.
    pub(super) fn tell_translated(&mut self, now: Mono, all: bool) {
        let Self {
            sessions,
            outputs,
            translated,
            config: Settings { idle_timeout, .. },
            ..
        } = self;
        for session in sessions {
            let name = &session.name;
            let events = session.aliases.told(now, all);
            events.for_each(|event| outputs.push(Output::Event(Some(Arc::clone(name)), event)));
            translated.changed |= session.aliases.forget(now, *idle_timeout);
        }
    }
}
