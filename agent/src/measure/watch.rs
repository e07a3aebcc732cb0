//! The state behind the live line: silent flows, and the hop counts of both ways.

use hopgap_proto::hops::{self, Distance, Reflector};
use hopgap_proto::record::{FlowIndex, Reply};
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;

/// Time without a reply after which a flow is silent, in addition to four intervals.
const PATIENCE: Span = Span::from_millis(600);
/// Additional wait for the first reply: the way may be long, and the start slow.
const FIRST: Span = Span::from_millis(1_400);
/// Flows that come back within this time of each other come back together.
const TOGETHER: Span = Span::from_millis(400);
/// A longer time between two calls means that the process stood still and has not read what
/// arrived meanwhile.
const STALLED: Span = Span::from_millis(400);

/// A way that packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Probes.
    Out,
    /// Replies.
    Back,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Replies stopped.
    Down {
        /// Number of flows.
        flows: usize,
    },
    /// Replies come again.
    Up {
        /// Number of flows.
        flows: usize,
        /// Length of the silence.
        after: Span,
    },
    /// The hop count changed.
    Path {
        /// The way that changed.
        way: Way,
        /// The hop of its end before.
        from: u8,
        /// The hop of its end since.
        to: u8,
        /// Number of flows.
        flows: usize,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    last: Option<Mono>,
    hops: [Option<u8>; 2],
    /// Since when it is reported as silent.
    down: Option<Mono>,
    /// The first reply after that.
    back: Option<Mono>,
}

/// The flows of one session.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Span,
    flows: Vec<Flow>,
    /// Earliest time from which silence is counted.
    began: Mono,
    turned: Mono,
    /// Changes of paths that wait for other flows to join: when the first was noticed, when it
    /// happened, and how many flows have it.
    paths: BTreeMap<(Way, u8, u8), (Mono, Mono, usize)>,
}

impl Watch {
    pub(super) fn new(flows: u8, interval: Span, now: Mono) -> Self {
        Self {
            patience: PATIENCE + interval * 4,
            flows: vec![Flow::default(); usize::from(flows)],
            began: now,
            turned: now,
            paths: BTreeMap::new(),
        }
    }

    pub(super) fn replied(&mut self, flow: FlowIndex, reply: &Reply) {
        let turned = self.turned;
        let Some(state) = self.flows.get_mut(usize::from(flow.0)) else {
            return;
        };
        let at = reply.received.at;
        if state.down.is_some() && state.back.is_none() {
            state.back = Some(at);
        }
        // Records may come out of order: ignores an older one.
        if state.last.is_some_and(|last| last > at) {
            return;
        }
        state.last = Some(at);
        // The kind of reflector is unknown.
        let out = |ttl| hops::forward(ttl, Reflector::Foreign);
        let back = |ttl| hops::reverse(ttl, Reflector::Foreign);
        let hops = [
            (Way::Out, reply.forward_ttl.and_then(out)),
            (Way::Back, reply.reverse_ttl.and_then(back)),
        ];
        for ((way, now), before) in hops.into_iter().zip(&mut state.hops) {
            let Some(to) = now.and_then(Distance::hop) else {
                continue;
            };
            if let Some(from) = before.replace(to).filter(|from| *from != to) {
                let waiting = self.paths.entry((way, from, to));
                waiting.or_insert((turned, at, 0)).2 += 1;
            }
        }
    }

    /// Returns the changes since the last call, ordered by time.
    pub(super) fn turn(&mut self, now: Mono) -> Vec<(Mono, Change)> {
        if now - self.turned > STALLED {
            self.began = now;
        }
        self.turned = now;
        let mut changes = Vec::new();
        self.look_for_silence(now, &mut changes);
        self.look_for_return(now, &mut changes);
        let ripe = |seen: Mono| now - seen >= TOGETHER;
        self.paths.retain(|(way, from, to), (seen, at, flows)| {
            if !ripe(*seen) {
                return true;
            }
            let change = Change::Path {
                way: *way,
                from: *from,
                to: *to,
                flows: *flows,
            };
            changes.push((*at, change));
            false
        });
        changes.sort_by_key(|(at, _)| *at);
        changes
    }

    fn look_for_silence(&mut self, now: Mono, changes: &mut Vec<(Mono, Change)>) {
        let began = self.began;
        let heard = |f: &Flow| f.last.map_or(began, |last| last.max(began));
        let silent = |f: &Flow, limit: Span| {
            let first = if f.last.is_none() { FIRST } else { Span::ZERO };
            f.down.is_none() && now - heard(f) >= limit + first
        };
        if !self.flows.iter().any(|f| silent(f, self.patience)) {
            return;
        }
        // Flows that are about to be silent belong to the same outage.
        let limit = self.patience / 2;
        let (mut since, mut flows) = (now, 0);
        for flow in self.flows.iter_mut().filter(|f| silent(f, limit)) {
            // The last reply may be before a standstill of this host.
            let from = flow.last.unwrap_or(began);
            flow.down = Some(from);
            flow.back = None;
            since = since.min(from);
            flows += 1;
        }
        changes.push((since, Change::Down { flows }));
    }

    fn look_for_return(&mut self, now: Mono, changes: &mut Vec<(Mono, Change)>) {
        let down = self.flows.iter().filter(|f| f.down.is_some());
        let back: Vec<(Mono, Mono)> = down
            .clone()
            .filter_map(|f| Some((f.down?, f.back?)))
            .collect();
        let Some(first) = back.iter().map(|(_, at)| *at).min() else {
            return;
        };
        if back.len() < down.count() && now - first < TOGETHER {
            return;
        }
        let since = back.iter().map(|(since, _)| *since).min().unwrap_or(first);
        let change = Change::Up {
            flows: back.len(),
            after: first - since,
        };
        changes.push((first, change));
        for flow in self.flows.iter_mut().filter(|f| f.back.is_some()) {
            flow.down = None;
            flow.back = None;
        }
    }

    /// Returns for how long flows have been silent, and how many are.
    pub(super) fn down_for(&self, now: Mono) -> Option<(Span, usize)> {
        let down = self.flows.iter().filter(|f| f.back.is_none());
        let since: Vec<Mono> = down.filter_map(|f| f.down).collect();
        let first = since.iter().min()?;
        Some((now - *first, since.len()))
    }

    /// Returns the hop counts out and back, of the first flow that knows both.
    pub(super) fn hops(&self) -> Option<(u8, u8)> {
        self.flows.iter().find_map(|f| match f.hops {
            [Some(out), Some(back)] => Some((out, back)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
