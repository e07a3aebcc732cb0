//! Checks the store against itself and against agents' spools: is everything there,
//! once, and whole?
//!
//! # What is exact
//! - A run of an agent numbers its blocks from 0 and delivers them in that order. A number
//!   missing below the highest one is a block that was recorded and is not here. The store
//!   does not know what a run recorded after its highest number: give the agent's spool, too.
//! - A missing block counts as *declared* lost where the agent reported lost blocks (an
//!   event) for the time between its neighbours in the run. Only the time is compared,
//!   because agents report a time and a least number of blocks.
//! - Every block has the CRC-32 that its frame had, also when its rows were sealed.
//! - Every sealed file has the SHA-256 that it was sealed with.
//! - A Session-Sender numbers its probes without gaps, also when it skips slots of its grid.
//!   A missing number is a probe that was sent and not recorded, except the last ones of a
//!   killed run, which were still waiting for their timeout. A probe may have several records
//!   (unanswered and then answered late, answered twice); two equal records are one that was
//!   recorded twice.

mod catalogue;
mod probes;
mod sealed;
mod spool;

pub use probes::ProbeFaults;
pub use sealed::SegmentFault;
pub use spool::{SpoolAudit, SpoolError, SpoolFrames};

use super::{Kind, Reader, StoreError};
use catalogue::{Entry, RunEntry, block, entries, expired, runs, sessions};
use hopgap_proto::record::{AgentName, Block, BlockBody, EventKind, SessionName};
use hopgap_proto::time::{Mono, Wall};
use std::collections::BTreeMap;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Agents, by name.
    pub agents: Vec<AgentAudit>,
    /// Sealed files that were read.
    pub segments: u64,
    /// What is wrong with sealed files.
    pub segment_faults: Vec<SegmentFault>,
    /// The spools that were compared with the store.
    pub spools: Vec<SpoolAudit>,
}

impl Audit {
    /// Whether everything is there, once, and whole.
    pub fn is_whole(&self) -> bool {
        self.segment_faults.is_empty()
            && self.agents.iter().all(AgentAudit::is_whole)
            && self.spools.iter().all(SpoolAudit::is_whole)
    }
}

/// The findings for one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentAudit {
    /// The agent.
    pub agent: AgentName,
    /// Its runs, ordered by start.
    pub runs: Vec<RunAudit>,
    /// Blocks that came more than once, and were stored once.
    pub duplicates_refused: u64,
    /// Frames that were whole but could not be used, and were kept aside.
    pub kept_aside: u64,
    /// Least number of blocks that the agent reported as lost.
    pub declared: u64,
}

impl AgentAudit {
    fn is_whole(&self) -> bool {
        self.kept_aside == 0 && self.runs.iter().all(RunAudit::is_whole)
    }
}

/// The findings for one run of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAudit {
    /// When it began, on the agent's wall clock.
    pub started: Wall,
    /// Blocks that are here.
    pub blocks: u64,
    /// Records in them.
    pub records: u64,
    /// Blocks that were deleted because of their age.
    pub expired: u64,
    /// Blocks that are not here.
    pub missing: Vec<Missing>,
    /// Stored blocks that are damaged.
    pub damaged: Vec<DamagedBlock>,
    /// What is wrong with the probes' numbers, by session.
    pub probes: BTreeMap<SessionName, ProbeFaults>,
}

impl RunAudit {
    fn is_whole(&self) -> bool {
        self.damaged.is_empty()
            && self.missing.iter().all(|missing| missing.declared)
            && self.probes.values().all(ProbeFaults::is_empty)
    }
}

/// A range of consecutive block numbers that are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// When the block before them was closed; `None` where the run begins with them.
    pub after: Option<Wall>,
    /// When the block after them was closed.
    pub before: Wall,
    /// Whether the agent reported lost blocks for that time.
    pub declared: bool,
}

impl Missing {
    /// How many they are.
    pub fn blocks(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// A stored block that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBlock {
    /// Its number.
    pub number: u64,
    /// What is wrong with it.
    pub what: String,
}

/// What the events of one run report.
#[derive(Default)]
struct RunEvents {
    /// Lost blocks: when the first (where known) and the last of them were closed.
    lost: Vec<(Option<Wall>, Wall)>,
    /// Least number of lost blocks.
    blocks: u64,
    /// Whether records were lost before they became a block.
    records_lost: bool,
    /// When each session began, on the run's own clock.
    begun: Vec<(i64, Mono)>,
}

impl Reader {
    /// Audits what was recorded from `from` to `to`, on the agents' clocks, and compares
    /// the frames of spools with it. Read the spools first: then a frame that leaves a spool
    /// meanwhile is already in the store.
    ///
    /// # Errors
    ///
    /// When the database fails. What is wrong with blocks and files is in the result.
    pub fn audit(
        &self,
        from: Wall,
        to: Wall,
        spools: Vec<SpoolFrames>,
    ) -> Result<Audit, StoreError> {
        // Sees one state of the store, whatever arrives or is sealed meanwhile.
        let tx = self.db.unchecked_transaction()?;
        let runs = runs(&tx)?;
        let sessions = sessions(&tx)?;
        let mut said: BTreeMap<i64, RunEvents> = BTreeMap::new();
        let mut found: Vec<(RunAudit, Vec<Entry>)> = Vec::new();
        let owners = runs.iter().map(|run| (run.id, run.agent)).collect();
        let mut senders = probes::Senders::new(from, to, owners);
        for run in &runs {
            let entries = entries(&tx, run.id, from, to)?;
            let mut audit = RunAudit {
                started: Wall::from_nanos(run.run.0.cast_signed()),
                blocks: 0,
                records: 0,
                expired: 0,
                missing: Vec::new(),
                damaged: Vec::new(),
                probes: BTreeMap::new(),
            };
            let said = said.entry(run.id).or_default();
            for entry in entries.iter().filter(|e| e.within) {
                audit.blocks += 1;
                audit.records += entry.tally[0].cast_unsigned();
                match block(&tx, run, entry)? {
                    Ok(Some(block)) => {
                        note(said, entry, &block);
                        if let BlockBody::Probes(rows) = &block.body {
                            senders.take(run.id, entry.session, rows);
                        }
                    }
                    Ok(None) => {}
                    Err(what) => audit.damaged.push(DamagedBlock {
                        number: entry.number,
                        what,
                    }),
                }
            }
            // A later block reports a loss, and may lie outside the audited time.
            for entry in entries
                .iter()
                .filter(|e| !e.within && e.kind == Some(Kind::Events))
            {
                if let Ok(Some(block)) = block(&tx, run, entry)? {
                    note(said, entry, &block);
                }
            }
            found.push((audit, entries));
        }
        let (segments, segment_faults) =
            sealed::check(self, &tx, &runs, (from, to), |run, session, probe| {
                senders.take(run, Some(session), std::slice::from_ref(probe));
            })?;
        let mut waiting = spool::waiting(&spools);
        let names: BTreeMap<i64, &SessionName> = sessions.iter().map(|(i, n)| (*i, n)).collect();
        for (run, (audit, entries)) in runs.iter().zip(&mut found) {
            let declared: Vec<_> = runs
                .iter()
                .filter(|other| other.agent == run.agent)
                .filter_map(|other| said.get(&other.id))
                .flat_map(|said| said.lost.iter().copied())
                .collect();
            let expired = expired(&tx, run.id)?;
            audit.expired = expired.iter().map(|(a, b)| b - a + 1).sum();
            let mut there = waiting
                .remove(&(run.name.clone(), run.run))
                .unwrap_or_default();
            for (first, last) in &expired {
                there.extend(*first..=*last);
            }
            audit.missing = missing(entries, &there, &declared, (from, to));
        }
        let again = senders.suspects();
        if again {
            // Reads the records again to compare those that share a number.
            for (run, (_, entries)) in runs.iter().zip(&found) {
                for entry in entries
                    .iter()
                    .filter(|e| e.within && e.kind == Some(Kind::Probes))
                {
                    if let Ok(Some(Block {
                        body: BlockBody::Probes(rows),
                        ..
                    })) = block(&tx, run, entry)?
                    {
                        senders.compare(run.id, entry.session, &rows);
                    }
                }
            }
            sealed::read_again(self, &tx, &runs, (from, to), |run, session, probe| {
                senders.compare(run, Some(session), std::slice::from_ref(probe));
            })?;
        }
        let plan = self.plan_at(to)?;
        for (run, (audit, entries)) in runs.iter().zip(&mut found) {
            let Some(said) = said.get(&run.id) else {
                continue;
            };
            for (id, session) in &names {
                let timeout = plan.as_ref().and_then(|p| {
                    let session = p.sessions.iter().find(|s| s.name == **session)?;
                    Some(session.timeout)
                });
                let ended = entries
                    .iter()
                    .filter(|e| e.kind == Some(Kind::Probes) && e.session == Some(*id))
                    .map(|e| e.closed)
                    .max_by_key(|c| c.mono);
                let Some(ended) = ended else { continue };
                let faults = senders.faults(&probes::Context {
                    run: run.id,
                    session: *id,
                    begun: &said.begun,
                    ended,
                    timeout,
                    missing: &audit.missing,
                    records_lost: said.records_lost,
                });
                if !faults.is_empty() || faults.explained > 0 {
                    audit.probes.insert((*session).clone(), faults);
                }
            }
        }
        let agents = agents(self, &runs, found, &said)?;
        let spools = spools
            .iter()
            .map(|spool| spool::check(&tx, spool))
            .collect::<Result<_, _>>()?;
        Ok(Audit {
            agents,
            segments,
            segment_faults,
            spools,
        })
    }
}

fn agents(
    reader: &Reader,
    runs: &[RunEntry],
    found: Vec<(RunAudit, Vec<Entry>)>,
    said: &BTreeMap<i64, RunEvents>,
) -> Result<Vec<AgentAudit>, StoreError> {
    let mut by_agent: BTreeMap<&AgentName, Vec<RunAudit>> = BTreeMap::new();
    for (run, (audit, _)) in runs.iter().zip(found) {
        if audit.blocks > 0 || !audit.missing.is_empty() || audit.expired > 0 {
            by_agent.entry(&run.name).or_default().push(audit);
        }
    }
    Ok(reader
        .agents()?
        .into_iter()
        .map(|status| AgentAudit {
            runs: by_agent.remove(&status.agent).unwrap_or_default(),
            duplicates_refused: status.duplicates,
            kept_aside: status.refused,
            declared: runs
                .iter()
                .filter(|run| run.name == status.agent)
                .filter_map(|run| said.get(&run.id))
                .map(|said| said.blocks)
                .sum(),
            agent: status.agent,
        })
        .collect())
}

/// Notes the losses and session starts that a block's events report.
fn note(said: &mut RunEvents, entry: &Entry, block: &Block) {
    let BlockBody::Events(events) = &block.body else {
        return;
    };
    for event in events {
        match event.kind {
            EventKind::BlocksLost { blocks, from, to } => {
                said.lost.push((from, to));
                said.blocks += u64::from(blocks);
            }
            // Records in blocks that never had a number, or in no block.
            EventKind::RecordsLost { .. } => said.records_lost = true,
            EventKind::SessionStarted => {
                if let Some(session) = entry.session {
                    said.begun.push((session, event.at));
                }
            }
            _ => {}
        }
    }
}

/// Returns the numbers below the highest one that are neither stored nor accounted for.
fn missing(
    entries: &[Entry],
    elsewhere: &std::collections::BTreeSet<u64>,
    declared: &[(Option<Wall>, Wall)],
    (from, to): (Wall, Wall),
) -> Vec<Missing> {
    let mut out = Vec::new();
    let mut next = 0;
    let mut after = None;
    for entry in entries {
        let before = entry.closed.wall;
        let mut first = next;
        while first < entry.number {
            if elsewhere.contains(&first) {
                first += 1;
                continue;
            }
            let last = elsewhere
                .range(first..entry.number)
                .next()
                .map_or(entry.number - 1, |known| known - 1);
            let declared = declared.iter().any(|(lost_from, lost_to)| {
                after.is_none_or(|after| after <= *lost_to)
                    && lost_from.is_none_or(|lost_from| lost_from <= before)
            });
            if before >= from && after.is_none_or(|after| after <= to) {
                out.push(Missing {
                    first,
                    last,
                    after,
                    before,
                    declared,
                });
            }
            first = last + 1;
        }
        next = entry.number + 1;
        after = Some(entry.closed.wall);
    }
    out
}

#[cfg(test)]
mod tests;
