use super::*;

/// An IPv4 'time exceeded' that quotes a UDP header.
fn quoting(source: &str, target: &str) -> Vec<u8> {
    let [source, target]: [SocketAddr; 2] = [source, target].map(|a| a.parse().unwrap());
    let octets = |a: SocketAddr| match a.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => unreachable!("IPv4 here"),
    };
    // The packet's own IP header, then ICMP, then what it quotes.
    let mut packet = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 1, 11, 1];
    packet.extend(octets(source));
    packet.extend([11, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend([0x45, 0, 0, 72, 0, 7, 0, 0, 1, 17, 0, 0]);
    packet.extend(octets(source));
    packet.extend(octets(target));
    packet.extend(source.port().to_be_bytes());
    packet.extend(target.port().to_be_bytes());
    packet.extend([0, 52, 1, 2]);
    packet
}

/// Registers a listener without sockets: the test is about who hears what.
fn listen(listeners: &Arc<Mutex<Listeners>>, flows: QuotedFlows) -> Listening {
    let inbox = Arc::new(Inbox::default());
    let mut all = locked(listeners);
    all.number += 1;
    let number = all.number;
    all.all.insert(number, (flows, Arc::clone(&inbox)));
    Listening {
        number,
        version: Version::V4,
        inbox,
        listeners: Arc::downgrade(listeners),
    }
}

fn hear(listeners: &Mutex<Listeners>, packet: &[u8]) {
    let received = IcmpReceived {
        packet,
        from: IpAddr::from([10, 1, 11, 1]),
        ttl: None,
        stamp: None,
    };
    give(Version::V4, &received, listeners);
}

fn session(i: u16) -> QuotedFlows {
    QuotedFlows {
        source: SocketAddr::from(([10, 1, 11, 10], 40_000 + 8 * i)),
        ports: 8,
        target: Some(SocketAddr::from(([10, 17, 11, 132], 862))),
    }
}

#[test]
fn of_a_thousand_sessions_each_hears_its_own() {
    let listeners = Arc::default();
    let ears: Vec<Listening> = (0..1_000).map(|i| listen(&listeners, session(i))).collect();
    for i in 0..1_000_u16 {
        // The first and the last flow of each session.
        for flow in [0, 7] {
            let port = 40_000 + 8 * i + flow;
            hear(
                &listeners,
                &quoting(&format!("10.1.11.10:{port}"), "10.17.11.132:862"),
            );
        }
    }
    // Other hosts and ports, and a packet that is not an ICMP error.
    hear(&listeners, &quoting("10.1.11.11:40000", "10.17.11.132:862"));
    hear(&listeners, &quoting("10.1.11.10:40000", "10.17.11.133:862"));
    hear(&listeners, &quoting("10.1.11.10:40000", "10.17.11.132:863"));
    hear(&listeners, &quoting("10.1.11.10:39999", "10.17.11.132:862"));
    hear(&listeners, &[0x45; 3]);
    for (ear, i) in ears.iter().zip(0..) {
        let mut ports = Vec::new();
        let unread = ear.take(|from, stamp, error| {
            assert_eq!((from, stamp), (IpAddr::from([10, 1, 11, 1]), None));
            ports.push(error.quoted.udp.unwrap().source_port);
        });
        assert_eq!(unread, 0);
        assert_eq!(ports, [40_000 + 8 * i, 40_000 + 8 * i + 7]);
    }
    drop(ears);
    assert!(locked(&listeners).all.is_empty());
}

#[test]
fn who_does_not_fetch_loses_and_learns_how_many() {
    let listeners = Arc::default();
    let ear = listen(&listeners, session(0));
    let packet = quoting("10.1.11.10:40003", "10.17.11.132:862");
    for _ in 0..MOST_WAITING + 11 {
        hear(&listeners, &packet);
    }
    let mut heard = 0;
    assert_eq!(ear.take(|_, _, _| heard += 1), 11);
    assert_eq!(heard, MOST_WAITING);
    assert_eq!(ear.take(|_, _, _| panic!("all were taken")), 0);
}

#[test]
fn a_reflector_hears_of_its_replies_to_anybody() {
    let listeners = Arc::default();
    let ear = listen(
        &listeners,
        QuotedFlows {
            source: SocketAddr::from(([0, 0, 0, 0], 862)),
            ports: 1,
            target: None,
        },
    );
    hear(&listeners, &quoting("10.17.11.132:862", "10.1.11.10:40003"));
    hear(&listeners, &quoting("10.17.11.132:863", "10.1.11.10:40003"));
    let mut heard = 0;
    ear.take(|_, _, _| heard += 1);
    assert_eq!(heard, 1);
}
