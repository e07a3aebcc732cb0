//! Which parts of the present plan do not run, and why: as text for the log, as types for
//! the report to the collector, and as events for the records.

use hopgap_proto::record::{Event, EventKind, RunFault, SessionName};
use hopgap_proto::time::{Mono, Span};
use hopgap_proto::uplink::{AgentFault, AgentPart};
use std::collections::BTreeMap;

/// How often to record that a session does not run.
const RECORD_EVERY: Span = Span::from_secs(10);

/// The faults found by one try.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Sentences for the log.
    pub(super) said: Vec<String>,
    /// Sessions that do not run at all.
    pub(super) sessions: BTreeMap<SessionName, RunFault>,
    /// Other parts that do not run.
    pub(super) parts: Vec<AgentFault>,
}

impl Complaints {
    pub(super) fn say(&mut self, said: String) {
        self.said.push(said);
    }

    pub(super) fn of_session(&mut self, name: &SessionName, why: RunFault, said: String) {
        self.sessions.insert(name.clone(), why);
        self.say(said);
    }

    pub(super) fn of_part(&mut self, part: AgentPart, why: RunFault, said: String) {
        self.parts.push(AgentFault { part, why });
        self.say(said);
    }
}

/// Sessions that do not run, the reason, and since when that is not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Failing(BTreeMap<SessionName, (RunFault, Mono)>);

impl Failing {
    /// Takes the sessions that do not run at `now`. Returns the events to record for them and
    /// for those that run again.
    pub(super) fn update(
        &mut self,
        failing: &BTreeMap<SessionName, RunFault>,
        now: Mono,
    ) -> Vec<(SessionName, Vec<Event>)> {
        let mut told = Vec::new();
        let mut tell = |name: &SessionName, why, since| {
            let kind = EventKind::NotRunning {
                flow: None,
                why,
                since,
            };
            told.push((name.clone(), vec![Event { at: now, kind }]));
        };
        self.0.retain(|name, (why, since)| {
            let goes_on = failing.get(name) == Some(why);
            if !goes_on {
                tell(name, *why, *since);
            } else if now - *since >= RECORD_EVERY {
                tell(name, *why, *since);
                *since = now;
            }
            goes_on
        });
        for (name, why) in failing {
            if !self.0.contains_key(name) {
                tell(name, *why, now);
                self.0.insert(name.clone(), (*why, now));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_time_in_which_a_session_did_not_run_is_recorded() {
        let name: SessionName = "a-b".parse().unwrap();
        let at = |s: i64| Mono::ZERO + Span::from_secs(s);
        let address = RunFault::AddressNotHere {
            address: [10, 0, 0, 1].into(),
        };
        let mut failing = Failing::default();
        let mut stretches = Vec::new();
        for s in (0..40).step_by(5) {
            let why = match s {
                0..20 => Some(address),
                20..30 => Some(RunFault::UnusableKey),
                _ => None,
            };
            let now: BTreeMap<_, _> = why.map(|why| (name.clone(), why)).into_iter().collect();
            for (_, events) in failing.update(&now, at(s)) {
                for event in events {
                    let EventKind::NotRunning { why, since, .. } = event.kind else {
                        panic!("{event:?}");
                    };
                    stretches.push((why, since, event.at));
                }
            }
        }
        let key = RunFault::UnusableKey;
        assert_eq!(
            stretches,
            [
                (address, at(0), at(0)),
                (address, at(0), at(10)),
                (address, at(10), at(20)),
                (key, at(20), at(20)),
                (key, at(20), at(30)),
            ]
        );
    }
}
