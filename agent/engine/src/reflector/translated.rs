//! Sessions whose address is translated on the way, as by a VPN gateway's NAT.
//!
//! RFC 8972 section 3: the SSID identifies a session. In an authenticated session the HMAC
//! proves that its sender made a packet, whatever address the packet comes from. One HMAC
//! costs about as much as the rest of an answer, so for unknown addresses only [`GUESSES`]
//! are computed. An address that proved itself is known from then on: it needs no guess, and
//! its packets get the queue of known senders.
//!
//! Sessions without authentication stay bound to their address.

use super::limit::{Bucket, Rate};
use super::session::Provisioned;
use super::{Datagram, FIRST_USER_PORT, Output, ReflectedSession, Reflector, Settings};
use core::net::IpAddr;
use hopgap_proto::record::FlowIndex;
use hopgap_proto::time::Mono;
use std::sync::Arc;

/// How many HMACs a second packets from unknown addresses may cost. One makes an address known.
pub(super) const GUESSES: Rate = Rate { per_second: 2_000 };
/// Most sessions of one SSID, present and removed ones, that are tried for one packet.
const MOST_TRIED: usize = 2;

/// Addresses that sessions were translated to.
#[derive(Debug, Default)]
pub(super) struct Translated {
    guesses: Bucket,
    /// Whether the known addresses changed since they were last asked for.
    pub(super) changed: bool,
}

impl Provisioned {
    /// Whether its packets are known to come from `ip`.
    pub(super) fn comes_from(&self, ip: IpAddr) -> bool {
        self.session.from == ip || self.aliases.has(ip)
    }
}

impl Reflector {
    /// Finds the session and flow of a packet from an address that is not the session's own,
    /// by its SSID and HMAC.
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
            // Its HMAC is checked later, with the rest of the packet.
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

    /// Returns whether [`Reflector::sources`] changed since the last call. Changes by
    /// [`Reflector::set_sessions`] do not count.
    pub fn take_sources_changed(&mut self) -> bool {
        core::mem::take(&mut self.translated.changed)
    }

    /// Reports which sessions come from other addresses, and forgets addresses silent for
    /// long. `all`: also reports what is not due yet.
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
