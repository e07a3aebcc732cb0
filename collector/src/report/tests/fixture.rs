//! Findings as a drill in the article's topology gives them: both peerings
//! disabled and enabled again, and one MSEE only. Synthetic and deterministic.

mod faults;

pub(in crate::report) use faults::{grey, one_msee};

use hopgap_analysis::findings::*;
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_proto::time::{Span, Wall};

/// 2026-11-23 02:10:00 UTC.
const START: i64 = 1_795_399_800;
const INTERVAL_MS: i64 = 10;
const FLOWS: u8 = 8;
pub(super) const ER1: &str = "expressroute-primary";
pub(super) const ER2: &str = "expressroute-secondary";
pub(super) const VPN: &str = "vpn";

pub(super) fn ns(n: i64) -> Nanos {
    Nanos(Span::from_nanos(n))
}

fn us(n: i64) -> Nanos {
    ns(n * 1_000)
}

fn ms(n: i64) -> Nanos {
    ns(n * 1_000_000)
}

/// `millis` milliseconds after the start.
pub(super) fn at(millis: i64) -> Utc {
    Utc(Wall::from_nanos(START * 1_000_000_000 + millis * 1_000_000))
}

/// The probe `seq` of a flow: flows are spread over the interval.
fn probe(flow: u8, seq: i64) -> ProbePoint {
    let offset = i64::from(flow) * INTERVAL_MS * 1_000_000 / i64::from(FLOWS);
    let jitter = (seq * 7_919 + i64::from(flow) * 104_729) % 60_000;
    let sent = START * 1_000_000_000 + seq * INTERVAL_MS * 1_000_000 + offset + jitter;
    ProbePoint {
        seq: u32::try_from(seq).unwrap(),
        sent: Utc(Wall::from_nanos(sent)),
    }
}

/// The outage of the probes a..=b.
fn outage(flow: u8, direction: Direction, a: i64, b: i64) -> Outage {
    let (before, first) = (probe(flow, a - 1), probe(flow, a));
    let (last, after) = (probe(flow, b), probe(flow, b + 1));
    let lost = u64::try_from(b - a + 1).unwrap();
    Outage {
        direction,
        last_good: Some(before),
        first_lost: first,
        last_lost: last,
        first_good: Some(after),
        began: first.sent,
        ended: Some(after.sent),
        at_least_ns: Nanos(last.sent.0 - first.sent.0),
        at_most_ns: Some(Nanos(after.sent.0 - before.sent.0)),
        lost,
        refused: 0,
        cause: None,
        passed: 0,
        loss_periods: vec![LossPeriod {
            direction,
            first,
            last,
            lost,
        }],
        unsent: 0,
    }
}

fn epoch(flow: u8, path: &str, a: i64, b: i64) -> PathEpoch {
    let hops: &[Option<&str>] = match path {
        VPN => &[Some("10.1.11.1"), None, Some("10.17.11.132")],
        ER2 => &[
            Some("10.1.11.1"),
            Some("192.168.11.2"),
            Some("192.168.11.22"),
            None,
            Some("10.17.11.132"),
        ],
        _ => &[
            Some("10.1.11.1"),
            Some("192.168.11.0"),
            Some("192.168.11.18"),
            None,
            Some("10.17.11.132"),
        ],
    };
    PathEpoch {
        path: Some(path.to_owned()),
        named_by: NamedBy::Trace,
        target_at_hop: u8::try_from(hops.len()).ok(),
        first: probe(flow, a),
        last: probe(flow, b),
        probes: u64::try_from(b - a + 1).unwrap(),
        hops: hops.iter().map(|h| h.map(str::to_owned)).collect(),
    }
}

fn latency(path: &str, count: u64) -> Latency {
    let base = if path == VPN { 8_020 } else { 5_310 };
    Latency {
        count,
        min_ns: us(base - 180),
        p50_ns: us(base),
        p90_ns: us(base + 140),
        p99_ns: us(base + 490),
        p999_ns: us(base + 1_900),
        max_ns: us(base + 7_770),
    }
}

/// One direction's part of a round trip.
fn halved(of: Latency) -> Latency {
    let half = |value: Nanos| Nanos(value.0 / 2);
    Latency {
        count: of.count,
        min_ns: half(of.min_ns),
        p50_ns: half(of.p50_ns),
        p90_ns: half(of.p90_ns),
        p99_ns: half(of.p99_ns),
        p999_ns: half(of.p999_ns),
        max_ns: half(of.max_ns),
    }
}

fn marker(kind: MarkerKind, millis: i64, text: &str) -> Marker {
    Marker {
        at: at(millis),
        kind,
        text: text.to_owned(),
    }
}

fn route(millis: i64, path: Option<&str>, reached: bool, hops: &[(&str, i64)]) -> Route {
    Route {
        at: at(millis),
        path: path.map(str::to_owned),
        reached,
        hops: hops
            .iter()
            .zip(1..)
            .map(|(&(address, micros), hop)| RouteHop {
                hop,
                asked: true,
                address: (!address.is_empty()).then(|| address.to_owned()),
                round_trip_ns: (!address.is_empty()).then(|| us(micros)),
                unreachable: (address == "10.1.11.1" && !reached)
                    .then(|| "network unreachable".to_owned()),
            })
            .collect(),
    }
}

fn over_expressroute(millis: i64) -> Route {
    route(
        millis,
        Some(ER1),
        true,
        &[
            ("10.1.11.1", 312),
            ("192.168.11.0", 455),
            ("192.168.11.18", 871),
            ("", 0),
            ("10.17.11.132", 5_322),
        ],
    )
}

fn over_vpn(millis: i64) -> Route {
    route(
        millis,
        Some(VPN),
        true,
        &[("10.1.11.1", 309), ("", 0), ("10.17.11.132", 8_041)],
    )
}

/// Seconds of the drill; `path` and `lost` say what happened in each.
fn seconds(
    count: i64,
    path: impl Fn(i64) -> &'static str,
    lost: impl Fn(i64) -> (u64, u64),
) -> Vec<Second> {
    (0..count)
        .map(|s| {
            let path = path(s);
            let (forward, reverse) = lost(s);
            let wave = (s * s * 37 + s * 11) % 97;
            let base = if path == VPN { 8_020 } else { 5_310 };
            let sent = 800;
            let silent = forward + reverse >= sent;
            Second {
                at: at(s * 1_000),
                sent,
                lost_forward: forward,
                lost_reverse: reverse,
                lost_unknown: 0,
                p50_ns: (!silent).then(|| us(base + wave)),
                p99_ns: (!silent).then(|| us(base + 380 + 3 * wave + 40 * (wave % 7))),
                path: (!silent).then(|| path.to_owned()),
            }
        })
        .collect()
}

fn flow(index: u8, epochs: &[(&str, i64, i64)], outages: Vec<Outage>) -> FlowFindings {
    let paths: Vec<PathEpoch> = epochs
        .iter()
        .map(|&(path, a, b)| epoch(index, path, a, b))
        .collect();
    let lost = |direction| -> u64 {
        let of = |o: &&Outage| o.direction == direction;
        outages.iter().filter(of).map(|o| o.lost).sum()
    };
    let counts = Counts {
        sent: 36_000,
        answered: 36_000 - lost(Direction::Forward) - lost(Direction::Reverse),
        lost_forward: lost(Direction::Forward),
        lost_reverse: lost(Direction::Reverse),
        ..Counts::default()
    };
    FlowFindings {
        flow: index,
        source_port: 50_000 + u16::from(index),
        counts,
        outages,
        background: Vec::new(),
        forward_paths: paths.clone(),
        reverse_paths: paths,
    }
}

fn session(name: &str, from: &str, to: &str, flows: Vec<FlowFindings>) -> SessionFindings {
    let mut counts = Counts::default();
    for flow in &flows {
        counts.sent += flow.counts.sent;
        counts.answered += flow.counts.answered;
        counts.lost_forward += flow.counts.lost_forward;
        counts.lost_reverse += flow.counts.lost_reverse;
    }
    SessionFindings {
        session: name.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        interval_ns: ms(INTERVAL_MS),
        direction_source: DirectionSource::ReflectorLog,
        counts,
        flows,
        latency: Vec::new(),
        path_mtu: Vec::new(),
        seconds: Vec::new(),
        asymmetries: Vec::new(),
        host_stalls: Vec::new(),
        translations: Vec::new(),
        not_running: Vec::new(),
        unfit_icmp: Vec::new(),
    }
}

fn direction(
    of: &SessionFindings,
    way: Direction,
    within: (i64, i64),
    latencies: [Option<Latency>; 3],
) -> TransitionDirection {
    let rows: Vec<TransitionFlow> = of
        .flows
        .iter()
        .map(|f| {
            let inside = |p: &ProbePoint| p.sent >= at(within.0) && p.sent <= at(within.1);
            let outages: Vec<Outage> = f
                .outages
                .iter()
                .filter(|o| o.direction == way && inside(&o.first_lost))
                .cloned()
                .collect();
            // A probe lost on the way out tells nothing about the way back.
            let hidden = || {
                f.outages.iter().filter(|o| {
                    way == Direction::Reverse
                        && o.direction == Direction::Forward
                        && inside(&o.first_lost)
                })
            };
            let untold = hidden().map(|o| o.lost).sum();
            let untold_ns = hidden().filter_map(|o| o.at_most_ns).max();
            let epochs = match way {
                Direction::Reverse => &f.reverse_paths,
                _ => &f.forward_paths,
            };
            let change = epochs
                .windows(2)
                .find(|pair| inside(&pair[1].first))
                .map(|pair| (&pair[0], &pair[1]));
            let steady = epochs
                .iter()
                .find(|e| e.last.sent >= at(within.1))
                .and_then(|e| e.path.clone());
            TransitionFlow {
                flow: f.flow,
                source_port: f.source_port,
                lost: outages.iter().map(|o| o.lost).sum(),
                outages,
                untold,
                untold_ns: untold_ns.unwrap_or(ms(0)),
                late: 0,
                duplicated: 0,
                reordered: 0,
                path_before: change.map_or(steady.clone(), |(a, _)| a.path.clone()),
                path_after: change.map_or(steady, |(_, b)| b.path.clone()),
                last_on_old_path: change.map(|(a, _)| a.last),
                first_on_new_path: change.map(|(_, b)| b.first),
            }
        })
        .collect();
    let (from, to) = match way {
        Direction::Reverse => (&of.to, &of.from),
        _ => (&of.from, &of.to),
    };
    let [latency_before, latency_during, latency_after] = latencies;
    TransitionDirection {
        session: of.session.clone(),
        direction: way,
        from: from.clone(),
        to: to.clone(),
        flows_affected: rows
            .iter()
            .filter(|r| !r.outages.is_empty())
            .count()
            .try_into()
            .unwrap(),
        flows_moved: rows
            .iter()
            .filter(|r| r.path_before != r.path_after)
            .count()
            .try_into()
            .unwrap(),
        flows: rows.len().try_into().unwrap(),
        rows,
        latency_before,
        latency_during,
        latency_after,
    }
}

fn both_ways(
    sessions: &[SessionFindings],
    within: (i64, i64),
    latencies: [Option<Latency>; 3],
) -> Vec<TransitionDirection> {
    sessions
        .iter()
        .flat_map(|s| {
            [Direction::Forward, Direction::Reverse].map(|way| direction(s, way, within, latencies))
        })
        .collect()
}

/// The article's drill: failover with an outage of about 1.3 s, failback without loss.
pub(in crate::report) fn drill() -> Findings {
    let failover = marker(MarkerKind::Failover, 120_000, "Disable private peering");
    let failback = marker(MarkerKind::Failback, 240_000, "Enable private peering");
    let ends = [
        ("onprem-azure", "onprem-server", "azure-vm"),
        ("azure-onprem", "azure-vm", "onprem-server"),
    ];
    let mut sessions: Vec<SessionFindings> = ends
        .into_iter()
        .zip([0, 2])
        .map(|((name, from, to), skew)| {
            let flows = (0..FLOWS)
                .map(|f| {
                    let extra = i64::from(f % 3) + skew;
                    let (a, b) = (12_041 + extra / 3, 12_170 + extra);
                    let back = 24_370 + i64::from(f % 2) + skew;
                    // Flows 5 to 7 of the first session are lost on the way back.
                    let way = if f >= 5 && skew == 0 {
                        Direction::Reverse
                    } else {
                        Direction::Forward
                    };
                    flow(
                        f,
                        &[(ER1, 0, a - 1), (VPN, b + 1, back), (ER1, back + 1, 35_999)],
                        vec![outage(f, way, a, b)],
                    )
                })
                .collect();
            session(name, from, to, flows)
        })
        .collect();
    for (s, reverse) in sessions.iter_mut().zip([true, false]) {
        s.latency = [(ER1, ER1, 189_000), (VPN, VPN, 97_000), (ER1, VPN, 320)]
            .map(|(forward, back, count)| PathLatency {
                forward: Some(forward.to_owned()),
                reverse: Some(back.to_owned()),
                round_trip: latency(back, count),
                one_way: Some(OneWayDelay {
                    forward: halved(latency(forward, count)),
                    reverse: halved(latency(back, count)),
                    bound_ns: us(2_612),
                }),
            })
            .to_vec();
        s.path_mtu = [
            (ER1, 1500, MtuLimit::Interface, None),
            (VPN, 1450, MtuLimit::Router, Some(1450)),
        ]
        .map(|(path, bytes, limit, said)| PathMtu {
            forward: Some(path.to_owned()),
            reverse: Some(path.to_owned()),
            bytes,
            limit,
            router: said.map(|_| "10.1.11.1".to_owned()),
            router_mtu: said,
            searches: 12,
            out: direction_mtu(bytes, said),
            back: direction_mtu(bytes, None),
        })
        .to_vec();
        s.seconds = seconds(
            360,
            |s| if (121..243).contains(&s) { VPN } else { ER1 },
            |s| match (s, reverse) {
                (120, true) => (295, 176),
                (121, true) => (361, 208),
                (120, false) => (471, 0),
                (121, false) => (578, 0),
                _ => (0, 0),
            },
        );
        for flow in &mut s.flows {
            // At failback the way out moves 40 probes before the way back.
            let change = i64::from(flow.forward_paths[2].first.seq);
            flow.forward_paths[1].last = probe(flow.flow, change - 41);
            flow.forward_paths[2].first = probe(flow.flow, change - 40);
            s.asymmetries.push(Asymmetry {
                flow: flow.flow,
                forward: Some(ER1.to_owned()),
                reverse: Some(VPN.to_owned()),
                first: probe(flow.flow, change - 40),
                last: probe(flow.flow, change - 1),
                lasted_ns: ms(390),
            });
        }
    }
    let worst = outage(1, Direction::Forward, 12_041, 12_174);
    let transitions = vec![
        Transition {
            kind: TransitionKind::Failover,
            marker: Some(failover.clone()),
            started: at(120_410),
            recovered: Some(at(121_758)),
            marker_to_loss_ns: Some(ms(410)),
            marker_to_new_path_ns: Some(us(1_710_022)),
            marker_to_stable_ns: Some(ms(1_758)),
            directions: both_ways(
                &sessions,
                (120_000, 130_000),
                [Some(latency(ER1, 4_000)), None, Some(latency(VPN, 4_000))],
            ),
            hop_tables: vec![HopTable {
                session: "onprem-azure".to_owned(),
                flow: 0,
                source_port: 50_000,
                before: Some(over_expressroute(119_700)),
                during: Some(route(
                    120_700,
                    None,
                    false,
                    &[("10.1.11.1", 301), ("", 0), ("", 0), ("", 0), ("", 0)],
                )),
                after: Some(over_vpn(122_700)),
            }],
            icmp: vec![IcmpFinding {
                session: "onprem-azure".to_owned(),
                from: "10.1.11.1".to_owned(),
                meaning: "network unreachable".to_owned(),
                count: 41,
                first: at(120_433),
                last: at(121_702),
            }],
            worst_at_least_ns: worst.at_least_ns,
            worst_at_most_ns: worst.at_most_ns,
            remarks: vec!["All flows of both sessions lost connectivity once.".to_owned()],
        },
        Transition {
            kind: TransitionKind::Failback,
            marker: Some(failback.clone()),
            started: at(243_310),
            recovered: Some(at(243_740)),
            marker_to_loss_ns: None,
            marker_to_new_path_ns: Some(ms(3_310)),
            marker_to_stable_ns: Some(ms(3_740)),
            directions: both_ways(
                &sessions,
                (240_000, 250_000),
                [
                    Some(latency(VPN, 4_000)),
                    Some(latency(VPN, 344)),
                    Some(latency(ER1, 4_000)),
                ],
            ),
            hop_tables: vec![HopTable {
                session: "onprem-azure".to_owned(),
                flow: 0,
                source_port: 50_000,
                before: Some(over_vpn(242_700)),
                during: None,
                after: Some(over_expressroute(244_700)),
            }],
            icmp: Vec::new(),
            worst_at_least_ns: ms(0),
            worst_at_most_ns: Some(ms(0)),
            remarks: vec!["The flows moved back without loss.".to_owned()],
        },
    ];
    Findings {
        window: Some(Window {
            from: at(0),
            to: at(360_000),
        }),
        coverage: coverage(&sessions),
        paths: ["expressroute-primary", "expressroute-secondary", "vpn"]
            .map(str::to_owned)
            .into(),
        markers: vec![
            marker(MarkerKind::Note, 30_000, "Change CHG0042 approved, go"),
            failover,
            failback,
        ],
        sessions,
        transitions,
        echoes: echoes(),
        verdict: Verdict {
            result: VerdictResult::Met,
            objective_ns: ms(10_000),
            worst_at_least_ns: worst.at_least_ns,
            worst_at_most_ns: worst.at_most_ns,
            outages: 16,
            reason: VerdictReason::TooLittleMissing {
                seen_ppm: 999_694,
                missing: stall(),
            },
            sentence: "No flow was without connectivity for longer than 10 s: the longest outage \
                       lasted between 1.329 s and 1.350 s."
                .to_owned(),
        },
        unnamed_routes: Vec::new(),
        notes: Vec::new(),
        caveats: vec![
            "The sender of onprem-azure was late for 3 slots at 02:13:07; they were skipped and \
             are not counted as lost."
                .to_owned(),
        ],
    }
}

fn direction_mtu(bytes: u16, said: Option<u32>) -> DirectionMtu {
    DirectionMtu {
        bytes,
        limit: match said {
            Some(_) => DirectionLimit::Router,
            None => DirectionLimit::Unknown,
        },
        router: said.map(|_| "10.1.11.1".to_owned()),
        router_mtu: said,
    }
}

/// The sending host stood still for a moment.
fn stall() -> Missing {
    Missing {
        from: at(187_000),
        to: at(187_110),
        lasted_ns: ms(110),
        cause: MissingCause::HostStalled {
            agent: "onprem-server".to_owned(),
        },
    }
}

/// Every direction was seen completely, except for a moment of the first.
fn coverage(sessions: &[SessionFindings]) -> Coverage {
    let window = Window {
        from: at(0),
        to: at(360_000),
    };
    let ends: Vec<(String, String)> = sessions
        .iter()
        .map(|s| (s.from.clone(), s.to.clone()))
        .collect();
    let directions = ends.iter().enumerate().map(|(i, (from, to))| {
        let missing: Vec<Missing> = (i == 0).then(stall).into_iter().collect();
        let lacks = missing.first().map_or(ms(0), |m| m.lasted_ns);
        DirectionCoverage {
            from: from.clone(),
            to: to.clone(),
            sessions: sessions.iter().map(|s| s.session.clone()).collect(),
            grain_ns: ms(100),
            asked_ns: ms(360_000),
            seen_ns: Nanos(ms(360_000).0 - lacks.0),
            seen_ppm: if missing.is_empty() {
                1_000_000
            } else {
                999_694
            },
            longest_missing_ns: lacks,
            seen_until: Some(window.to),
            missing,
        }
    });
    Coverage {
        asked: Some(window),
        directions: directions.collect(),
        preliminary: false,
        awaited: Vec::new(),
    }
}

fn echoes() -> Vec<EchoFindings> {
    let echo = |target: &str, address: &str, answered, silent: Vec<Window>| EchoFindings {
        target: target.to_owned(),
        from: "onprem-server".to_owned(),
        address: address.to_owned(),
        sent: 360,
        answered,
        round_trip: (answered > 0).then(|| latency(ER1, answered)),
        silent,
        errors: Vec::new(),
    };
    let silent = vec![Window {
        from: at(121_000),
        to: at(243_000),
    }];
    vec![
        echo("msee-primary", "192.168.11.18", 237, silent),
        echo("vpn-gateway-1", "10.17.11.76", 360, Vec::new()),
        echo(
            "vpn-gateway-2",
            "10.17.11.77",
            0,
            vec![Window {
                from: at(0),
                to: at(360_000),
            }],
        ),
    ]
}
