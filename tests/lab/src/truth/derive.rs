//! From where packets were seen to what became of them.

use super::{FlowTruth, Mark, OUTAGE_MIN, Packet, Passages, PathEpoch, TrueOutage, TruePath};
use crate::wire::log::Flow;
use hopgap_proto::time::{Mono, Span};

/// Numbers that fall after more than this are a new run's, and not overtaken.
const OVERTAKEN: Span = Span::from_millis(500);

/// A packet at a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) seq: u32,
    pub(super) echo: Option<u32>,
    pub(super) enter: Mono,
    pub(super) exit: Option<Mono>,
}

impl Seen {
    fn key(&self) -> (u32, Option<u32>) {
        (self.seq, self.echo)
    }
}

/// Sightings of one wire, which are asked for in the order of their keys.
struct Sightings(std::iter::Peekable<std::vec::IntoIter<Seen>>);

impl Sightings {
    fn new(mut seen: Vec<Seen>) -> Self {
        sort(&mut seen);
        Self(seen.into_iter().peekable())
    }

    /// Those of `packet` that came before `until`, the next entry of one with its key.
    fn of(&mut self, packet: &Seen, until: Option<Mono>) -> Vec<Seen> {
        let from = (packet.key(), packet.enter);
        while self
            .0
            .next_if(|seen| (seen.key(), seen.enter) < from)
            .is_some()
        {}
        let mut found = Vec::new();
        let belongs = |seen: &Seen| {
            seen.key() == packet.key() && until.is_none_or(|until| seen.enter < until)
        };
        while let Some(seen) = self.0.next_if(belongs) {
            found.push(seen);
        }
        found
    }
}

fn sort(seen: &mut [Seen]) {
    seen.sort_by_key(|seen| (seen.key(), seen.enter));
}

/// What became of one direction of one flow. The fate of what had not arrived and
/// entered after `horizon` is not known.
pub(super) fn flow(flow: Flow, passages: Passages, horizon: Mono) -> FlowTruth {
    let Passages {
        mut near,
        far,
        circuits: [first, second],
    } = passages;
    sort(&mut near);
    let mut far = Sightings::new(far);
    let mut circuits = [
        (Sightings::new(first), TruePath::ExpressroutePrimary),
        (Sightings::new(second), TruePath::ExpressrouteSecondary),
    ];
    let mut packets = Vec::with_capacity(near.len());
    let mut undecided = 0;
    for (index, packet) in near.iter().enumerate() {
        let until = near
            .get(index + 1)
            .filter(|next| next.key() == packet.key())
            .map(|next| next.enter);
        let arrived = far.of(packet, until);
        let circuit = circuits
            .iter_mut()
            .flat_map(|(sightings, path)| {
                let seen = sightings.of(packet, until);
                seen.into_iter().map(|seen| (seen.enter, *path))
            })
            .max_by_key(|(enter, _)| *enter)
            .map(|(_, path)| path);
        let exit = arrived.iter().filter_map(|seen| seen.exit).min();
        if exit.is_none() && packet.enter > horizon {
            undecided += 1;
            continue;
        }
        packets.push(Packet {
            mark: Mark {
                seq: packet.seq,
                echo: packet.echo,
                enter: packet.enter,
            },
            exit,
            path: circuit.or(exit.map(|_| TruePath::Vpn)),
            duplicates: u16::try_from(arrived.len().saturating_sub(1)).unwrap_or(u16::MAX),
        });
    }
    packets.sort_by_key(|packet| packet.mark.enter);
    by_probe(&mut packets);
    FlowTruth {
        flow,
        outages: outages(&packets),
        paths: paths(&packets),
        packets,
        undecided,
    }
}

/// Brings packets in the order of time to the order of the probes. Replies leave the
/// reflector in the order in which the probes came, and where the way out changes from a
/// longer path to a shorter one, the newer overtake the older.
fn by_probe(packets: &mut [Packet]) {
    for end in 1..packets.len() {
        let mut at = end;
        while let Some([before, after]) = at.checked_sub(1).and_then(|i| packets.get_mut(i..=at))
            && after.mark.probe() < before.mark.probe()
            && after.mark.enter - before.mark.enter < OVERTAKEN
        {
            std::mem::swap(before, after);
            at -= 1;
        }
    }
}

fn outages(packets: &[Packet]) -> Vec<TrueOutage> {
    let mut outages = Vec::new();
    let mut last_good = None;
    for run in packets.chunk_by(|a, b| a.exit.is_some() == b.exit.is_some()) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        if first.exit.is_some() {
            // The run before this one, if it was an outage, ends here.
            if let Some(TrueOutage { first_good, .. }) = outages.last_mut() {
                *first_good = first_good.or(Some(first.mark));
            }
            last_good = Some(last.mark);
        } else if run.len() >= OUTAGE_MIN {
            outages.push(TrueOutage {
                last_good,
                first_lost: first.mark,
                last_lost: last.mark,
                first_good: None,
                lost: u32::try_from(run.len()).unwrap_or(u32::MAX),
            });
        }
    }
    outages
}

fn paths(packets: &[Packet]) -> Vec<PathEpoch> {
    let mut epochs: Vec<PathEpoch> = Vec::new();
    for packet in packets.iter().filter(|packet| packet.exit.is_some()) {
        let Some(path) = packet.path else { continue };
        match epochs.last_mut() {
            Some(epoch) if epoch.path == path => {
                epoch.last = packet.mark;
                epoch.packets = epoch.packets.saturating_add(1);
            }
            _ => epochs.push(PathEpoch {
                path,
                first: packet.mark,
                last: packet.mark,
                packets: 1,
            }),
        }
    }
    epochs
}
