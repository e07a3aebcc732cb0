use super::Distance::{Hop, Implausible};
use super::Reflector::{Foreign, Ours};
use super::{forward, reverse};

#[test]
fn a_ttl_counts_the_routers() {
    assert_eq!(forward(255, Ours), Some(Hop(1)));
    assert_eq!(forward(251, Ours), Some(Hop(5)));
    assert_eq!(reverse(253, Ours), Some(Hop(3)));
    assert_eq!(reverse(61, Foreign), Some(Hop(4)));
    assert_eq!(reverse(128, Foreign), Some(Hop(1)));
    assert_eq!(reverse(250, Foreign), Some(Hop(6)));
}

#[test]
fn what_is_only_copied_or_absent_is_unknown() {
    assert_eq!(forward(255, Foreign), None);
    assert_eq!(forward(0, Ours), None);
    assert_eq!(reverse(0, Foreign), None);
}

#[test]
fn a_distance_beyond_any_route_is_no_distance() {
    assert_eq!(forward(192, Ours), Some(Hop(64)));
    assert_eq!(forward(191, Ours), Some(Implausible(191)));
    assert_eq!(forward(64, Ours), Some(Implausible(64)));
    assert_eq!(reverse(64, Ours), Some(Implausible(64)));
    assert_eq!(reverse(130, Foreign), Some(Implausible(130)));
    assert_eq!(reverse(64, Foreign), Some(Hop(1)));
    // The usual TTLs lie 64 and 127 apart.
    assert_eq!(reverse(1, Foreign), Some(Hop(64)));
    assert_eq!(reverse(65, Foreign), Some(Hop(64)));
    assert_eq!(Implausible(64).hop(), None);
    assert_eq!(Hop(5).hop(), Some(5));
}

#[test]
fn no_ttl_is_too_much() {
    for ttl in 0..=255 {
        for reflector in [Ours, Foreign] {
            for distance in [forward(ttl, reflector), reverse(ttl, reflector)] {
                if let Some(Hop(hop)) = distance {
                    assert!((1..=64).contains(&hop), "{ttl}: {hop}");
                }
            }
        }
    }
}
