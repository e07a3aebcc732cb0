//! Gathers records into blocks.
//!
//! Shells hand over small batches through a channel; the recorder keeps one
//! open block for each session and kind, and closes it when it has grown old or
//! large. It decides nothing about where blocks go: `run` spools them.

use hopgap_proto::record::{
    AgentName, Block, BlockBody, BlockHeader, BlockKey, Echo, Event, Probe, Reception, RunId,
    SessionName, TargetName, Trace,
};
use hopgap_proto::time::{ClockPair, Mono, Span};
use std::collections::BTreeMap;

/// Rows at which a block is closed, whatever its age: bounds the memory of a fast session
/// (about 80 bytes a row).
const MAX_ROWS: usize = 32_768;
/// The same for traceroutes and events, whose rows have no fixed size: even with the largest
/// rows a block stays far below the largest frame.
const MAX_LONG_ROWS: usize = 512;

/// Records of one session on their way from a shell to the recorder.
#[derive(Debug, Default)]
pub struct Batch {
    /// The session; `None` for the agent itself.
    pub session: Option<SessionName>,
    /// The Session-Sender's account.
    pub probes: Vec<Probe>,
    /// The Session-Reflector's account.
    pub receptions: Vec<Reception>,
    /// Traceroutes.
    pub traces: Vec<Trace>,
    /// Events.
    pub events: Vec<Event>,
    /// ICMP echo of targets.
    pub echoes: Vec<(TargetName, Echo)>,
}

impl Batch {
    /// Makes an empty batch of one session.
    pub fn of(session: SessionName) -> Self {
        Self {
            session: Some(session),
            ..Self::default()
        }
    }

    /// Returns how many records of all kinds are in it.
    pub fn rows(&self) -> usize {
        let Self {
            session: _,
            probes,
            receptions,
            traces,
            events,
            echoes,
        } = self;
        probes.len() + receptions.len() + traces.len() + events.len() + echoes.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Probes,
    Receptions,
    Traces,
    Events,
    Echoes,
}

impl Kind {
    fn most_rows(self) -> usize {
        match self {
            Self::Probes | Self::Receptions | Self::Echoes => MAX_ROWS,
            Self::Traces | Self::Events => MAX_LONG_ROWS,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OpenKey {
    session: Option<SessionName>,
    kind: Kind,
    target: Option<TargetName>,
}

#[derive(Debug)]
struct Open {
    since: Mono,
    body: BlockBody,
}

/// Open blocks of one run of the agent.
#[derive(Debug)]
pub struct Recorder {
    agent: AgentName,
    run: RunId,
    span: Span,
    next_number: u64,
    open: BTreeMap<OpenKey, Open>,
}

impl Recorder {
    /// Makes a recorder that closes blocks after `span`.
    pub fn new(agent: AgentName, run: RunId, span: Span) -> Self {
        Self {
            agent,
            run,
            span,
            next_number: 0,
            open: BTreeMap::new(),
        }
    }

    /// Adds a batch; returns the blocks that are full.
    pub fn push(&mut self, batch: Batch, now: ClockPair) -> Vec<Block> {
        let Batch {
            session,
            probes,
            receptions,
            traces,
            events,
            echoes,
        } = batch;
        let mut closed = Vec::new();
        let key = |kind| OpenKey {
            session: session.clone(),
            kind,
            target: None,
        };
        self.extend(
            key(Kind::Probes),
            BlockBody::Probes(probes),
            now,
            &mut closed,
        );
        self.extend(
            key(Kind::Receptions),
            BlockBody::Receptions(receptions),
            now,
            &mut closed,
        );
        self.extend(
            key(Kind::Traces),
            BlockBody::Traces(traces),
            now,
            &mut closed,
        );
        self.extend(
            key(Kind::Events),
            BlockBody::Events(events),
            now,
            &mut closed,
        );
        for (target, echo) in echoes {
            let key = OpenKey {
                target: Some(target.clone()),
                ..key(Kind::Echoes)
            };
            self.extend(key, BlockBody::Echoes(target, vec![echo]), now, &mut closed);
        }
        closed
    }

    /// Closes and returns the blocks that are old enough.
    pub fn close_due(&mut self, now: ClockPair) -> Vec<Block> {
        let due = |open: &Open| now.mono.saturating_since(open.since) >= self.span;
        let keys: Vec<OpenKey> = self
            .open
            .iter()
            .filter(|(_, o)| due(o))
            .map(|(k, _)| k.clone())
            .collect();
        keys.iter().filter_map(|key| self.close(key, now)).collect()
    }

    /// Closes the block of the agent's own events, where one is open.
    pub fn close_own_events(&mut self, now: ClockPair) -> Option<Block> {
        let own = OpenKey {
            session: None,
            kind: Kind::Events,
            target: None,
        };
        self.close(&own, now)
    }

    /// Closes every block at the end of the run.
    pub fn close_all(&mut self, now: ClockPair) -> Vec<Block> {
        let keys: Vec<OpenKey> = self.open.keys().cloned().collect();
        keys.iter().filter_map(|key| self.close(key, now)).collect()
    }

    fn extend(&mut self, key: OpenKey, body: BlockBody, now: ClockPair, closed: &mut Vec<Block>) {
        if body.rows() == 0 {
            return;
        }
        let most = key.kind.most_rows();
        let full = match self.open.get_mut(&key) {
            Some(open) => {
                append(&mut open.body, body);
                open.body.rows() >= most
            }
            None => {
                let full = body.rows() >= most;
                self.open.insert(
                    key.clone(),
                    Open {
                        since: now.mono,
                        body,
                    },
                );
                full
            }
        };
        if full {
            closed.extend(self.close(&key, now));
        }
    }

    fn close(&mut self, key: &OpenKey, now: ClockPair) -> Option<Block> {
        let open = self.open.remove(key)?;
        let number = self.next_number;
        self.next_number += 1;
        Some(Block {
            header: BlockHeader {
                key: BlockKey {
                    agent: self.agent.clone(),
                    run: self.run,
                    number,
                },
                session: key.session.clone(),
                closed: now,
            },
            body: open.body,
        })
    }
}

/// Appends rows to a body. Bodies under one key are of one kind; ignores another kind.
fn append(to: &mut BlockBody, from: BlockBody) {
    match (to, from) {
        (BlockBody::Probes(to), BlockBody::Probes(from)) => to.extend(from),
        (BlockBody::Receptions(to), BlockBody::Receptions(from)) => to.extend(from),
        (BlockBody::Traces(to), BlockBody::Traces(from)) => to.extend(from),
        (BlockBody::Events(to), BlockBody::Events(from)) => to.extend(from),
        (BlockBody::Echoes(_, to), BlockBody::Echoes(_, from)) => to.extend(from),
        _ => debug_assert!(false, "one key holds one kind"),
    }
}

#[cfg(test)]
mod tests;
