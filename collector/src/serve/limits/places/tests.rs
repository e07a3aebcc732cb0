use super::Places;
use std::net::IpAddr;

const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;

fn address(last: usize) -> IpAddr {
    format!("192.0.2.{last}").parse().unwrap()
}

#[test]
fn one_silent_host_leaves_places_to_the_others() {
    let places = Places::new(MOST, MOST_OF_ONE);
    let silent: Vec<_> = (0..MOST)
        .filter_map(|_| places.admit(address(1), true))
        .collect();
    assert_eq!(silent.len(), MOST_OF_ONE);
    assert!(places.admit(address(2), true).is_some());
    drop(silent);
    assert!(places.admit(address(1), true).is_some());
    assert_eq!(places.held(), (0, 0));
}

#[test]
fn all_together_have_a_bound() {
    let places = Places::new(MOST, MOST_OF_ONE);
    let held: Vec<_> = (0..2 * MOST)
        .filter_map(|n| places.admit(address(n), true))
        .collect();
    assert_eq!(held.len(), MOST);
}
