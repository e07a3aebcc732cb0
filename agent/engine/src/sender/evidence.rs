//! ICMP errors as evidence: the first of each kind, then one a second, and the
//! last one before it ceased. At a thousand probes a second every router on the
//! way may say the same thing a thousand times.

use hopgap_proto::record::{Event, EventKind, IcmpEvidence};
use hopgap_proto::time::{Mono, Span};

const EVERY: Span = Span::from_secs(1);
/// Kinds remembered; the one silent for longest is forgotten.
const MOST_KINDS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Kind {
    latest: IcmpEvidence,
    seen: Mono,
    recorded: Mono,
}

/// Recent ICMP errors about one session's probes, by kind.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    kinds: Vec<Kind>,
}

impl Evidence {
    /// Takes an error that arrived at `at`. Returns the events to record.
    pub(super) fn take(&mut self, at: Mono, evidence: IcmpEvidence) -> [Option<Event>; 2] {
        if let Some(kind) = self.kinds.iter_mut().find(|k| same(&k.latest, &evidence)) {
            if at - kind.recorded < EVERY {
                kind.latest = evidence;
                kind.seen = kind.seen.max(at);
                return [None, None];
            }
            // After a pause: first record the last error before it.
            let ceased = (at - kind.seen >= EVERY)
                .then(|| kind.unrecorded())
                .flatten();
            *kind = Kind {
                latest: evidence,
                seen: at,
                recorded: at,
            };
            return [ceased, Some(event(at, evidence))];
        }
        let forgotten = if self.kinds.len() < MOST_KINDS {
            None
        } else {
            let oldest = self.kinds.iter().enumerate().min_by_key(|(_, k)| k.seen);
            oldest
                .map(|(i, _)| i)
                .and_then(|i| self.kinds.swap_remove(i).unrecorded())
        };
        self.kinds.push(Kind {
            latest: evidence,
            seen: at,
            recorded: at,
        });
        [forgotten, Some(event(at, evidence))]
    }

    /// Records the last error of each kind that has ceased by `now`.
    pub(super) fn expire(&mut self, now: Mono, mut record: impl FnMut(Event)) {
        self.kinds.retain(|kind| {
            let lives = now - kind.seen < EVERY;
            if !lives && let Some(event) = kind.unrecorded() {
                record(event);
            }
            lives
        });
    }
}

impl Kind {
    fn unrecorded(&self) -> Option<Event> {
        (self.seen > self.recorded).then(|| event(self.seen, self.latest))
    }
}

fn event(at: Mono, evidence: IcmpEvidence) -> Event {
    Event {
        at,
        kind: EventKind::Icmp(evidence),
    }
}

fn same(a: &IcmpEvidence, b: &IcmpEvidence) -> bool {
    let key = |e: &IcmpEvidence| (e.flow, e.from, e.icmp_type, e.code, e.mtu);
    key(a) == key(b)
}
