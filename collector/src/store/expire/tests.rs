use super::Expired;
use crate::store::Store;
use crate::store::tests::{Dir, Session, TWO, both, everything};
use hopgap_proto::record::RunId;
use hopgap_proto::time::{Span, Wall};
use rusqlite::Connection;
use std::path::Path;

#[test]
fn what_is_older_than_the_retention_goes_and_the_rest_stays() {
    let dir = Dir::new();
    let hour = Span::from_secs(3_600);
    let mut store = Store::open(&dir.0).unwrap();
    store
        .append(&both(&Session::new(TWO).ten_seconds()), TWO)
        .unwrap();
    let files = store.seal(TWO + hour * 2, Span::from_secs(600)).unwrap();
    let mut newer = Session::new(TWO + hour * 5).ten_seconds();
    for block in &mut newer {
        block.header.key.run = RunId(2);
    }
    store.append(&both(&newer), TWO + hour * 5).unwrap();

    assert_eq!(store.expire(TWO).unwrap(), Expired::default());
    let expired = store.expire(TWO + hour * 4).unwrap();
    assert_eq!((expired.blocks, expired.files), (2, 2));
    assert!(files.iter().all(|f| !f.exists()));
    let left = everything(&dir.0);
    assert_eq!(left.keys().map(|k| k.1).collect::<Vec<_>>(), [RunId(2); 2]);

    // An agent whose clock is in 1970: its records are old only by that clock.
    let mut old = Session::new(Wall::ZERO).ten_seconds();
    for block in &mut old {
        block.header.key.run = RunId(3);
    }
    store.append(&both(&old), TWO + hour * 5).unwrap();
    assert_eq!(store.expire(TWO + hour * 4).unwrap(), Expired::default());
}

fn garbage(dir: &Path) -> i64 {
    let db = Connection::open(dir.join("hopgap.db")).unwrap();
    db.query_row("SELECT count(*) FROM garbage", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_file_that_cannot_be_removed_holds_up_nothing_and_is_tried_again() {
    let dir = Dir::new();
    let hour = Span::from_secs(3_600);
    let mut store = Store::open(&dir.0).unwrap();
    store
        .append(&both(&Session::new(TWO).ten_seconds()), TWO)
        .unwrap();
    let files = store.seal(TWO + hour * 2, Span::from_secs(600)).unwrap();
    // A directory that is not empty stands in its place.
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::create_dir_all(files[0].join("x")).unwrap();
    let expired = store.expire(TWO + hour * 4).unwrap();
    assert_eq!((expired.blocks, expired.files), (2, 2));
    assert!(!files[1].exists());
    drop(store);
    let store = Store::open(&dir.0).unwrap();
    assert_eq!(garbage(&dir.0), 1);
    drop(store);
    std::fs::remove_dir_all(&files[0]).unwrap();
    std::fs::write(&files[0], "").unwrap();
    drop(Store::open(&dir.0).unwrap());
    assert!(!files[0].exists());
    assert_eq!(garbage(&dir.0), 0);
}
