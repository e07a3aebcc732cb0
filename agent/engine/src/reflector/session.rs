//! The state of answered sessions: one counter for each flow's probes, one for its traceroutes.

use super::limit::Bucket;
use super::replay::Guard;
use super::{Drops, LINGER, ReflectedSession};
use crate::translated::Aliases;
use core::net::IpAddr;
use hopgap_proto::plan::TRACE_SSID_BIT;
use hopgap_proto::record::{FlowIndex, SessionName};
use hopgap_proto::stamp::tlv::TimestampMethod;
use hopgap_proto::stamp::{FollowUp, SenderPacket, Seq, SessionKeys, Ssid};
use hopgap_proto::time::{Mono, Span, Wall};
use std::sync::Arc;

/// Whether an SSID is that of traceroute packets.
pub(super) fn is_trace(ssid: Ssid) -> bool {
    ssid.0 & TRACE_SSID_BIT != 0
}

/// Counts one STAMP session's replies (RFC 8762 section 4.3.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    next: u32,
    last: Option<Mono>,
    /// When the newest reply left, as far as that is known.
    follow_up: Option<FollowUp>,
}

/// The numbers that a reply gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) seq: Seq,
    /// Packets of the session so far, this one included.
    pub(super) packets: u32,
    /// The reply before it (RFC 8972 section 4.7); `None` for the first.
    pub(super) previous: Option<FollowUp>,
}

impl Counter {
    /// Numbers the reply to a packet that came at `now` and is sent at `sending` by the
    /// program's own clock.
    pub(super) fn count(&mut self, now: Mono, sending: Wall, idle_timeout: Span) -> Count {
        if self.last.is_some_and(|last| now - last > idle_timeout) {
            (self.next, self.follow_up) = (0, None);
        }
        self.last = Some(now);
        let seq = Seq(self.next);
        self.next = self.next.wrapping_add(1);
        let own = FollowUp {
            sequence: seq,
            sent_at: sending,
            // A software stamp, as the kernel's own is.
            method: TimestampMethod::SOFTWARE,
        };
        Count {
            seq,
            packets: self.next,
            previous: self.follow_up.replace(own),
        }
    }

    /// Sets when the reply of this number left, by the kernel. Only the newest reply's time
    /// is still of use.
    pub(super) fn left(&mut self, seq: Seq, at: Wall) {
        if let Some(newest) = self.follow_up.as_mut().filter(|f| f.sequence == seq) {
            newest.sent_at = at;
        }
    }
}

/// The counters of a session, one of each kind for each flow.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    probes: Vec<Counter>,
    traces: Vec<Counter>,
    /// Counts replayed packets, which must not move the numbers that tell where probes were lost.
    pub(super) replays: Counter,
}

impl Counters {
    /// Nothing counted yet.
    pub(super) fn of_flows(flows: u8) -> Self {
        let fresh = || vec![Counter::default(); usize::from(flows)];
        Self {
            probes: fresh(),
            traces: fresh(),
            replays: Counter::default(),
        }
    }

    pub(super) fn of(&mut self, flow: FlowIndex, traced: bool) -> Option<&mut Counter> {
        let counters = if traced {
            &mut self.traces
        } else {
            &mut self.probes
        };
        counters.get_mut(usize::from(flow.0))
    }
}

/// What each kind of a session's packets has used; each kind has the session's whole rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buckets {
    pub(super) probes: Bucket,
    pub(super) traces: Bucket,
    pub(super) copies: Bucket,
    pub(super) replays: Bucket,
    /// Limits receptions recorded without an answer: a flood must not fill the spool.
    pub(super) unanswered: Bucket,
}

/// Keys that a new plan replaced.
#[derive(Clone, Debug)]
pub(super) struct Previous {
    pub(super) keys: Option<SessionKeys>,
    /// Until then the sender may not know the new plan.
    pub(super) until: Mono,
}

/// A provisioned session at work.
#[derive(Debug)]
pub(super) struct Provisioned {
    pub(super) name: Arc<SessionName>,
    pub(super) session: ReflectedSession,
    /// The session's protection before the plan changed.
    pub(super) previous: Option<Previous>,
    pub(super) buckets: Buckets,
    pub(super) counters: Counters,
    /// One for each flow.
    pub(super) guards: Vec<Guard>,
    /// One for each flow's traceroutes, which have numbers of their own.
    pub(super) trace_guards: Vec<Guard>,
    /// One for each flow's size probes, whose numbers have nothing to do with the others'.
    pub(super) size_guards: Vec<Guard>,
    pub(super) drops: Drops,
    /// Addresses other than the plan's that its packets come from.
    pub(super) aliases: Aliases,
    /// When to forget the session; set once the plan has removed it.
    pub(super) retired_at: Option<Mono>,
}

impl Provisioned {
    pub(super) fn new(session: ReflectedSession) -> Self {
        Self {
            name: Arc::new(session.name.clone()),
            previous: None,
            buckets: Buckets::default(),
            counters: Counters::of_flows(session.flows),
            guards: vec![Guard::default(); usize::from(session.flows)],
            trace_guards: vec![Guard::default(); usize::from(session.flows)],
            size_guards: vec![Guard::default(); usize::from(session.flows)],
            drops: Drops::default(),
            aliases: Aliases::default(),
            retired_at: None,
            session,
        }
    }

    /// Takes over a new plan's version of the same STAMP sessions at `now`; the counters go on.
    pub(super) fn again(self, session: ReflectedSession, now: Mono) -> Self {
        let previous = if same_keys(self.session.keys.as_ref(), session.keys.as_ref()) {
            self.previous
        } else {
            Some(Previous {
                keys: self.session.keys,
                until: now + LINGER,
            })
        };
        Self {
            session,
            previous,
            retired_at: None,
            ..self
        }
    }

    /// The flow that sends from this address and port.
    pub(super) fn flow_of(&self, ip: IpAddr, port: u16) -> Option<FlowIndex> {
        let session = &self.session;
        let flow = u8::try_from(port.checked_sub(session.source_port)?).ok()?;
        (session.from == ip && flow < session.flows).then_some(FlowIndex(flow))
    }

    /// Returns the flow that a packet's SSID claims, as a probe or as a traceroute.
    pub(super) fn claimed_flow(&self, packet: &[u8]) -> Option<FlowIndex> {
        let claimed = |authenticated| {
            let ssid = SenderPacket::peek_ssid(packet, authenticated)?;
            let own = ssid.0 & !TRACE_SSID_BIT;
            let flow = u8::try_from(own.checked_sub(self.session.ssid.0)?).ok()?;
            (flow < self.session.flows).then_some(FlowIndex(flow))
        };
        let now = self.session.keys.is_some();
        let before = self.previous.as_ref().map(|p| p.keys.is_some());
        claimed(now).or_else(|| before.filter(|b| *b != now).and_then(claimed))
    }

    /// Whether `other` is the same STAMP sessions, so that they count on.
    pub(super) fn is_same(&self, other: &ReflectedSession) -> bool {
        let key = |s: &ReflectedSession| (s.from, s.source_port, s.ssid, s.flows);
        self.session.name == other.name && key(&self.session) == key(other)
    }
}

fn same_keys(a: Option<&SessionKeys>, b: Option<&SessionKeys>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is_same(b),
        (None, None) => true,
        _ => false,
    }
}
