//! The newest report of each agent. Kept in memory only: after a start they are here again
//! within seconds.

use hopgap_proto::plan::Plan;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::AgentReport;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most faults kept of a report. Beside sessions an agent has two parts; more are not needed.
const MOST_FAULTS: usize = 8;

/// The newest report of each agent of the plan, and when it came.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<BTreeMap<AgentName, (Wall, AgentReport)>>);

impl Reports {
    /// Stores an agent's report, reduced to the sessions that it sends by the plan.
    pub(crate) fn take(&self, agent: &AgentName, mut report: AgentReport, plan: &Plan, now: Wall) {
        report.sessions.retain_mut(|told| {
            let planned = plan.session(&told.name).filter(|s| s.from == *agent);
            if let Some(planned) = planned {
                // One for each flow, and one for the session as a whole.
                told.faults.truncate(usize::from(planned.flows) + 1);
                told.running = told.running.min(planned.flows);
            }
            planned.is_some()
        });
        report.sessions.sort_by(|a, b| a.name.cmp(&b.name));
        report.sessions.dedup_by(|a, b| a.name == b.name);
        report.faults.truncate(MOST_FAULTS);
        let mut reports = self.reports();
        // Drops the reports of agents that are no longer in the plan.
        reports.retain(|name, _| plan.agent(name).is_some());
        reports.insert(agent.clone(), (now, report));
    }

    /// An agent's report and when it came.
    pub(crate) fn of(&self, agent: &str) -> Option<(Wall, AgentReport)> {
        let reports = self.reports();
        let mut all = reports.iter();
        all.find(|(name, _)| name.as_str() == agent)
            .map(|(_, report)| report.clone())
    }

    fn reports(&self) -> MutexGuard<'_, BTreeMap<AgentName, (Wall, AgentReport)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopgap_proto::record::RunFault;
    use hopgap_proto::uplink::{FlowFault, SessionReport, SpoolReport};

    #[test]
    fn an_agent_speaks_of_its_own_sessions_only() {
        let text = r#"
            [[agent]]
            name = "a"
            address = "10.0.0.1"
            [[agent]]
            name = "b"
            address = "10.0.1.2"
            [[session]]
            name = "a-b"
            from = "a"
            to = "b"
            flows = 2
            [[session]]
            name = "b-a"
            from = "b"
            to = "a"
        "#;
        let mut plan: Plan = toml::from_str(text).unwrap();
        let fault = FlowFault {
            flow: None,
            why: RunFault::Ended,
        };
        let told = |name: &str| SessionReport {
            name: name.parse().unwrap(),
            running: 9,
            faults: vec![fault; 100],
        };
        let report = AgentReport {
            run: hopgap_proto::record::RunId(1),
            at_ns: Wall::ZERO,
            block: hopgap_proto::time::Span::from_secs(1),
            spool: SpoolReport::default(),
            sessions: ["a-b", "b-a", "c-d", "a-b"].map(told).to_vec(),
            faults: Vec::new(),
        };
        let reports = Reports::default();
        let a: AgentName = "a".parse().unwrap();
        reports.take(&a, report.clone(), &plan, Wall::from_nanos(5));
        let (at, kept) = reports.of("a").unwrap();
        assert_eq!(at, Wall::from_nanos(5));
        assert_eq!(kept.sessions.len(), 1);
        assert_eq!(kept.sessions[0].faults.len(), 3);
        assert_eq!(kept.sessions[0].running, 2);
        assert!(reports.of("b").is_none());
        plan.agents.remove(0);
        reports.take(&"b".parse().unwrap(), report, &plan, Wall::from_nanos(6));
        assert!(reports.of("a").is_none(), "the plan has it no more");
    }
}
