//! Chooses free source ports for a command that a person starts.

use crate::output;
use std::net::{IpAddr, UdpSocket};

/// The first source port that is tried.
const FIRST: u16 = 50_000;
/// How many ranges of ports are tried before giving up.
const TRIES: u16 = 64;

/// Returns the first source port: the requested one, or else the first of `flows` consecutive
/// free ports. Prints a note if these are not the usual ones.
pub(crate) fn first(asked: Option<u16>, source: IpAddr, flows: u8) -> u16 {
    if let Some(asked) = asked {
        return asked;
    }
    let first = free_from(FIRST, source, flows);
    if first != FIRST {
        output::note(&format!(
            "source ports from {first} on, because another program holds some of those from {FIRST} on"
        ));
    }
    first
}

/// Returns the first port of a free range, or `begin` if all tries fail: opening the sockets then
/// reports the error.
fn free_from(begin: u16, source: IpAddr, flows: u8) -> u16 {
    let flows = u16::from(flows.max(1));
    let is_free = |port: u16| UdpSocket::bind((source, port)).is_ok();
    (0..TRIES)
        .map_while(|i| begin.checked_add(i * flows))
        .take_while(|first| first.checked_add(flows - 1).is_some())
        .find(|first| (*first..=*first + (flows - 1)).all(is_free))
        .unwrap_or(begin)
}

#[cfg(test)]
mod tests {
    use super::{first, free_from};
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_that_another_holds_are_passed_over() {
        let held = UdpSocket::bind((HERE, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let begin = port - 1;
        let chosen = free_from(begin, HERE, 4);
        assert!(chosen >= begin + 4, "{chosen} after {port} was held");
        assert_eq!((chosen - begin) % 4, 0);
        // A requested port is used, free or not.
        assert_eq!(first(Some(port), HERE, 4), port);
    }

    #[test]
    fn no_port_lies_beyond_the_last() {
        let _held = UdpSocket::bind((HERE, 65_533));
        assert_eq!(free_from(65_533, HERE, 8), 65_533);
    }
}
