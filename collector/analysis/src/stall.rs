//! When a session's hosts stood still, by their own records.

use crate::align::Session;
use crate::findings::HostStall;
use crate::schema::{Nanos, Utc};
use hopgap_proto::record::EventKind;
use hopgap_proto::time::Wall;

/// Returns the stalls of both ends that touch the time in which the session sent; each dated by
/// its own wall clock.
pub(crate) fn of(session: &Session<'_>) -> Vec<HostStall> {
    let mut found: Vec<HostStall> = Vec::new();
    let mut arrivals: Option<(Wall, Wall)> = None;
    for (index, run) in session.runs.iter().enumerate() {
        let samples = || run.flows.values().flat_map(|f| &f.samples).map(|s| s.sent);
        if let Some((first, last)) = samples().min().zip(samples().max()) {
            let expected = |sent| session.log.expected(index, &run.timeline, sent);
            let (first, last) = (expected(first), expected(last));
            let (from, to) = arrivals.unwrap_or((first, last));
            arrivals = Some((from.min(first), to.max(last)));
        }
        for event in &run.events {
            let (since, suspended) = match event.kind {
                EventKind::Stalled { since } => (since, false),
                EventKind::Suspended { since, .. } => (since, true),
                _ => continue,
            };
            let (from, to) = (run.timeline.utc(since), run.timeline.utc(event.at));
            found.push(HostStall {
                suspended,
                ..stall(run.agent.to_string(), false, from, to)
            });
        }
    }
    let touched = |from: Wall, to: Wall| arrivals.is_some_and(|(a, b)| from <= b && a <= to);
    let reflector = session.log.stalls.iter();
    found.extend(
        reflector
            .filter(|s| touched(s.from, s.to))
            .map(|s| HostStall {
                suspended: s.slept,
                ..stall(
                    session.to_name(),
                    true,
                    session.log.shown(s.from),
                    session.log.shown(s.to),
                )
            }),
    );
    found.sort_by(|a, b| (a.from, a.to, &a.agent).cmp(&(b.from, b.to, &b.agent)));
    found.dedup();
    found
}

fn stall(agent: String, reflects: bool, from: Wall, to: Wall) -> HostStall {
    HostStall {
        agent,
        reflects,
        suspended: false,
        from: Utc(from),
        to: Utc(to),
        lasted_ns: Nanos(to - from),
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{line, sent_at, utc_at, world};
    use hopgap_proto::record::{Event, EventKind};
    use hopgap_proto::time::Span;

    #[test]
    fn both_hosts_tell_of_their_own_stalls() {
        let mut world = world(&[line(&".".repeat(1_000))]);
        let stalls = |world: &crate::scenario::World| {
            let found = world.analyse();
            let told = found.caveats.iter().any(|c| c.contains("stood still"));
            (found.sessions[0].host_stalls.clone(), told)
        };
        assert_eq!(stalls(&world), (vec![], false));
        // The sender looked away from slot 100 to slot 400.
        world.events = vec![Event {
            at: sent_at(world.interval, 400),
            kind: EventKind::Stalled {
                since: sent_at(world.interval, 100),
            },
        }];
        world.stalls = vec![(Span::from_secs(6), Span::from_secs(8))];
        let (found, told) = stalls(&world);
        assert!(told);
        let [sender, reflector] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((sender.agent.as_str(), sender.reflects), ("onprem", false));
        assert_eq!(sender.from, utc_at(world.interval, 100));
        assert_eq!(
            (reflector.agent.as_str(), reflector.reflects),
            ("azure", true)
        );
        let lasted = reflector.lasted_ns.0;
        assert!(
            (lasted - Span::from_secs(2)).abs() < Span::from_millis(20),
            "{lasted}"
        );
    }
}
