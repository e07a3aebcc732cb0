use super::{Choice, Counts, Reaction, choose, told};
use std::net::{SocketAddr, UdpSocket};

/// Echoes every packet, for as long as the test runs.
fn reflector() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 256];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&packet[..length], from);
        }
    });
    address
}

/// A port where nothing listens.
fn closed() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn choice(addresses: &[SocketAddr], counts: Counts) -> Choice {
    choose(addresses[0], addresses, None, None, counts)
}

#[test]
fn the_first_that_answers_is_chosen_and_the_others_are_told() {
    let (closed, open) = (closed(), reflector());
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mute = silent.local_addr().unwrap();
    let chosen = choice(&[closed, mute, open], Counts::Replies);
    assert_eq!(chosen.destination, open);
    assert_eq!(
        chosen.heard.iter().map(|(_, h)| *h).collect::<Vec<_>>(),
        [Reaction::Refusal, Reaction::Silence, Reaction::Answer]
    );
    let said = told("far", &chosen).unwrap();
    assert!(
        said.starts_with("far: going to 127.0.0.1, which answered; "),
        "{said}"
    );
    assert!(said.contains("has nothing that listens"), "{said}");
}

#[test]
fn a_trace_is_content_with_a_closed_port_and_a_measurement_is_not() {
    let (closed, open) = (closed(), reflector());
    let traced = choice(&[closed, open], Counts::RefusalsToo);
    assert_eq!(traced.destination, closed);
    assert_eq!(choice(&[closed, open], Counts::Replies).destination, open);
}

#[test]
fn where_none_answers_it_is_one_that_can_be_sent_to() {
    // A link-local address without its interface: no kernel sends to it.
    let nowhere: SocketAddr = "[fe80::1]:862".parse().unwrap();
    let closed = closed();
    let chosen = choice(&[nowhere, closed], Counts::Replies);
    assert_eq!(chosen.destination, closed);
    assert!(matches!(chosen.heard[0].1, Reaction::Unreachable(_)));
    let said = told("far", &chosen).unwrap();
    assert!(
        said.contains("no address answered, going to 127.0.0.1"),
        "{said}"
    );
    assert!(said.contains("fe80::1 cannot be sent to ("), "{said}");
}

#[test]
fn one_address_is_taken_as_it_is() {
    let closed = closed();
    let chosen = choice(&[closed], Counts::Replies);
    assert_eq!(chosen.destination, closed);
    assert_eq!(told("far", &chosen), None);
}
