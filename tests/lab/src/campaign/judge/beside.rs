//! What hopgap and its peers say of each outage that the wire made.

use super::Judgement;
use super::report::{Outage, Report};
use crate::campaign::peers::{self, DIR, Told, compare, told};
use crate::campaign::record::Record;
use crate::campaign::world::SESSIONS;
use anyhow::Result;
use hopgap_proto::time::{Mono, Span};
use std::path::Path;

impl Judgement {
    /// All outages of a run in which peers measured, too.
    pub(super) fn compare_peers(
        &mut self,
        record: &Record,
        report: &Report,
        dir: &Path,
    ) -> Result<()> {
        if !dir.join(DIR).is_dir() {
            return Ok(());
        }
        let offset = Span::from_nanos(record.wall_minus_mono_ns);
        let sessions = report.findings.sessions.iter();
        let flows: Vec<_> = sessions
            .filter(|session| session.session == SESSIONS[0])
            .flat_map(|session| &session.flows)
            .collect();
        for (number, cut) in peers::cuts(&record.program).into_iter().enumerate() {
            let (from, until) = (record.begin() + cut.from, record.begin() + cut.until);
            let says = flows.iter().map(|flow| {
                let outages = flow.outages.iter();
                let here = outages.filter(|outage| is_at(outage, from, until, offset));
                here.map(|o| told(&o.direction, o.at_least_ns, o.at_most_ns))
                    .max_by_key(|told| told.bounds_ns)
                    .unwrap_or_default()
            });
            let says: Vec<Told> = says.collect();
            self.peers.push(compare(dir, number, cut, says)?);
        }
        Ok(())
    }
}

/// Whether an outage has to do with what the wire lost in this time.
fn is_at(outage: &Outage, from: Mono, until: Mono, offset: Span) -> bool {
    outage.first_lost.sent.mono(offset) < until && outage.last_lost.sent.mono(offset) > from
}
