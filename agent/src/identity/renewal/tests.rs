use super::super::tests::{Dir, certified};
use super::{Keeper, RenewalSchedule};
use crate::identity::{Identity, IdentityStore, NewKey};
use crate::uplink::Client;
use hopgap_proto::record::RunId;
use hopgap_proto::time::{Span, Wall};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

const DAY: Span = Span::from_secs(86_400);

fn at(days: i64) -> Wall {
    Wall::ZERO + Span::from_secs(1_800_000_000) + DAY * days
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_by_all_at_once() {
    let dues: Vec<Wall> = (0..50)
        .map(|seed| RenewalSchedule::new(at(0), at(90), seed).due())
        .collect();
    let (first, last) = (at(60), at(60) + DAY * 90 / 12);
    assert!(
        dues.iter().all(|due| (first..=last).contains(due)),
        "{dues:?}"
    );
    let spread = *dues.iter().max().unwrap() - *dues.iter().min().unwrap();
    assert!(spread > DAY * 4, "{spread}");
}

#[test]
fn what_fails_is_tried_again_until_the_end() {
    let mut schedule = RenewalSchedule::new(at(0), at(90), 7);
    assert!(!schedule.is_due(at(59)));
    // The collector is down for four weeks: tries stay close together.
    let (mut now, mut tries) = (at(0), 0);
    while now < at(90) {
        if schedule.is_due(now) {
            tries += 1;
            schedule.failed(now);
            assert!(!schedule.is_due(now));
            assert!(schedule.is_due(now + Span::from_secs(3600)));
        }
        assert!(!schedule.is_over(now));
        now += Span::from_secs(600);
    }
    assert!((500..=721).contains(&tries), "{tries}");
    assert!(schedule.is_over(now));
}

#[test]
fn lives_of_seconds_and_none_have_a_schedule_too() {
    let short = RenewalSchedule::new(at(0), at(0) + Span::from_secs(12), 1);
    let (from, to) = (at(0) + Span::from_secs(8), at(0) + Span::from_secs(9));
    assert!((from..=to).contains(&short.due()));
    let none = RenewalSchedule::new(at(1), at(0), 1);
    assert!(none.is_due(at(1)) && none.is_over(at(1)));
}

fn made(store: &IdentityStore) -> Identity {
    store.prepare().unwrap();
    let key = NewKey::make().unwrap();
    let answer = certified(&key.key);
    key.certified(answer).unwrap()
}

/// A keeper of an identity in use, with a collector that does not answer.
fn keeper(store: &IdentityStore, identity: &Identity) -> Keeper {
    let agent = identity.agent.clone();
    let client = Client::with_identity("https://127.0.0.1:1", identity, agent, RunId(1)).unwrap();
    Keeper::new(client, store.clone(), identity)
}

#[test]
fn an_identity_that_cannot_be_read_at_first_is_taken_up_once_it_can() {
    let dir = Dir::new("taken-up");
    let store = IdentityStore::new(&dir.0);
    let first = made(&store);
    store.save(&first).unwrap();
    let mut keeper = keeper(&store, &first);
    let next = made(&store);
    store.save(&next).unwrap();
    let file = dir.0.join("identity/identity.json");
    let mode = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    for _ in 0..3 {
        keeper.turn(Wall::ZERO);
        assert_ne!(keeper.seen, store.look());
    }
    assert!(
        keeper
            .not_taken_up
            .as_ref()
            .is_some_and(|said| said.contains("chmod 600"))
    );
    // Do what the message says.
    mode(0o600);
    keeper.turn(Wall::ZERO);
    assert_eq!((keeper.seen, keeper.not_taken_up), (store.look(), None));
}

#[test]
fn a_renewal_does_not_write_over_an_identity_that_came_meanwhile() {
    let dir = Dir::new("overtaken");
    let store = IdentityStore::new(&dir.0);
    let first = made(&store);
    store.save(&first).unwrap();
    let before = store.look();
    // `join --again` writes while the renewal is under way.
    let joined = made(&store);
    store.save(&joined).unwrap();
    let renewed = made(&store);
    assert_eq!(store.save_over(&renewed, before).unwrap(), None);
    assert_eq!(
        store.load().unwrap().certificate_pem(),
        joined.certificate_pem()
    );
    // Without a write meanwhile, the renewed identity is saved.
    let look = store.save_over(&renewed, store.look()).unwrap();
    assert!(look.is_some() && look == Some(store.look()));
    assert_eq!(
        store.load().unwrap().certificate_pem(),
        renewed.certificate_pem()
    );
}
