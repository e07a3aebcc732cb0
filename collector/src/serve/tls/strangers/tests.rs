use super::{MOST, MOST_OF_ONE, Strangers};
use std::net::IpAddr;

fn address(last: usize) -> IpAddr {
    format!("192.0.2.{last}").parse().unwrap()
}

#[test]
fn one_silent_host_leaves_places_to_the_others() {
    let strangers = Strangers::default();
    let silent: Vec<_> = (0..MOST)
        .filter_map(|_| strangers.admit(address(1)))
        .collect();
    assert_eq!(silent.len(), MOST_OF_ONE);
    assert!(strangers.admit(address(2)).is_some());
    drop(silent);
    assert!(strangers.admit(address(1)).is_some());
    assert!(strangers.held().is_empty());
}

#[test]
fn all_together_have_a_bound() {
    let strangers = Strangers::default();
    let held: Vec<_> = (0..2 * MOST)
        .filter_map(|n| strangers.admit(address(n)))
        .collect();
    assert_eq!(held.len(), MOST);
}
