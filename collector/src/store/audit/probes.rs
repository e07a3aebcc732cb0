//! The numbers of probes: which are missing, which were recorded twice.

use super::Missing;
use hopgap_proto::record::{FlowIndex, Probe};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// Between a probe's timeout and its record in a block that is open: the kernel's stamp is
/// waited for, and shells hand records over in batches.
const HAND_OVER: Span = Span::from_secs(1);

/// Tmax of a session that no plan knows any more, which is generous.
const UNKNOWN_TIMEOUT: Span = Span::from_secs(10);

/// What is wrong with the probes of one session in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeFaults {
    /// Records that are there twice, equal in everything.
    pub twice: u64,
    /// Probes that were sent and of which there is no record, though all blocks are there.
    pub missing: u64,
    /// Probes that were in missing blocks, or that the agent said to have lost.
    pub explained: u64,
}

impl ProbeFaults {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.twice == 0 && self.missing == 0
    }
}

/// Numbers without a gap, with the times of the first and the last.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    last: u32,
    first_sent: Mono,
    last_sent: Mono,
}

/// One flow of one session in one run.
type Key = (i64, i64, FlowIndex);

/// What is known of a run when its probes are judged.
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
    /// By first number. A session may begin again in a run, and its numbers with it: then
    /// flows are told apart by time, in [`Senders::faults`].
    stretches: BTreeMap<Key, BTreeMap<u32, Stretch>>,
    /// Numbers of which there is more than one record.
    suspects: BTreeSet<(Key, u32)>,
    /// Their records.
    records: BTreeMap<(Key, u32), Vec<Probe>>,
    twice: BTreeMap<(i64, i64), u64>,
}

impl Senders {
    pub(super) fn new(from: Wall, to: Wall) -> Self {
        Self {
            from,
            to,
            stretches: BTreeMap::new(),
            suspects: BTreeSet::new(),
            records: BTreeMap::new(),
            twice: BTreeMap::new(),
        }
    }

    /// Takes records in.
    pub(super) fn take(&mut self, run: i64, session: Option<i64>, rows: &[Probe]) {
        let Some(session) = session else { return };
        for row in rows {
            let key = (run, session, row.flow);
            let flow = self.stretches.entry(key).or_default();
            if !add(flow, row.seq.0, row.sent.at) {
                self.suspects.insert((key, row.seq.0));
            }
        }
    }

    /// Whether some numbers have more than one record, which are to be compared.
    pub(super) fn suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Takes the same records in again and compares those of one number.
    pub(super) fn compare(&mut self, run: i64, session: Option<i64>, rows: &[Probe]) {
        let Some(session) = session else { return };
        for row in rows {
            let key = ((run, session, row.flow), row.seq.0);
            if !self.suspects.contains(&key) {
                continue;
            }
            let known = self.records.entry(key).or_default();
            if known.contains(row) {
                *self.twice.entry((run, session)).or_default() += 1;
            } else {
                known.push(*row);
            }
        }
    }

    /// What is wrong with one session in one run.
    pub(super) fn faults(&self, context: &Context<'_>) -> ProbeFaults {
        let (run, session) = (context.run, context.session);
        let mut faults = ProbeFaults {
            twice: self.twice.get(&(run, session)).copied().unwrap_or(0),
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
                // Numbers began anew between them.
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
                    // They were waited for when the run ended.
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

/// Adds a number; false where it is there already.
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
