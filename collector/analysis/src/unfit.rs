//! Counts ICMP errors and traceroute answers that match nothing sent.

use crate::align::Session;
use crate::findings::{UnfitIcmp, UnfitIcmpFinding};
use hopgap_proto::record::{EventKind, UnfitIcmp as Recorded};
use std::collections::BTreeMap;

/// Counts of both ends, by kind.
pub(crate) fn find(session: &Session<'_>) -> Vec<UnfitIcmpFinding> {
    let sender = session.runs.iter().flat_map(|run| &run.events);
    let reflector = session.log.events.iter().map(|event| &event.kind);
    let mut counts: BTreeMap<UnfitIcmp, u64> = BTreeMap::new();
    for kind in sender.map(|event| &event.kind).chain(reflector) {
        if let EventKind::UnfitIcmp { what, count } = kind {
            *counts.entry(kind_of(*what)).or_default() += u64::from(*count);
        }
    }
    counts
        .into_iter()
        .map(|(what, count)| UnfitIcmpFinding { what, count })
        .collect()
}

fn kind_of(recorded: Recorded) -> UnfitIcmp {
    match recorded {
        Recorded::Trace => UnfitIcmp::Trace,
        Recorded::TraceEarly => UnfitIcmp::TraceEarly,
        Recorded::TraceLate => UnfitIcmp::TraceLate,
        Recorded::TooBig => UnfitIcmp::TooBig,
        Recorded::Probe => UnfitIcmp::Probe,
        Recorded::Unread => UnfitIcmp::Unread,
    }
}

#[cfg(test)]
mod tests {
    use crate::findings::{UnfitIcmp, UnfitIcmpFinding};
    use crate::scenario::{line, sent_at, world};
    use hopgap_proto::record::{Event, EventKind, UnfitIcmp as Recorded};

    #[test]
    fn what_fits_nothing_is_counted_by_kind_and_told() {
        let mut world = world(&[line(&".".repeat(20))]);
        for (at, what, count) in [
            (3, Recorded::Trace, 100),
            (5, Recorded::Trace, 28),
            (6, Recorded::TooBig, 1),
        ] {
            world.events.push(Event {
                at: sent_at(world.interval, at),
                kind: EventKind::UnfitIcmp { what, count },
            });
        }
        let found = world.analyse();
        let counted = |what, count| UnfitIcmpFinding { what, count };
        assert_eq!(
            found.sessions[0].unfit_icmp,
            [
                counted(UnfitIcmp::Trace, 128),
                counted(UnfitIcmp::TooBig, 1)
            ]
        );
        let caveats = found.caveats.join("\n");
        assert!(
            caveats.contains("128 traceroute answers that fit nothing that was sent"),
            "{caveats}"
        );
        assert!(caveats.contains("1 ICMP message `too big`"), "{caveats}");
    }
}
