//! Finds loss that goes on all the time, and the short outages that it explains.
//!
//! A flow that loses 5 % of its probes loses three in a row every few seconds: by the objective
//! that is an outage, but nothing happened. An outage that chance explains by the loss around it
//! is no transition, and does not hold two transitions together.

use super::Scene;
use crate::align::{Run, Session};
use crate::findings::{Direction, FlowFindings, Outage};
use crate::note::{Note, SteadyLoss};
use crate::outage::evidence;
use crate::schema::Nanos;
use hopgap_proto::time::{Mono, Span, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// How long before and after an outage the loss is measured.
const AROUND: Span = Span::from_secs(30);

/// Least number of such outages that chance must produce, in the time looked at, for one to be
/// explained.
const EXPECTED: f64 = 0.001;

/// A flow that loses more than one probe in this many loses steadily.
const STEADY: u64 = 100;

/// Which outages a steady loss explains.
#[derive(Debug, Default)]
pub(super) struct Steady {
    /// By the session's place, the flow, and the outage's place in its findings.
    explained: BTreeSet<(usize, u8, usize)>,
    /// Sessions and flows that have such outages, or lose steadily without any.
    flows: BTreeSet<(usize, u8)>,
    /// The notes on steady loss.
    pub(super) notes: Vec<Note>,
}

impl Steady {
    pub(super) fn of(scene: &Scene<'_>) -> Self {
        let mut steady = Self::default();
        for (place, (session, found)) in scene.sessions.iter().zip(scene.found).enumerate() {
            let mut told: BTreeMap<Direction, SteadyLoss> = BTreeMap::new();
            for flow in &found.flows {
                steady.add_flow(scene, place, session, flow, &mut told);
            }
            steady
                .notes
                .extend(told.into_values().map(Note::SteadyLoss));
        }
        steady
    }

    /// Whether chance explains an outage by the loss around it.
    pub(super) fn explains(&self, session: usize, flow: u8, outage: usize) -> bool {
        self.explained.contains(&(session, flow, outage))
    }

    /// Whether a flow loses probes all the time.
    pub(super) fn is_steady(&self, session: usize, flow: u8) -> bool {
        self.flows.contains(&(session, flow))
    }

    fn add_flow(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        session: &Session<'_>,
        flow: &FlowFindings,
        told: &mut BTreeMap<Direction, SteadyLoss>,
    ) {
        for run in &session.runs {
            for direction in [Direction::Forward, Direction::Reverse, Direction::Unknown] {
                let losses = Losses::of(run, flow.flow, direction);
                if losses.is_steady(flow, direction) {
                    self.flows.insert((place, flow.flow));
                }
                for (i, outage) in flow.outages.iter().enumerate() {
                    if outage.direction != direction || !losses.explain(outage, scene) {
                        continue;
                    }
                    self.explained.insert((place, flow.flow, i));
                    self.flows.insert((place, flow.flow));
                    let told = told.entry(direction).or_insert_with(|| SteadyLoss {
                        session: session.plan.name.to_string(),
                        direction,
                        outages: 0,
                        longest_ns: Nanos(Span::ZERO),
                        most_lost_ppm: 0,
                    });
                    told.outages += 1;
                    told.longest_ns = told.longest_ns.max(outage.at_least_ns);
                    told.most_lost_ppm = told.most_lost_ppm.max(losses.ppm_around(outage));
                }
            }
        }
    }
}

/// The probes of one flow that tell of one direction.
struct Losses<'a> {
    run: &'a Run,
    /// When each was sent, in the order of sending.
    sent: Vec<Mono>,
    /// How many were lost up to and including each.
    lost: Vec<u64>,
}

impl<'a> Losses<'a> {
    fn of(run: &'a Run, flow: u8, direction: Direction) -> Self {
        let samples = run.flows.get(&flow).map_or(&[][..], |f| &f.samples);
        let mut losses = Self {
            run,
            sent: Vec::with_capacity(samples.len()),
            lost: Vec::with_capacity(samples.len()),
        };
        let mut lost = 0;
        for s in samples {
            if let Some(good) = evidence(s.fate, direction) {
                lost += u64::from(!good);
                losses.sent.push(s.sent);
                losses.lost.push(lost);
            }
        }
        losses
    }

    /// Returns how many probes were sent around an outage and how many of them were lost, without
    /// the outage's own.
    fn around(&self, outage: &Outage) -> (u64, u64) {
        let utc = |at: &Mono| self.run.timeline.utc(*at);
        let place = |at: Wall| self.sent.partition_point(|s| utc(s) < at);
        let first = outage.first_lost.sent.0;
        let last = outage.last_lost.sent.0;
        let (low, begin) = (place(first - AROUND), place(first));
        let end = self.sent.partition_point(|s| utc(s) <= last);
        let high = self.sent.partition_point(|s| utc(s) <= last + AROUND);
        let upto = |i: usize| {
            let before = i.checked_sub(1).and_then(|i| self.lost.get(i));
            before.copied().unwrap_or(0)
        };
        let between = |a: usize, b: usize| upto(b).saturating_sub(upto(a));
        let sent = begin.saturating_sub(low) + high.saturating_sub(end);
        (
            crate::loss::len(sent),
            between(low, begin) + between(end, high),
        )
    }

    fn explain(&self, outage: &Outage, scene: &Scene<'_>) -> bool {
        // Refused sends are not chance, and an outage still going on may become anything.
        let is_whole = outage.last_good.is_some() && outage.first_good.is_some();
        if !is_whole || outage.refused > 0 || outage.loss_periods.is_empty() {
            return false;
        }
        let (sent, lost) = self.around(outage);
        if sent == 0 || lost == 0 {
            return false;
        }
        let share = number(lost) / number(sent);
        let near = number(u64::from(scene.objective.min_good.max(1)));
        let mut expected = number(sent);
        for (i, period) in outage.loss_periods.iter().enumerate() {
            let places = if i == 0 { 1.0 } else { near };
            let exponent = i32::try_from(period.lost).unwrap_or(i32::MAX);
            expected *= places * share.powi(exponent);
        }
        expected >= EXPECTED
    }

    /// Returns the loss around an outage in parts per million.
    fn ppm_around(&self, outage: &Outage) -> u32 {
        let (sent, lost) = self.around(outage);
        let ppm = lost.saturating_mul(1_000_000).checked_div(sent);
        u32::try_from(ppm.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// Whether the flow loses probes all the time, beside its outages.
    fn is_steady(&self, flow: &FlowFindings, direction: Direction) -> bool {
        let beside: u64 = flow
            .background
            .iter()
            .filter(|p| p.direction == direction)
            .map(|p| p.lost)
            .sum();
        beside.saturating_mul(STEADY) > crate::loss::len(self.sent.len())
    }
}

fn number(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
