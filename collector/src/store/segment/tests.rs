use super::{Origin, Segment, write};
use crate::store::tests::Dir;
use hopgap_proto::record::{FlowIndex, Reception, RunId, Stamp, StampSource};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span, Wall};
use std::path::Path;

fn read(path: &Path) -> Vec<Reception> {
    let mut rows = Vec::new();
    let all = (Wall::MIN, Wall::MAX);
    let segment = Segment::open(path).unwrap();
    segment.rows(path, all, |_, row| rows.push(row)).unwrap();
    rows
}

/// A file that was sealed before departures were taken.
#[test]
fn receptions_sealed_by_an_older_collector_are_read_and_have_no_departures() {
    let old = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fuzz/corpus/segment/receptions"
    );
    let rows = read(Path::new(old));
    assert!(rows.iter().any(|r| r.reflector_seq.is_some()), "{rows:?}");
    assert!(
        rows.iter()
            .all(|r| r.departed.is_none() && r.refused.is_none())
    );
}

#[test]
fn departures_and_refusals_are_sealed_and_read_back() {
    let origin = Origin {
        session: "a-b".into(),
        agent: "b".into(),
        run: RunId(3),
        offset: Span::from_secs(1_790_000_000),
    };
    let stamp = |at, source| Stamp {
        at: Mono::from_nanos(at),
        source,
    };
    let row = |seq, departed: Option<Stamp>, refused: Option<i32>| Reception {
        flow: FlowIndex(2),
        seq: Seq(seq),
        received: stamp(5_000_000, StampSource::Kernel),
        ttl: Some(251),
        reflector_seq: (departed.is_some() && refused.is_none()).then_some(Seq(seq)),
        departed,
        refused,
    };
    let rows = [
        row(0, Some(stamp(5_009_000, StampSource::Kernel)), None),
        row(1, Some(stamp(30_005_000_000, StampSource::User)), None),
        row(2, Some(stamp(5_001_000, StampSource::User)), Some(101)),
        row(3, None, None),
    ];
    let folder = Dir::new();
    let path = folder.0.join("receptions.parquet");
    let written = write(&path, |sink| {
        rows.iter().try_for_each(|row| sink.push(&origin, row))
    });
    assert_eq!(written.unwrap(), 4);
    assert_eq!(read(&path), rows);
}
