//! Finds times that the program stamped instead of the kernel.

use super::counted;
use crate::align::{Placed, Timeline};
use crate::input::{Input, SessionRecords};
use hopgap_proto::record::{AgentName, ProbeFate, RunId, SessionName, Stamp, StampSource};
use hopgap_proto::time::Wall;
use std::collections::BTreeMap;
use std::fmt;

/// Fewer than one in this many are ordinary lost stamps.
const WORTH_TELLING: u64 = 100;

/// What was stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A probe as it left its sender.
    Sent,
    /// A reply as it arrived at the sender.
    ReplyArrived,
    /// A probe as it arrived at the reflector.
    ProbeArrived,
}

/// How many of an agent's times of one kind the program stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnTimes {
    session: SessionName,
    agent: AgentName,
    what: What,
    own: u64,
    all: u64,
}

impl fmt::Display for OwnTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            session,
            agent,
            what,
            own,
            all,
        } = self;
        let (which, why) = match what {
            What::Sent => (
                "left",
                "its kernel stamps none as they leave, or the interface does not, as a macvlan",
            ),
            What::ReplyArrived | What::ProbeArrived => {
                ("arrived", "its kernel stamps none as they arrive")
            }
        };
        let packets = match what {
            What::Sent | What::ProbeArrived => counted(*all, "probe", "probes"),
            What::ReplyArrived => counted(*all, "reply", "replies"),
        };
        write!(
            f,
            "Session `{session}`: of {packets} that {which} at `{agent}`, {own} have the program's own time and not the kernel's ({why}): such a time is off by as long as the program waited for a processor, and so are the delays and bounds that rest on it."
        )
    }
}

/// Finds agents whose times are not the kernel's, in the judged stretch.
pub(super) fn find(input: &Input, placed: &Placed) -> Vec<OwnTimes> {
    input
        .sessions
        .iter()
        .flat_map(|records| of_session(input.window, placed, records))
        .collect()
}

fn of_session(
    window: Option<(Wall, Wall)>,
    placed: &Placed,
    records: &SessionRecords,
) -> Vec<OwnTimes> {
    let mut counts: BTreeMap<(What, AgentName), (u64, u64)> = BTreeMap::new();
    for run in &records.sender {
        let timeline = Timeline::new(run.clocks.clone(), &run.events);
        let within = Within::new(window, placed, (&run.agent, run.run), timeline);
        let mut count = |what, stamp: Stamp| within.count(&mut counts, what, &run.agent, stamp);
        for probe in &run.probes {
            match probe.fate {
                // It never left.
                ProbeFate::Refused(_) => {}
                ProbeFate::Unanswered => count(What::Sent, probe.sent),
                ProbeFate::Answered(reply) => {
                    count(What::Sent, probe.sent);
                    count(What::ReplyArrived, reply.received);
                }
            }
        }
    }
    for run in &records.reflector {
        let timeline = Timeline::new(run.clocks.clone(), &run.events);
        let within = Within::new(window, placed, (&run.agent, run.run), timeline);
        for reception in &run.receptions {
            within.count(
                &mut counts,
                What::ProbeArrived,
                &run.agent,
                reception.received,
            );
        }
    }
    counts
        .into_iter()
        .filter(|(_, (own, all))| own.saturating_mul(WORTH_TELLING) > *all)
        .map(|((what, agent), (own, all))| OwnTimes {
            session: records.session.clone(),
            agent,
            what,
            own,
            all,
        })
        .collect()
}

/// The judged part of a run; whether a probe at its edge counts does not matter here.
struct Within {
    window: Option<(Wall, Wall)>,
    timeline: Timeline,
}

impl Within {
    fn new(
        window: Option<(Wall, Wall)>,
        placed: &Placed,
        (agent, run): (&AgentName, RunId),
        mut timeline: Timeline,
    ) -> Self {
        placed.set(agent, run, &mut timeline);
        Self { window, timeline }
    }

    fn holds(&self, stamp: Stamp) -> bool {
        match self.window {
            Some((from, to)) if self.timeline.is_known() => {
                let at = self.timeline.utc(stamp.at);
                from <= at && at <= to
            }
            _ => true,
        }
    }

    fn count(
        &self,
        counts: &mut BTreeMap<(What, AgentName), (u64, u64)>,
        what: What,
        agent: &AgentName,
        stamp: Stamp,
    ) {
        if self.holds(stamp) {
            let (own, all) = counts.entry((what, agent.clone())).or_default();
            *own += u64::from(stamp.source == StampSource::User);
            *all += 1;
        }
    }
}

#[cfg(test)]
mod tests;
