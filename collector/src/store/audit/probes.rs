//! Finds probe numbers that are missing or were recorded twice.

use super::Missing;
use hopgap_proto::record::{FlowIndex, Probe};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// Longest time from a probe's timeout to its record in an open block: the agent waits for
/// the kernel's stamp, and shells hand over records in batches.
const HAND_OVER: Span = Span::from_secs(1);

/// Tmax assumed for a session that is not in the plan; generous.
const UNKNOWN_TIMEOUT: Span = Span::from_secs(10);

/// Most gaps, and numbers with more than one record, held for one agent. An honest agent has
/// some thousands.
const MOST_HELD: usize = 1 << 20;
/// Most records held for comparison for one agent.
const MOST_RECORDS: usize = 2 << 20;
/// Most records compared for one number. A probe answered late and twice has three.
const MOST_OF_ONE: usize = 16;

/// What is wrong with the probes of one session in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeFaults {
    /// Records that equal an earlier record in everything.
    pub twice: u64,
    /// Probes that were sent and have no record, though no missing block explains it.
    pub missing: u64,
    /// Records that were not compared, because the agent has more gaps in its numbers, or more
    /// records of one number, than an audit holds: forged records must not use up all memory.
    pub unjudged: u64,
    /// Missing probes that a missing block, or a loss that the agent reported, explains.
    pub explained: u64,
}

impl ProbeFaults {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.twice == 0 && self.missing == 0 && self.unjudged == 0
    }
}

/// A range of numbers without a gap, with the send times of the first and the last.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    last: u32,
    first_sent: Mono,
    last_sent: Mono,
}

/// One flow of one session in one run.
type Key = (i64, i64, FlowIndex);

/// What is known of a session's run when its probes are judged.
pub(super) struct Context<'a> {
    pub(super) run: i64,
    pub(super) session: i64,
    /// When sessions began.
    pub(super) begun: &'a [(i64, Mono)],
    /// When the last block of the session's probes was closed.
    pub(super) ended: ClockPair,
    pub(super) timeout: Option<Span>,
    pub(super) missing: &'a [Missing],
    pub(super) records_lost: bool,
}

/// All probes, by their numbers.
pub(super) struct Senders {
    from: Wall,
    to: Wall,
    /// Stretches by first number. A session may restart within a run and number from the start
    /// again; [`Senders::faults`] tells these stretches apart by time.
    stretches: BTreeMap<Key, BTreeMap<u32, Stretch>>,
    /// Numbers with more than one record.
    suspects: BTreeSet<(Key, u32)>,
    /// Their records.
    records: BTreeMap<(Key, u32), Vec<Probe>>,
    twice: BTreeMap<(i64, i64), u64>,
    unjudged: BTreeMap<(i64, i64), u64>,
    /// The agent of each run.
    agents: BTreeMap<i64, i64>,
    /// How much is held for each agent.
    held: BTreeMap<i64, Held>,
}

/// How much is held for one agent.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    numbers: usize,
    records: usize,
}

impl Senders {
    /// Judges probes sent in that time; `agents` maps each run to its agent.
    pub(super) fn new(from: Wall, to: Wall, agents: BTreeMap<i64, i64>) -> Self {
        Self {
            from,
            to,
            stretches: BTreeMap::new(),
            suspects: BTreeSet::new(),
            records: BTreeMap::new(),
            twice: BTreeMap::new(),
            unjudged: BTreeMap::new(),
            agents,
            held: BTreeMap::new(),
        }
    }

    /// Adds records.
    pub(super) fn take(&mut self, run: i64, session: Option<i64>, rows: &[Probe]) {
        let Some(session) = session else { return };
        let agent = self.agents.get(&run).copied().unwrap_or(run);
        let held = self.held.entry(agent).or_default();
        for row in rows {
            if held.numbers >= MOST_HELD {
                *self.unjudged.entry((run, session)).or_default() += 1;
                continue;
            }
            let key = (run, session, row.flow);
            let flow = self.stretches.entry(key).or_default();
            let before = flow.len();
            if add(flow, row.seq.0, row.sent.at) {
                held.numbers = (held.numbers + flow.len()).saturating_sub(before);
            } else if self.suspects.insert((key, row.seq.0)) {
                held.numbers += 1;
            }
        }
    }

    /// Returns whether some numbers have several records, which need [`Senders::compare`].
    pub(super) fn suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Takes the same records a second time and compares those that share a number.
    pub(super) fn compare(&mut self, run: i64, session: Option<i64>, rows: &[Probe]) {
        let Some(session) = session else { return };
        let agent = self.agents.get(&run).copied().unwrap_or(run);
        let held = self.held.entry(agent).or_default();
        for row in rows {
            let key = ((run, session, row.flow), row.seq.0);
            if !self.suspects.contains(&key) {
                continue;
            }
            let known = self.records.entry(key).or_default();
            if known.contains(row) {
                *self.twice.entry((run, session)).or_default() += 1;
            } else if known.len() >= MOST_OF_ONE || held.records >= MOST_RECORDS {
                *self.unjudged.entry((run, session)).or_default() += 1;
            } else {
                known.push(*row);
                held.records += 1;
            }
        }
    }

    /// Returns what is wrong with one session in one run.
    pub(super) fn faults(&self, context: &Context<'_>) -> ProbeFaults {
        let (run, session) = (context.run, context.session);
        let mut faults = ProbeFaults {
            twice: self.twice.get(&(run, session)).copied().unwrap_or(0),
            unjudged: self.unjudged.get(&(run, session)).copied().unwrap_or(0),
            ..ProbeFaults::default()
        };
        let begun: Vec<Mono> = context
            .begun
            .iter()
            .filter_map(|(of, at)| (*of == session).then_some(*at))
            .collect();
        let flows = (run, session, FlowIndex(0))..=(run, session, FlowIndex(u8::MAX));
        for flow in self.stretches.range(flows).map(|(_, flow)| flow) {
            let mut stretches = flow.iter();
            let Some((_, mut before)) = stretches.next() else {
                continue;
            };
            for (first, after) in stretches {
                let count = u64::from(first - before.last - 1);
                let (lower, upper) = (before.last_sent, after.first_sent);
                before = after;
                // The session restarted its numbers between them.
                let anew = upper < lower || begun.iter().any(|at| lower < *at && *at <= upper);
                if count == 0 || anew {
                    continue;
                }
                let wall = |at| context.ended.wall_of(at);
                if wall(lower) < self.from || wall(upper) > self.to {
                    continue;
                }
                let waits = context.timeout.unwrap_or(UNKNOWN_TIMEOUT) + HAND_OVER;
                if upper + waits >= context.ended.mono {
                    // The run ended while it still waited for these probes.
                    continue;
                }
                let explained = context.records_lost
                    || context.missing.iter().any(|m| {
                        m.after.is_none_or(|after| after <= wall(upper) + waits)
                            && wall(lower) <= m.before
                    });
                if explained {
                    faults.explained += count;
                } else {
                    faults.missing += count;
                }
            }
        }
        faults
    }
}

/// Adds a number; returns false where it is already there.
fn add(flow: &mut BTreeMap<u32, Stretch>, seq: u32, sent: Mono) -> bool {
    let below = flow.range_mut(..=seq).next_back();
    let joined = match below {
        Some((_, stretch)) if stretch.last >= seq => return false,
        Some((first, stretch)) if stretch.last.checked_add(1) == Some(seq) => {
            stretch.last = seq;
            stretch.last_sent = sent;
            Some(*first)
        }
        _ => None,
    };
    let next = seq.checked_add(1).and_then(|next| flow.remove(&next));
    let (last, last_sent) = next.map_or((seq, sent), |next| (next.last, next.last_sent));
    match joined.and_then(|first| flow.get_mut(&first)) {
        Some(stretch) => {
            stretch.last = last;
            stretch.last_sent = last_sent;
        }
        None => {
            flow.insert(
                seq,
                Stretch {
                    last,
                    first_sent: sent,
                    last_sent,
                },
            );
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopgap_proto::record::{ProbeFate, Stamp, StampSource};
    use hopgap_proto::stamp::Seq;

    fn probe(seq: u32, at: i64) -> Probe {
        Probe {
            flow: FlowIndex(0),
            seq: Seq(seq),
            sent: Stamp {
                at: Mono::from_nanos(at),
                source: StampSource::Kernel,
            },
            fate: ProbeFate::Unanswered,
        }
    }

    /// The faults of session 1 in a run, in which all blocks are here.
    fn faults(senders: &Senders, run: i64) -> ProbeFaults {
        senders.faults(&Context {
            run,
            session: 1,
            begun: &[],
            ended: ClockPair {
                mono: Mono::from_nanos(1_000_000_000_000_000),
                wall: Wall::from_nanos(1_000_000_000_000_000),
            },
            timeout: None,
            missing: &[],
            records_lost: false,
        })
    }

    /// Runs 1 and 2 are of agent 7, run 3 of agent 8.
    fn senders() -> Senders {
        let agents = [(1, 7), (2, 7), (3, 8)].into();
        Senders::new(Wall::MIN, Wall::MAX, agents)
    }

    #[test]
    fn records_of_one_number_are_compared_and_many_of_them_told() {
        let mut senders = senders();
        let rows: Vec<_> = (0..40).map(|at| probe(0, at)).collect();
        senders.take(1, Some(1), &rows);
        senders.compare(1, Some(1), &rows[..3]);
        senders.compare(1, Some(1), &rows[..3]);
        assert_eq!(
            (faults(&senders, 1).twice, faults(&senders, 1).unjudged),
            (3, 0)
        );
        senders.compare(1, Some(1), &rows[3..]);
        // 16 are held; the other 24 are not compared with each other.
        assert_eq!(
            (faults(&senders, 1).twice, faults(&senders, 1).unjudged),
            (3, 24)
        );
    }

    #[test]
    fn gaps_that_an_agent_makes_up_cost_no_more_than_its_share() {
        let mut senders = senders();
        let most = u32::try_from(MOST_HELD).unwrap();
        let gaps: Vec<_> = (0..most).map(|i| probe(2 * i, i64::from(i))).collect();
        senders.take(1, Some(1), &gaps);
        assert_eq!(faults(&senders, 1).unjudged, 0);
        // In another run it has no other share.
        senders.take(2, Some(1), &gaps[..100]);
        assert_eq!(faults(&senders, 2).unjudged, 100);
        // Another agent has its own.
        senders.take(3, Some(1), &[probe(0, 0), probe(1, 1), probe(1, 1)]);
        assert!(senders.suspects());
        assert_eq!(faults(&senders, 3), ProbeFaults::default());
    }
}
