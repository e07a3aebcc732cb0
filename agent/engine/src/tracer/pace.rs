//! How often a TTL is asked, over all flows of the session: routers limit the
//! rate of their ICMP errors, many to one a second for each destination, and
//! asking a limited router more often only makes it look silent.

use super::{Mono, Span};

/// Longest time between two asks of one TTL: no known limit is below one a second.
const WIDEST: Span = Span::from_secs(1);
/// A TTL that has not answered for this long is silent, not limited.
const FORGET: Span = Span::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
struct Ttl {
    /// Time between two asks; zero where there is no sign of a limit.
    spacing: Span,
    asked: Option<Mono>,
    answered: Option<Mono>,
    /// The target's distance in the last snapshot in which it answered.
    distance: Option<u8>,
}

/// The pace of every TTL.
#[derive(Debug)]
pub(super) struct Pace {
    ttls: Vec<Ttl>,
    /// Time between two asks as the plan has it.
    planned: Span,
}

impl Pace {
    pub(super) fn new(max_ttl: u8, planned: Span) -> Self {
        Self {
            ttls: vec![Ttl::default(); usize::from(max_ttl)],
            planned,
        }
    }

    /// Whether the TTL may be asked at `now`; if so it counts as asked.
    pub(super) fn admits(&mut self, ttl: u8, now: Mono) -> bool {
        let Some(state) = self.ttl_mut(ttl) else {
            return true;
        };
        if state.answered.is_none_or(|at| now - at > FORGET) {
            state.spacing = Span::ZERO;
        }
        // A little early counts as in time: wakings jitter.
        let spacing = state.spacing - state.spacing / 10;
        if state.asked.is_some_and(|at| now - at < spacing) {
            return false;
        }
        state.asked = Some(now);
        true
    }

    /// It answered: ask it a little more often.
    pub(super) fn answered(&mut self, ttl: u8, at: Mono) {
        let planned = self.planned;
        if let Some(state) = self.ttl_mut(ttl) {
            state.answered = Some(state.answered.map_or(at, |before| before.max(at)));
            state.spacing = state.spacing - state.spacing / 8;
            if state.spacing < planned {
                state.spacing = Span::ZERO;
            }
        }
    }

    /// It answered in a snapshot that found the target at this distance.
    pub(super) fn seen(&mut self, ttl: u8, distance: Option<u8>) {
        if let Some(state) = self.ttl_mut(ttl) {
            state.distance = distance;
        }
    }

    /// Notes that a TTL was silent in a snapshot that found the target beyond it, at this
    /// distance. It is limited if it answered lately on a path of the same length; otherwise
    /// it is another router, which may answer nothing at all.
    pub(super) fn silent(&mut self, ttl: u8, distance: Option<u8>, now: Mono) {
        let planned = self.planned;
        if let Some(state) = self.ttl_mut(ttl)
            && state.distance == distance
            && state.answered.is_some_and(|at| now - at <= FORGET)
        {
            state.spacing = (state.spacing.max(planned) * 2).min(WIDEST);
        }
    }

    fn ttl_mut(&mut self, ttl: u8) -> Option<&mut Ttl> {
        self.ttls.get_mut(usize::from(ttl).checked_sub(1)?)
    }
}
