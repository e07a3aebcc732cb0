use super::{HELD, Reach};
use crate::store::tests::{Dir, Session, TWO, both, name};
use crate::store::{Kind, Reader, Store};
use hopgap_proto::time::{Span, Wall};

#[test]
fn how_far_records_are_in_is_known_by_the_newest_blocks() {
    let dir = Dir::new();
    let mut store = Store::open(&dir.0).unwrap();
    let mut session = Session::new(TWO);
    let mut newest = None;
    for _ in 0..2 {
        let blocks = session.ten_seconds();
        newest = Some(blocks[0].header.closed.wall);
        store
            .append(&both(&blocks), TWO + Span::from_secs(30))
            .unwrap();
    }
    let newest: Wall = newest.unwrap();
    assert!(newest >= TWO + Span::from_secs(20));
    let reader = Reader::open(&dir.0).unwrap();
    let reach = |agent, kind| reader.reach(&name(agent), &name("out"), kind).unwrap();
    let wall = |reach: Reach| reach.until.map(|(_, closed)| closed.wall);
    let sender = reach("onprem", Kind::Probes);
    assert_eq!(wall(sender), Some(newest));
    assert!(sender.heard.is_some());
    assert_eq!(wall(reach("azure", Kind::Receptions)), Some(newest));
    // Recent records of another kind may still be in an open block.
    let other = wall(reach("azure", Kind::Probes)).unwrap();
    assert!(other <= newest - HELD, "{other:?}");
    assert!(other >= newest - HELD * 2, "{other:?}");
    // An agent that never came has no reach.
    assert_eq!(reach("nobody", Kind::Probes), Reach::default());
}
