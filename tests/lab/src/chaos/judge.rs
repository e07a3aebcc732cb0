//! What was recorded, held against what is stored.

mod audit;

use super::faults::Counts;
use super::hostile::{HOSTILE, MADE_UP};
use super::world::{Program, World};
use anyhow::{Context, Result};
use audit::Audit;
use hopgap_proto::record::{Block, BlockBody, BlockKey, FlowIndex, Probe, RunId, SessionName};
use hopgap_proto::time::{Span, Wall};
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Judgement {
    counts: Counts,
    cut: (u64, u64),
    made: u64,
    records_made: u64,
    stored: u64,
    records_stored: u64,
    /// Deliveries of a block that was stored already.
    again: u64,
    /// Blocks that are there more than once.
    doubled: u64,
    /// Records of probes that are there more than once.
    probes_doubled: u64,
    probes: u64,
    /// Blocks that were recorded, are not there, and were not damaged by a flip.
    lost: Vec<BlockKey>,
    /// Blocks that were in an agent's memory only, because its disk was full, when it was
    /// killed: they were seen in a request that was cut, and nowhere else.
    memory_only: u64,
    /// Blocks that a flip cost.
    flipped_lost: u64,
    flipped: u64,
    /// Blocks that are there with other bytes than were recorded.
    different: Vec<BlockKey>,
    /// Blocks that are there and were never recorded.
    never: Vec<BlockKey>,
    /// Numbers that nobody saw below the highest one of their run.
    unseen: u64,
    /// Blocks that agents recorded under a key that they had used.
    changed: u64,
    unreadable: u64,
    /// Hours in files, and blocks in them.
    sealed_files: u64,
    sealed_blocks: u64,
    /// Files that have another number of records than their blocks have.
    sealed_wrong: u64,
    /// An hour ended during the run: some must be sealed.
    seals: bool,
    audit: Audit,
}

impl Judgement {
    /// Whether nothing was lost and nothing doubled.
    pub(super) fn holds(&self) -> bool {
        self.lost.is_empty()
            && self.different.is_empty()
            && self.never.is_empty()
            && self.doubled == 0
            && self.probes_doubled == 0
            && self.unseen == 0
            && self.changed == 0
            && self.unreadable == 0
            && self.counts.undelivered == 0
            && self.audit.waiting == 0
            && self.sealed_wrong == 0
            && (!self.seals || self.sealed_blocks > 0)
            && self.counts.beside.is_none_or(|beside| beside.holds())
            && self.audit.faults.is_empty()
    }

    /// For people.
    pub(super) fn table(&self, command: &str) -> String {
        let of = |map: &BTreeMap<Program, u64>, agents: bool| -> u64 {
            let picked = map
                .iter()
                .filter(|(p, _)| matches!(p, Program::Agent(_)) == agents);
            picked.map(|(_, n)| n).sum()
        };
        let c = &self.counts;
        let [refused, blackholed, mid_request, before_answer] = c.cuts;
        let mut out = format!("`{command}`\n\n");
        let mut row = |what: &str, n: u64| {
            let _ = writeln!(out, "| {what} | {n} |");
        };
        row("what", 0);
        let rows: [(&str, u64); 31] = [
            ("kills of agents", of(&c.kills, true)),
            ("kills of the collector", of(&c.kills, false)),
            (
                "agents that ended by themselves and were started again",
                of(&c.ended, true),
            ),
            ("collectors that did", of(&c.ended, false)),
            ("times the way was refused", refused),
            ("times it was a black hole", blackholed),
            (
                "times requests were cut, and answers",
                mid_request + before_answer,
            ),
            ("requests cut in their midst", self.cut.0),
            ("answers cut after the collector had stored", self.cut.1),
            ("times an agent's disk was full", of(&c.full, true)),
            ("times the collector's disk was full", of(&c.full, false)),
            ("bits flipped in spools", c.flips),
            ("**blocks made**", self.made),
            ("records made", self.records_made),
            ("**blocks stored**", self.stored),
            ("records stored", self.records_stored),
            ("probes stored", self.probes),
            ("of the blocks, sealed in files", self.sealed_blocks),
            ("such files", self.sealed_files),
            (
                "of them with more or fewer records than their blocks",
                self.sealed_wrong,
            ),
            ("deliveries refused because the block was there", self.again),
            ("blocks that a flipped bit hit", self.flipped),
            ("of them not stored", self.flipped_lost),
            (
                "blocks in memory only, because the disk was full, when their agent was killed",
                self.memory_only,
            ),
            (
                "**blocks lost**",
                u64::try_from(self.lost.len()).unwrap_or(u64::MAX),
            ),
            ("**blocks doubled**", self.doubled),
            ("**records of probes doubled**", self.probes_doubled),
            (
                "blocks stored with other bytes",
                u64::try_from(self.different.len()).unwrap_or(u64::MAX),
            ),
            (
                "blocks stored that were never made",
                u64::try_from(self.never.len()).unwrap_or(u64::MAX),
            ),
            ("numbers in the midst of a run that nobody saw", self.unseen),
            ("bytes not delivered at the end", c.undelivered),
        ];
        for (what, n) in rows {
            row(what, n);
        }
        if let Some(beside) = c.beside {
            for (what, n) in [
                (
                    "requests of the hostile agent that were answered",
                    beside.attacks,
                ),
                ("deliveries beside it", beside.delivered),
                ("**of them delayed by more than a second**", beside.delayed),
                ("the longest of them, in milliseconds", beside.longest_ms),
                ("reports made meanwhile", beside.reports),
                ("**reports that could not be made**", beside.reports_failed),
            ] {
                row(what, n);
            }
        }
        if let Some(claimed) = self.audit.claimed {
            row(
                "blocks that the hostile agent numbered and never sent",
                claimed.missing,
            );
            row("frames of it that nobody can use", claimed.kept_aside);
        }
        let mut out = out.replace("| what | 0 |", "| | |\n|---|---:|");
        let _ = writeln!(out, "\n`hopgap-collector audit`: {}", self.audit.verdict);
        if self.audit.claimed.is_some() {
            let beside = match self.audit.faults.is_empty() {
                true => "nothing is wrong",
                false => "THIS IS WRONG:",
            };
            let _ = writeln!(
                out,
                "Beside the hostile agent's own numbers and frames {beside}"
            );
        }
        for fault in &self.audit.faults {
            let _ = writeln!(out, "- {fault}");
        }
        for (what, keys) in [
            ("lost", &self.lost),
            ("different", &self.different),
            ("never made", &self.never),
        ] {
            for key in keys.iter().take(20) {
                let _ = writeln!(
                    out,
                    "- {what}: block {} of run {} of {}",
                    key.number, key.run.0, key.agent
                );
            }
        }
        let verdict = if self.holds() {
            "nothing was lost and nothing doubled"
        } else {
            "THIS IS NOT RIGHT"
        };
        let _ = writeln!(out, "\n{verdict}");
        out
    }
}

/// Judges a run whose programs have ended.
pub(super) fn judge(world: &World, counts: Counts, seals: bool) -> Result<Judgement> {
    let mut it = Judgement {
        counts,
        seals,
        cut: world.proxy.cut(),
        ..Judgement::default()
    };
    let frames = world.truth.gather()?;
    it.made = u64::try_from(frames.blocks.len())?;
    it.changed = u64::try_from(frames.changed.len())?;
    it.unreadable = frames.unreadable;
    it.flipped = u64::try_from(frames.flipped.len())?;
    let mut numbers: BTreeMap<(String, RunId), (u64, u64)> = BTreeMap::new();
    for (key, payload) in &frames.blocks {
        it.records_made += u64::try_from(Block::peek(payload)?.rows)?;
        let run = numbers.entry((key.agent.to_string(), key.run)).or_default();
        run.0 += 1;
        run.1 = run.1.max(key.number + 1);
    }
    it.unseen = numbers.values().map(|(seen, end)| end - seen).sum();

    let stored = read_store(world, &mut it)?;
    for (key, payload) in &frames.blocks {
        if !stored.contains_key(key) {
            if frames.flipped.contains(key) {
                it.flipped_lost += 1;
            } else if !frames.on_disk.contains(key) && in_memory_only(&it.counts, key, payload)? {
                it.memory_only += 1;
            } else {
                it.lost.push(key.clone());
            }
        }
    }
    let mut probes: BTreeMap<(RunId, SessionName, FlowIndex, u32), Vec<Probe>> = BTreeMap::new();
    let mut sealed: BTreeMap<i64, i64> = BTreeMap::new();
    for (key, bytes) in &stored {
        let Some(made) = frames.blocks.get(key) else {
            it.never.push(key.clone());
            continue;
        };
        match bytes {
            Stored::Bytes(bytes) if bytes != made => it.different.push(key.clone()),
            Stored::Sealed(crc, _) if *crc != crc_of(made) => it.different.push(key.clone()),
            _ => {}
        }
        let block = Block::decode(made)?;
        if let Stored::Sealed(_, file) = bytes {
            it.sealed_blocks += 1;
            *sealed.entry(*file).or_default() += i64::try_from(block.body.rows())?;
        }
        it.records_stored += u64::try_from(block.body.rows())?;
        if let (Some(session), BlockBody::Probes(rows)) = (block.header.session, block.body) {
            for row in rows {
                it.probes += 1;
                let number = (key.run, session.clone(), row.flow, row.seq.0);
                // A reply that comes late is a second record of its probe, and another one.
                let known = probes.entry(number).or_default();
                if known.contains(&row) {
                    it.probes_doubled += 1;
                }
                known.push(row);
            }
        }
    }
    drop(frames);
    let files = sealed_files(world)?;
    it.sealed_files = u64::try_from(files.len())?;
    let wrong = files
        .iter()
        .filter(|(id, rows)| sealed.get(id) != Some(rows));
    it.sealed_wrong = u64::try_from(wrong.count())?;

    let turned = it.counts.beside.is_some().then_some(HOSTILE);
    it.audit = Audit::read(&world.audit()?, turned)?;
    Ok(it)
}

/// Whether a block was closed while its agent's disk was full, or so shortly after that
/// the agent had not tried the disk again, and the agent was killed before it had.
fn in_memory_only(counts: &Counts, key: &BlockKey, payload: &[u8]) -> Result<bool> {
    let closed = Block::peek(payload)?.header.closed.wall;
    Ok(lost_with_memory(counts, key.agent.as_str(), closed))
}

fn lost_with_memory(counts: &Counts, agent: &str, closed: Wall) -> bool {
    let again = Span::from_millis(1_500);
    let mut fulls = counts.fulls.iter().filter(|full| full.0.name() == agent);
    fulls.any(|(program, from, until)| {
        let until = *until + again;
        let mut ends = counts.ends.iter().filter(|end| end.0 == *program);
        (*from..=until).contains(&closed) && ends.any(|end| (closed..=until).contains(&end.1))
    })
}

/// A block as the store has it.
enum Stored {
    Bytes(Vec<u8>),
    /// The checksum of what was sealed, and the file.
    Sealed(u32, i64),
}

fn crc_of(payload: &[u8]) -> u32 {
    // The frame's header has it.
    let mut frame = Vec::new();
    if hopgap_proto::frame::append(&mut frame, hopgap_proto::frame::FrameKind::Block, payload)
        .is_err()
    {
        return 0;
    }
    u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]])
}

fn open_store(world: &World) -> Result<Connection> {
    let path = world.store().join("hopgap.db");
    Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Sealed files, and how many records the catalogue says that each has; the audit holds
/// that against the file.
fn sealed_files(world: &World) -> Result<Vec<(i64, i64)>> {
    let db = open_store(world)?;
    // Those of a session of agents whose blocks are made up are the audit's business.
    let mut statement = db.prepare(
        "SELECT id, records FROM segment
         WHERE session IN (SELECT id FROM session WHERE name IN ('a-b', 'b-a'))",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All blocks of the store, without the collector's help.
fn read_store(world: &World, it: &mut Judgement) -> Result<BTreeMap<BlockKey, Stored>> {
    let db = open_store(world)?;
    let mut statement = db.prepare(
        "SELECT agent.name, run.started, number, crc, data, segment
         FROM block JOIN run ON run.id = block.run JOIN agent ON agent.id = run.agent
         LEFT JOIN payload ON payload.block = block.id
         WHERE agent.name NOT IN (?1, ?2)",
    )?;
    let mut rows = statement.query(MADE_UP)?;
    let mut stored = BTreeMap::new();
    let mut twice = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let agent: String = row.get(0)?;
        let key = BlockKey {
            agent: agent.parse().context("not an agent's name")?,
            run: RunId(row.get::<_, i64>(1)?.cast_unsigned()),
            number: row.get::<_, i64>(2)?.cast_unsigned(),
        };
        let bytes = match row.get::<_, Option<Vec<u8>>>(4)? {
            Some(bytes) => Stored::Bytes(bytes),
            None => Stored::Sealed(row.get(3)?, row.get(5)?),
        };
        it.stored += 1;
        if stored.insert(key.clone(), bytes).is_some() {
            twice.insert(key);
        }
    }
    it.doubled = u64::try_from(twice.len())?;
    let again: i64 = db.query_row(
        "SELECT coalesce(sum(duplicates), 0) FROM agent WHERE name NOT IN (?1, ?2)",
        MADE_UP,
        |row| row.get(0),
    )?;
    it.again = again.cast_unsigned();
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_in_memory_when_its_agent_was_killed_is_excused() {
        let at = |ms| Wall::ZERO + Span::from_millis(ms);
        let (a, b) = (Program::Agent(0), Program::Agent(1));
        let counts = Counts {
            fulls: vec![(a, at(10_000), at(12_000))],
            ends: vec![(a, at(11_000)), (b, at(12_500)), (a, at(20_000))],
            ..Counts::default()
        };
        let excused = |agent, closed| lost_with_memory(&counts, agent, at(closed));
        assert!(excused("a", 10_500));
        // Closed after that kill: the agent lived until the disk had room again.
        assert!(!excused("a", 11_500));
        // Before the disk was full, and another agent's disk.
        assert!(!excused("a", 9_000));
        assert!(!excused("b", 12_000));
        // The kill that came long after took nothing with it.
        assert!(!excused("a", 13_000));
    }
}
