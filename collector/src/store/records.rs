//! Reads records back from blobs and from sealed files.

mod size;

pub use size::Size;

use super::reader::name;
use super::schema::keeps_checksums;
use super::{Kind, Reader, StoreError, sealed};
use hopgap_proto::record::{
    AgentName, Block, BlockBody, Echo, Event, Probe, Reception, RunId, SessionName, TargetName,
    Trace,
};
use hopgap_proto::time::{ClockPair, Mono, Wall};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;

/// What one run of one agent recorded of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRows {
    /// The agent's clocks, read together whenever it closed a block.
    pub clocks: Vec<ClockPair>,
    /// The Session-Sender's account.
    pub probes: Vec<Probe>,
    /// The Session-Reflector's account.
    pub receptions: Vec<Reception>,
    /// Traceroutes.
    pub traces: Vec<Trace>,
    /// Events of the session and of the agent itself.
    pub events: Vec<Event>,
}

/// The ICMP echo records of one target by one run of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoRows {
    /// The target.
    pub target: TargetName,
    /// The agent that sent.
    pub agent: AgentName,
    /// Its run.
    pub run: RunId,
    /// The agent's clocks, read together whenever it closed a block.
    pub clocks: Vec<ClockPair>,
    /// The records.
    pub echoes: Vec<Echo>,
}

/// Rows by the run that recorded them.
pub type Runs = BTreeMap<(AgentName, RunId), RunRows>;

/// A block of the catalogue that is still a blob.
struct Stored {
    run: i64,
    closed: ClockPair,
    /// The CRC-32 that it was stored with; `None` where an older version stored it.
    crc: Option<u32>,
    payload: Vec<u8>,
}

impl Stored {
    /// Decodes the block; `None` where it is damaged. It was decoded before it was stored, so
    /// only the disk can have changed it. The other blocks are still worth reading.
    fn decode(&self) -> Option<Block> {
        if self
            .crc
            .is_some_and(|crc| crc32fast::hash(&self.payload) != crc)
        {
            tracing::error!(
                "a stored block is damaged: its bytes no longer match their checksum; what it held is told as lost"
            );
            return None;
        }
        Block::decode(&self.payload)
            .inspect_err(|error| {
                tracing::error!(
                    "a stored block cannot be read, and what it held is told as lost: {error}"
                );
            })
            .ok()
    }
}

impl Reader {
    /// Returns a session's records of the given kinds from `from` to `to`, on the clock of the
    /// agent that recorded them, by agent and run. An agent's own events come with those of
    /// its sessions. The clock readings are those of that time and the next one after it,
    /// when its last records were shipped.
    ///
    /// # Errors
    ///
    /// When the database or a sealed file fails.
    pub fn records(
        &self,
        session: &SessionName,
        kinds: &[Kind],
        from: Wall,
        to: Wall,
    ) -> Result<Runs, StoreError> {
        self.records_of(session, None, kinds, from, to)
    }

    /// Returns the same for one agent, without reading other agents' records.
    ///
    /// # Errors
    ///
    /// When the database or a sealed file fails.
    pub fn records_by(
        &self,
        session: &SessionName,
        agent: &AgentName,
        kinds: &[Kind],
        (from, to): (Wall, Wall),
    ) -> Result<Runs, StoreError> {
        self.records_of(session, Some(agent), kinds, from, to)
    }

    fn records_of(
        &self,
        session: &SessionName,
        agent: Option<&AgentName>,
        kinds: &[Kind],
        from: Wall,
        to: Wall,
    ) -> Result<Runs, StoreError> {
        // Sees one state of the store, whatever is sealed meanwhile.
        let tx = self.db.unchecked_transaction()?;
        let whose = AgentFilter {
            names: run_names(&tx)?,
            only: agent,
        };
        let mut runs = Runs::new();
        for kind in kinds {
            self.read_kind(&tx, &whose, session, *kind, (from, to), &mut runs)?;
        }
        for ((agent, run), rows) in &mut runs {
            rows.clocks = clocks(&tx, agent, *run, from, to)?;
        }
        Ok(runs)
    }

    /// How many records there are in the blocks that overlap the time from `from` to `to`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn count(&self, from: Wall, to: Wall) -> Result<u64, StoreError> {
        let count: i64 = self.db.query_row(
            "SELECT coalesce(sum(records), 0) FROM block WHERE last >= ?1 AND first <= ?2",
            params![from.as_nanos(), to.as_nanos()],
            |row| row.get(0),
        )?;
        Ok(count.cast_unsigned())
    }

    /// Whether an agent has records of the time from `from` to `to`, on its own clock.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn has_records(&self, agent: &AgentName, from: Wall, to: Wall) -> Result<bool, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT 1 FROM block WHERE run IN (
               SELECT run.id FROM run JOIN agent ON agent.id = run.agent WHERE agent.name = ?1)
             AND records > 0 AND last >= ?2 AND first <= ?3 LIMIT 1",
        )?;
        Ok(statement.exists(params![agent.as_str(), from.as_nanos(), to.as_nanos()])?)
    }

    /// Returns the runs of an agent that closed a block from `from` to `to`, with its clocks
    /// then. They show that the agent ran, also where it recorded nothing of a session.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn runs(
        &self,
        agent: &AgentName,
        from: Wall,
        to: Wall,
    ) -> Result<BTreeMap<RunId, Vec<ClockPair>>, StoreError> {
        let tx = self.db.unchecked_transaction()?;
        let mut statement = tx.prepare(
            "SELECT run.started FROM run JOIN agent ON agent.id = run.agent
             WHERE agent.name = ?1 AND EXISTS (
               SELECT 1 FROM block WHERE block.run = run.id AND closed_wall BETWEEN ?2 AND ?3)",
        )?;
        let started = statement.query_map(
            params![agent.as_str(), from.as_nanos(), to.as_nanos()],
            |row| row.get::<_, i64>(0),
        )?;
        let mut runs = BTreeMap::new();
        for run in started {
            let run = RunId(run?.cast_unsigned());
            runs.insert(run, clocks(&tx, agent, run, from, to)?);
        }
        Ok(runs)
    }

    /// The ICMP echo records sent from `from` to `to` on the clock of the agent that
    /// sent, by target, agent and run.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn echoes(&self, from: Wall, to: Wall) -> Result<Vec<EchoRows>, StoreError> {
        self.echoes_of(None, from, to)
    }

    /// Returns the same for one agent.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn echoes_by(
        &self,
        agent: &AgentName,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<EchoRows>, StoreError> {
        self.echoes_of(Some(agent), from, to)
    }

    fn echoes_of(
        &self,
        agent: Option<&AgentName>,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<EchoRows>, StoreError> {
        let tx = self.db.unchecked_transaction()?;
        let whose = AgentFilter {
            names: run_names(&tx)?,
            only: agent,
        };
        let mut found: BTreeMap<(TargetName, AgentName, RunId), Vec<Echo>> = BTreeMap::new();
        blobs(&tx, None, Kind::Echoes, (from, to), |stored| {
            let Some((agent, run)) = whose.recorded(stored.run) else {
                return;
            };
            let Some(Block {
                body: BlockBody::Echoes(target, echoes),
                ..
            }) = stored.decode()
            else {
                return;
            };
            let within = within(stored.closed, from, to);
            let echoes = echoes.into_iter().filter(|e| within(e.sent.at));
            found
                .entry((target, agent.clone(), *run))
                .or_default()
                .extend(echoes);
        })?;
        found
            .into_iter()
            .map(|((target, agent, run), echoes)| {
                Ok(EchoRows {
                    clocks: clocks(&tx, &agent, run, from, to)?,
                    target,
                    agent,
                    run,
                    echoes,
                })
            })
            .collect()
    }

    fn read_kind(
        &self,
        tx: &Transaction<'_>,
        whose: &AgentFilter<'_>,
        session: &SessionName,
        kind: Kind,
        (from, to): (Wall, Wall),
        runs: &mut Runs,
    ) -> Result<(), StoreError> {
        match kind {
            Kind::Probes => {
                sealed::read(self, tx, whose, session, (from, to), runs, |rows, probe| {
                    rows.probes.push(probe);
                })?;
            }
            Kind::Receptions => {
                sealed::read(self, tx, whose, session, (from, to), runs, |rows, r| {
                    rows.receptions.push(r);
                })?;
            }
            Kind::Traces | Kind::Events | Kind::Echoes => {}
        }
        let mut take = |stored: Stored| {
            // Checked before decoding, so that other agents' blocks cost nothing.
            let Some((agent, run)) = whose.recorded(stored.run) else {
                return;
            };
            let rows = runs.entry((agent.clone(), *run)).or_default();
            let Some(block) = stored.decode() else {
                rows.events
                    .push(sealed::lost(1, stored.closed, stored.closed.wall));
                return;
            };
            let within = within(stored.closed, from, to);
            match block.body {
                BlockBody::Probes(all) => {
                    rows.probes
                        .extend(all.into_iter().filter(|p| within(p.sent.at)));
                }
                BlockBody::Receptions(all) => {
                    let all = all.into_iter().filter(|r| within(r.received.at));
                    rows.receptions.extend(all);
                }
                BlockBody::Traces(all) => {
                    let touches = |t: &Trace| within(t.started) || within(t.finished);
                    rows.traces.extend(all.into_iter().filter(touches));
                }
                BlockBody::Events(all) => {
                    rows.events.extend(all.into_iter().filter(|e| within(e.at)));
                }
                BlockBody::Echoes(..) => {}
            }
        };
        blobs(tx, Some(session), kind, (from, to), &mut take)?;
        Ok(())
    }
}

pub(super) type RunNames = BTreeMap<i64, (AgentName, RunId)>;

/// Whose records are read.
pub(super) struct AgentFilter<'a> {
    /// All runs. None may be missing: the run tells which agent a sealed row belongs to.
    pub(super) names: RunNames,
    /// The one agent whose records are wanted; `None` for all.
    only: Option<&'a AgentName>,
}

impl AgentFilter<'_> {
    pub(super) fn wants(&self, agent: &AgentName) -> bool {
        self.only.is_none_or(|only| only == agent)
    }

    /// Returns the agent and run of a run's row id, where that agent is wanted.
    pub(super) fn recorded(&self, run: i64) -> Option<&(AgentName, RunId)> {
        self.names.get(&run).filter(|(agent, _)| self.wants(agent))
    }
}

fn run_names(tx: &Transaction<'_>) -> Result<RunNames, StoreError> {
    let mut statement = tx.prepare(
        "SELECT run.id, agent.name, run.started FROM run JOIN agent ON agent.id = run.agent",
    )?;
    let rows = statement.query_map([], |row| {
        let run = RunId(row.get::<_, i64>(2)?.cast_unsigned());
        Ok((row.get(0)?, (name(row, 1)?, run)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns a test for instants from `from` to `to`, by the clocks read when a block closed.
fn within(closed: ClockPair, from: Wall, to: Wall) -> impl Fn(Mono) -> bool {
    move |at| {
        let at = closed.wall_of(at);
        from <= at && at <= to
    }
}

/// Passes the blocks of a kind that overlap a time to `each`: those of a session (and,
/// for events, those of agents themselves), or all.
fn blobs(
    tx: &Transaction<'_>,
    session: Option<&SessionName>,
    kind: Kind,
    (from, to): (Wall, Wall),
    mut each: impl FnMut(Stored),
) -> Result<(), StoreError> {
    let whose = match (session, kind) {
        (None, _) => "?1 IS NULL",
        (Some(_), Kind::Events) => {
            "(session IS NULL OR session = (SELECT id FROM session WHERE name = ?1))"
        }
        (Some(_), _) => "session = (SELECT id FROM session WHERE name = ?1)",
    };
    let crc = if keeps_checksums(tx)? { "crc" } else { "NULL" };
    let mut statement = tx.prepare_cached(&format!(
        "SELECT run, closed_mono, closed_wall, {crc}, data FROM block JOIN payload ON payload.block = block.id
         WHERE {whose} AND kind = ?2 AND last >= ?3 AND first <= ?4 ORDER BY first, block.id"
    ))?;
    let mut rows = statement.query(params![
        session.map(SessionName::as_str),
        kind.code(),
        from.as_nanos(),
        to.as_nanos()
    ])?;
    while let Some(row) = rows.next()? {
        each(Stored {
            run: row.get(0)?,
            closed: ClockPair {
                mono: Mono::from_nanos(row.get(1)?),
                wall: Wall::from_nanos(row.get(2)?),
            },
            crc: row.get(3)?,
            payload: row.get(4)?,
        });
    }
    Ok(())
}

fn clocks(
    tx: &Transaction<'_>,
    agent: &AgentName,
    run: RunId,
    from: Wall,
    to: Wall,
) -> Result<Vec<ClockPair>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT DISTINCT closed_mono, closed_wall FROM block
         WHERE run = (SELECT run.id FROM run JOIN agent ON agent.id = run.agent
                      WHERE agent.name = ?1 AND run.started = ?2)
         AND closed_wall BETWEEN ?3 AND coalesce(
           (SELECT min(b.closed_wall) FROM block b WHERE b.run = block.run AND b.closed_wall > ?4), ?4)
         ORDER BY closed_mono",
    )?;
    let pairs = statement.query_map(
        params![
            agent.as_str(),
            run.0.cast_signed(),
            from.as_nanos(),
            to.as_nanos()
        ],
        |row| {
            Ok(ClockPair {
                mono: Mono::from_nanos(row.get(0)?),
                wall: Wall::from_nanos(row.get(1)?),
            })
        },
    )?;
    Ok(pairs.collect::<Result<_, _>>()?)
}
