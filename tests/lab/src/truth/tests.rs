use super::derive::{self, Seen};
use super::{Direction, Passages, TruePath, Truth};
use crate::wire::log::{Entry, Flow, Stamp};
use hopgap_proto::time::{Mono, Span};

const MS: i64 = 1_000_000;

fn flow() -> Flow {
    Flow {
        source: "10.1.11.10:50000".parse().expect("an address"),
        destination: "10.17.11.132:862".parse().expect("an address"),
        ssid: 1,
    }
}

fn seen(seq: u32, at: i64, exit: Option<i64>) -> Seen {
    Seen {
        seq,
        echo: None,
        enter: Mono::from_nanos(at),
        exit: exit.map(Mono::from_nanos),
    }
}

/// A probe each millisecond: `1` and `2` by that circuit, `v` by the VPN, `a` and `b`
/// lost on that circuit, `.` lost before either.
fn run(fates: &str) -> Passages {
    let mut passages = Passages::default();
    for (seq, fate) in (0..).zip(fates.chars()) {
        let at = i64::from(seq) * MS;
        passages.near.push(seen(seq, at, Some(at + 10)));
        let circuit = match fate {
            '1' | 'a' => Some(0),
            '2' | 'b' => Some(1),
            _ => None,
        };
        if let Some(circuit) = circuit {
            let through = (fate != 'a' && fate != 'b').then_some(at + 3 * MS);
            passages.circuits[circuit].push(seen(seq, at + 20, through));
        }
        if matches!(fate, '1' | '2' | 'v') {
            passages
                .far
                .push(seen(seq, at + 3 * MS, Some(at + 3 * MS + 5)));
        }
    }
    passages
}

fn derived(fates: &str) -> super::FlowTruth {
    derive::flow(flow(), run(fates), Mono::MAX)
}

#[test]
fn an_outage_lies_between_its_neighbours() {
    let truth = derived("11aaa.vv");
    assert_eq!(truth.lost(), 4);
    let [outage] = truth.outages.as_slice() else {
        panic!("{:?}", truth.outages)
    };
    assert_eq!(outage.last_good.expect("one").seq, 1);
    assert_eq!(
        (outage.first_lost.seq, outage.last_lost.seq, outage.lost),
        (2, 5, 4)
    );
    assert_eq!(outage.first_good.expect("one").seq, 6);
    assert_eq!(outage.at_least(), Span::from_millis(3));
    assert_eq!(outage.at_most(), Some(Span::from_millis(5)));
    assert_eq!(
        truth.path_names(),
        [TruePath::ExpressroutePrimary, TruePath::Vpn]
    );
    assert_eq!(truth.paths[0].last.seq, 1);
    assert_eq!(truth.paths[1].first.seq, 6);
    assert_eq!(truth.packets[2].path, Some(TruePath::ExpressroutePrimary));
    assert_eq!(truth.packets[5].path, None);
}

#[test]
fn two_lost_in_a_row_are_no_outage_and_paths_skip_the_lost() {
    let truth = derived("1..1.1..2");
    assert!(truth.outages.is_empty());
    assert_eq!(truth.lost(), 5);
    assert_eq!(
        truth.path_names(),
        [
            TruePath::ExpressroutePrimary,
            TruePath::ExpressrouteSecondary
        ]
    );
}

#[test]
fn outages_in_a_row_keep_their_own_neighbours() {
    let truth = derived("v...v...");
    assert_eq!(truth.outages.len(), 2);
    assert_eq!(truth.outages[0].first_good.expect("one").seq, 4);
    assert_eq!(truth.outages[1].last_good.expect("one").seq, 4);
    assert_eq!(truth.outages[1].first_good, None);
    assert_eq!(truth.outages[1].at_most(), None);
    let truth = derived("...v");
    assert_eq!(truth.outages[0].last_good, None);
}

#[test]
fn loss_within_an_outages_neighbours_does_not_move_its_end() {
    // The end belongs to the first that arrives, not to one after further loss.
    let truth = derived("1...v.v");
    assert_eq!(truth.outages[0].first_good.expect("one").seq, 4);
}

#[test]
fn what_was_under_way_at_the_end_is_not_lost() {
    let truth = derive::flow(flow(), run("111.."), Mono::from_nanos(3 * MS));
    assert_eq!(
        (truth.packets.len(), truth.undecided, truth.lost()),
        (4, 1, 1)
    );
}

#[test]
fn a_restarted_sender_is_not_mixed_up_with_its_former_self() {
    let mut passages = run("1.1");
    let again = run("111");
    let later = |seen: Seen| Seen {
        enter: seen.enter + Span::from_secs(1),
        exit: seen.exit.map(|exit| exit + Span::from_secs(1)),
        ..seen
    };
    passages.near.extend(again.near.into_iter().map(later));
    passages.far.extend(again.far.into_iter().map(later));
    let truth = derive::flow(flow(), passages, Mono::MAX);
    let arrived: Vec<bool> = truth
        .packets
        .iter()
        .map(|packet| packet.exit.is_some())
        .collect();
    assert_eq!(arrived, [true, false, true, true, true, true]);
}

#[test]
fn a_copy_is_a_duplicate_and_reordering_is_no_loss() {
    let mut passages = run("111");
    passages.far.push(seen(1, 9 * MS, Some(9 * MS)));
    passages.far.swap(0, 2);
    let truth = derive::flow(flow(), passages, Mono::MAX);
    assert_eq!(truth.lost(), 0);
    let duplicates: Vec<u16> = truth
        .packets
        .iter()
        .map(|packet| packet.duplicates)
        .collect();
    assert_eq!(duplicates, [0, 1, 0]);
}

fn entry(flow: Flow, seq: u32, echo: Option<u32>, ttl: u8) -> Entry {
    Entry {
        stamp: Stamp {
            flow,
            seq,
            echo,
            ttl,
        },
        enter: Mono::from_nanos(5),
        exit: Some(Mono::from_nanos(9)),
    }
}

#[test]
fn traceroutes_and_strangers_are_not_probes() {
    let mut all = std::collections::BTreeMap::new();
    super::record(&mut all, "onprem", &entry(flow(), 1, None, 3));
    super::record(&mut all, "onprem", &entry(flow(), 1 << 31 | 9, None, 255));
    super::record(&mut all, "onprem", &entry(flow(), 3, Some(1 << 31), 255));
    let stranger = Flow {
        source: "192.168.11.1:50000".parse().expect("an address"),
        ..flow()
    };
    super::record(&mut all, "onprem", &entry(stranger, 1, None, 255));
    assert!(all.is_empty());
    super::record(&mut all, "onprem", &entry(flow(), 1, None, 255));
    super::record(&mut all, "vnet", &entry(flow(), 1, None, 60));
    super::record(&mut all, "er2", &entry(flow(), 1, None, 58));
    let passages = &all[&flow()];
    assert_eq!(
        (
            passages.near.len(),
            passages.far.len(),
            passages.circuits[1].len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn directions_are_told_by_the_port() {
    assert_eq!(flow().direction(), Direction::Forward);
    let reply = Flow {
        source: flow().destination,
        destination: flow().source,
        ssid: 1,
    };
    assert_eq!(reply.direction(), Direction::Reverse);
    assert_eq!(reply.sender(), flow().sender());
}

#[test]
fn reads_a_lab_s_logs_and_adds_its_findings_to_them() {
    let out = std::env::temp_dir().join(format!("hopgap-lab-truth-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("a folder");
    let flow = "f,0,10.1.11.10:50000,10.17.11.132:862,7\n";
    let write = |name: &str, text: String| std::fs::write(out.join(name), text).expect("a file");
    write(
        "truth.jsonl",
        "{\"mono\":1000,\"wall\":9000,\"kind\":\"up\",\"tunnel\":\"vxlan\"}\n".to_owned(),
    );
    let near: String = (0..10)
        .map(|seq| format!("p,0,{seq},,255,{},5\n", 1000 + seq))
        .collect();
    let far: String = [0, 1, 6, 7, 8, 9]
        .iter()
        .map(|seq| format!("p,0,{seq},,60,{},5\n", 2000 + seq))
        .collect();
    let circuit: String = (0..6)
        .map(|seq| {
            format!(
                "{},0,{seq},,254,{}\n",
                if seq < 2 { "p" } else { "d" },
                format_args!("{}{}", 1500 + seq, if seq < 2 { ",7" } else { "" })
            )
        })
        .collect();
    write("wire-onprem.csv", format!("{flow}{near}e,0,900000000000\n"));
    write("wire-vnet.csv", format!("{flow}{far}e,0,900000000000\n"));
    write("wire-er2.csv", format!("{flow}{circuit}e,3,900000000000\n"));
    write("wire-er1.csv", "e,0,900000000000\n".to_owned());
    write("wire-internet.csv", String::new());
    let truth = Truth::read(&out).expect("logs");
    assert!(!truth.complete, "the internet's log has no end");
    assert_eq!(truth.overflows, 3);
    let [one] = truth.flows.values().collect::<Vec<_>>()[..] else {
        panic!("one flow")
    };
    assert_eq!(
        (one.packets.len(), one.lost(), one.outages.len()),
        (6, 0, 0),
        "what is undecided is left out"
    );

    write("wire-internet.csv", "e,0,900000000000\n".to_owned());
    let truth = Truth::read(&out).expect("logs");
    let [one] = truth.flows.values().collect::<Vec<_>>()[..] else {
        panic!("one flow")
    };
    assert_eq!(
        (one.packets.len(), one.lost(), one.outages.len()),
        (10, 4, 1)
    );
    assert_eq!(
        one.path_names(),
        [TruePath::ExpressrouteSecondary, TruePath::Vpn]
    );
    truth.append(&out).expect("a file");
    let events = crate::events::read(&out).expect("still readable");
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].at.wall.as_nanos(), 9000);
    std::fs::remove_dir_all(&out).expect("our own folder");
}

/// Seen in a drill at 1 ms: at the return to the circuits probe 22855 overtook 22854 on
/// the way out, and its reply left first.
#[test]
fn a_way_back_is_told_in_the_order_of_the_probes() {
    let mut passages = Passages::default();
    let replies = [
        (22_852, 22_853, 247_272_385, None),
        (22_853, 22_855, 249_025_192, Some(1)),
        (22_854, 22_854, 250_329_044, Some(1)),
        (22_855, 22_856, 250_339_579, Some(1)),
    ];
    for (seq, echo, at, circuit) in replies {
        let reply = |at: i64| Seen {
            echo: Some(echo),
            ..seen(seq, at, Some(at + 300_000))
        };
        passages.near.push(reply(at));
        passages.far.push(reply(at + 2_700_000));
        if let Some(circuit) = circuit {
            passages.circuits[circuit].push(reply(at + 400_000));
        }
    }
    let truth = derive::flow(flow(), passages, Mono::MAX);
    let [vpn, circuit] = &truth.paths[..] else {
        panic!("{:?}", truth.paths)
    };
    assert_eq!(vpn.last.probe(), 22_853);
    assert_eq!(
        (circuit.first.probe(), circuit.last.probe()),
        (22_854, 22_856)
    );
}
