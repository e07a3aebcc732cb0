use super::Timeline;
use crate::findings::MarkerKind;
use crate::input::{EchoRecords, Input};
use crate::scenario::{BEGIN, UTC, line, pair, utc_at, world};
use hopgap_proto::record::{Echo, Event, EventKind, RunId, Stamp, StampSource};
use hopgap_proto::time::{ClockPair, Span};

fn json(input: &Input) -> String {
    serde_json::to_string(&crate::analyse(input)).unwrap()
}

#[test]
fn order_and_repetition_make_no_difference() {
    let once = world(&[line("....xxxx...l..d..rrrr....RRss....")])
        .mark(Span::from_millis(20), MarkerKind::Failover)
        .input();
    let mut often = once.clone();
    let sessions = &mut often.sessions;
    let mut again = sessions[0].clone();
    again.sender[0].probes.reverse();
    again.sender[0].clocks.reverse();
    again.sender[0].events.reverse();
    again.reflector[0].receptions.reverse();
    // One run's records in two parts, and a part of it in the middle of another delivery.
    let tail = again.sender[0].probes.split_off(11);
    let mut part = again.sender[0].clone();
    part.probes = tail;
    again.sender.push(part);
    sessions.insert(0, again);
    often.markers.extend(once.markers.clone());
    assert_eq!(json(&once), json(&often));
}

#[test]
fn a_step_of_the_wall_clock_changes_instants_and_no_lengths() {
    let scene = world(&[line(&format!("{0}xxxx{0}", ".".repeat(1000)))]);
    let plain = scene.analyse();
    let mut input = scene.input();
    // Set forward by an hour at slot 1500, noticed by a clock reading 5 s later.
    let step = Span::from_secs(3600);
    let at = crate::scenario::sent_at(Span::from_millis(10), 1500);
    let sender = &mut input.sessions[0].sender[0];
    for clock in &mut sender.clocks {
        if clock.mono > at {
            clock.wall += step;
        }
    }
    sender.events.push(Event {
        at,
        kind: EventKind::ClockStepped(step),
    });
    let found = crate::analyse(&input);
    let (before, after) = (&plain.sessions[0].flows[0], &found.sessions[0].flows[0]);
    assert_eq!(
        before.outages, after.outages,
        "the outage was before the step"
    );
    assert_eq!(before.counts, after.counts, "no loss is invented by a step");
    let window = found.window.unwrap();
    assert_eq!(window.from, utc_at(Span::from_millis(10), 0));
    assert_eq!(window.to.0, utc_at(Span::from_millis(10), 2003).0 + step);
    let told: Vec<_> = found
        .caveats
        .iter()
        .filter(|c| c.contains("was set forward by 3600 s"))
        .collect();
    assert_eq!(told.len(), 1, "{:?}", found.caveats);
}

#[test]
fn caveats_on_clocks_come_after_what_was_missed() {
    let mut input = world(&[line("....ss....RR......")]).input();
    input.sessions[0].sender[0].clocks.clear();
    let caveats = crate::analyse(&input).caveats;
    assert!(caveats.len() > 1, "{caveats:?}");
    let first = caveats.iter().position(|c| c.contains("clock"));
    assert_eq!(first, Some(caveats.len() - 1), "{caveats:?}");
}

#[test]
fn noisy_readings_are_no_step() {
    let readings = (0..20)
        .map(|i| {
            let p = pair(Span::from_secs(i * 10));
            ClockPair {
                wall: p.wall + Span::from_micros(i % 3 * 40),
                ..p
            }
        })
        .collect();
    let timeline = Timeline::new(readings, &[]);
    assert_eq!(timeline.steps().count(), 0);
    let off = timeline.utc(BEGIN) - UTC;
    assert!(off <= Span::from_micros(80) && !off.is_negative());
}

#[test]
fn without_a_reading_nothing_panics_and_it_is_said() {
    let mut input = world(&[line(&format!("....xxxx{}", ".".repeat(300)))]).input();
    input.sessions[0].sender[0].clocks.clear();
    input.sessions[0].reflector[0].clocks.clear();
    let found = crate::analyse(&input);
    assert!(found.caveats.iter().any(|c| c.contains("no clock reading")));
    let lost: u64 = found.sessions[0].flows[0]
        .outages
        .iter()
        .map(|o| o.lost)
        .sum();
    assert_eq!(lost, 4);
}

#[test]
fn only_the_window_is_judged() {
    let mut input = world(&[line("..xxxx..............xxxx......")]).input();
    let interval = Span::from_millis(10);
    input.window = Some((utc_at(interval, 10).0, utc_at(interval, 29).0));
    let found = crate::analyse(&input);
    assert_eq!(found.sessions[0].counts.sent, 20);
    assert_eq!(found.sessions[0].flows[0].outages.len(), 1);
    assert_eq!(found.window.unwrap().from, utc_at(interval, 10));
}

#[test]
fn sequence_numbers_wrap() {
    let mut input = world(&[line("....xxxx....rrrr....")]).input();
    let shift = u32::MAX - 5;
    for probe in &mut input.sessions[0].sender[0].probes {
        probe.seq.0 = probe.seq.0.wrapping_add(shift);
    }
    for reception in &mut input.sessions[0].reflector[0].receptions {
        reception.seq.0 = reception.seq.0.wrapping_add(shift);
    }
    let found = crate::analyse(&input);
    let flow = &found.sessions[0].flows[0];
    assert_eq!((flow.counts.lost_forward, flow.counts.lost_reverse), (4, 4));
    assert_eq!(flow.outages.len(), 2);
    assert_eq!(flow.outages[0].last_lost.seq, 1);
    // The same by the counter.
    input.sessions[0].reflector.clear();
    let counts = crate::analyse(&input).sessions[0].counts;
    assert_eq!((counts.lost_forward, counts.lost_reverse), (4, 4));
}

#[test]
fn seconds_are_whole_seconds_of_utc() {
    let found = world(&[line(&format!("{}xxxx{}", ".".repeat(150), ".".repeat(146)))]).analyse();
    let seconds = &found.sessions[0].seconds;
    assert_eq!(seconds.len(), 3);
    assert!(seconds.iter().all(|s| s.sent == 100));
    let lost: Vec<_> = seconds.iter().map(|s| s.lost_forward).collect();
    assert_eq!(lost, [0, 4, 0]);
    assert_eq!(seconds[0].p50_ns.unwrap().0, Span::from_millis(5));
}

#[test]
fn stretches_without_echo_are_listed() {
    let mut input = Input::default();
    let echo = |i: i64, answered: bool| Echo {
        seq: u16::try_from(i).unwrap(),
        sent: Stamp {
            at: BEGIN + Span::from_secs(i),
            source: StampSource::User,
        },
        round_trip: answered.then_some(Span::from_millis(2)),
    };
    input.echoes.push(EchoRecords {
        target: "msee".parse().unwrap(),
        agent: "onprem".parse().unwrap(),
        run: RunId(1),
        clocks: vec![pair(Span::ZERO)],
        echoes: (0..20)
            .map(|i| echo(i, !(5..9).contains(&i) && i != 15))
            .chain([echo(3, true), echo(3, false)])
            .collect(),
    });
    let found = crate::analyse(&input).echoes;
    assert_eq!((found[0].sent, found[0].answered), (20, 15));
    assert_eq!(found[0].silent.len(), 1);
    assert_eq!(found[0].silent[0].from.0, UTC + Span::from_secs(5));
    assert_eq!(found[0].silent[0].to.0, UTC + Span::from_secs(8));
}

#[test]
fn a_pause_of_the_sender_is_said_and_is_no_loss() {
    let mut input = world(&[line(&".".repeat(2000))]).input();
    // Suspended: nothing was sent, and nothing says that slots were skipped.
    input.sessions[0].sender[0]
        .probes
        .retain(|p| !(500..900).contains(&p.seq.0));
    for probe in &mut input.sessions[0].sender[0].probes {
        if probe.seq.0 >= 900 {
            probe.seq.0 -= 400;
        }
    }
    for reception in &mut input.sessions[0].reflector[0].receptions {
        if reception.seq.0 >= 900 {
            reception.seq.0 -= 400;
        }
    }
    let found = crate::analyse(&input);
    assert!(found.sessions[0].flows[0].outages.is_empty());
    assert!(
        found
            .caveats
            .iter()
            .any(|c| c.contains("sent nothing for 4")),
        "{:?}",
        found.caveats
    );
}

#[test]
fn a_session_that_is_started_anew_within_a_run_numbers_its_probes_anew() {
    // The plan was changed 3 s after the first probe: the agent goes on, the session's
    // sequence numbers begin again.
    let mut input = world(&[line(&"..x.".repeat(100))]).input();
    let later = Span::from_secs(10);
    let again = world(&[line(&"....".repeat(100))]).input();
    let records = &mut input.sessions[0];
    for (begun, started) in [(BEGIN, Span::ZERO), (BEGIN + later, later)] {
        records.sender[0].events.push(Event {
            at: begun - Span::from_micros(1),
            kind: EventKind::SessionStarted,
        });
        let stopped = started + Span::from_secs(5);
        records.sender[0].events.push(Event {
            at: BEGIN + stopped,
            kind: EventKind::SessionStopped,
        });
    }
    for mut probe in again.sessions[0].sender[0].probes.clone() {
        probe.sent.at += later;
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.at += later;
            reply.reflector_received += later;
            reply.reflector_sent += later;
        }
        records.sender[0].probes.push(probe);
    }
    for mut reception in again.sessions[0].reflector[0].receptions.clone() {
        reception.received.at += later;
        records.reflector[0].receptions.push(reception);
    }
    let found = crate::analyse(&input);
    let counts = &found.sessions[0].counts;
    assert_eq!((counts.sent, counts.answered), (800, 700));
    assert_eq!(counts.lost_forward, 100);
    assert_eq!((counts.duplicated, counts.lost_unknown), (0, 0));
    assert!(
        !found
            .caveats
            .iter()
            .any(|c| c.contains("belong to no probe")),
        "{:?}",
        found.caveats
    );
}

#[test]
fn arrivals_of_a_killed_run_are_not_taken_for_those_of_the_next() {
    // A run of 4 s whose last second of records was lost with it, and the next, which
    // loses on the way out just the numbers that those records had.
    let mut input = world(&[line(&".".repeat(400))]).input();
    let lost = format!("{}{}{}", ".".repeat(300), "x".repeat(100), ".".repeat(300));
    let next = world(&[line(&lost)]).input();
    let later = Span::from_secs(5);
    let records = &mut input.sessions[0];
    records.sender[0].probes.truncate(300);
    let mut run = next.sessions[0].sender[0].clone();
    run.run = hopgap_proto::record::RunId(9);
    for clock in &mut run.clocks {
        clock.mono += later;
        clock.wall += later;
    }
    for probe in &mut run.probes {
        probe.sent.at += later;
        if let hopgap_proto::record::ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.at += later;
            reply.reflector_received += later;
            reply.reflector_sent += later;
        }
    }
    records.sender.push(run);
    for mut reception in next.sessions[0].reflector[0].receptions.clone() {
        reception.received.at += later;
        records.reflector[0].receptions.push(reception);
    }
    let found = crate::analyse(&input);
    let counts = &found.sessions[0].counts;
    assert_eq!((counts.lost_forward, counts.lost_reverse), (100, 0));
    assert!(
        found
            .caveats
            .iter()
            .any(|c| c.contains("100 arrivals in the reflector's log belong to no probe")),
        "{:?}",
        found.caveats
    );
}

#[test]
fn an_agent_that_ended_in_order_has_told_all_that_reached_it() {
    // The reflecting agent ends in an outage on the way out.
    let mut input = world(&[line(&format!("{}{}", ".".repeat(300), "x".repeat(300)))]).input();
    let reflector = &mut input.sessions[0].reflector[0];
    let last = reflector.receptions.last().unwrap().received.at;
    let stopped = last + Span::from_secs(2);
    reflector.clocks.retain(|c| c.mono <= stopped);
    let counts = |input: &Input| crate::analyse(input).sessions[0].counts;
    assert_eq!(counts(&input).lost_forward, 0);
    input.sessions[0].reflector[0].events.push(Event {
        at: stopped,
        kind: EventKind::ReflectorStopped,
    });
    let counts = counts(&input);
    // What was to come in the last 20 ms may have come after the end.
    assert_eq!((counts.lost_forward, counts.no_data), (197, 103));
}
