use super::*;

const MS: i64 = 1_000_000;

fn at(nanos: i64) -> Mono {
    Mono::from_nanos(1_000 + nanos)
}

fn grid(interval_ms: i64, flows: u8) -> Grid {
    Grid::new(at(0), Span::from_millis(interval_ms), flows)
}

fn take(grid: &mut Grid, now: Mono) -> (Vec<Slot>, Vec<Skipped>) {
    let (mut slots, mut skipped) = (Vec::new(), Vec::new());
    while let Some(slot) = grid.take_due(now, |s| skipped.push(s)) {
        slots.push(slot);
    }
    (slots, skipped)
}

#[test]
fn flows_take_turns_evenly() {
    let mut grid = grid(10, 4);
    let mut seen = Vec::new();
    for _ in 0..8 {
        let now = grid.next_due();
        let slot = grid.take_due(now, |s| panic!("{s:?}")).unwrap();
        assert_eq!(slot.due, now);
        seen.push((slot.flow.0, slot.number, (slot.due - at(0)).as_nanos()));
    }
    let expected: Vec<_> = (0..8u8)
        .map(|t| (t % 4, i64::from(t) / 4, i64::from(t) * 2_500_000))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn nothing_is_due_before_its_time() {
    let mut grid = grid(1, 1);
    assert_eq!(take(&mut grid, at(-1)), (vec![], vec![]));
    assert_eq!(take(&mut grid, at(0)).0.len(), 1);
    assert_eq!(take(&mut grid, at(MS - 1)), (vec![], vec![]));
}

#[test]
fn a_late_waking_sends_once_a_flow_and_reports_the_rest() {
    let mut grid = grid(1, 2);
    take(&mut grid, at(0));
    // Flow 1 is owed slots 0..=9, flow 0 slots 1..=10.
    let (slots, skipped) = take(&mut grid, at(10 * MS));
    assert_eq!(
        slots
            .iter()
            .map(|s| (s.flow.0, s.number))
            .collect::<Vec<_>>(),
        [(1, 9), (0, 10)]
    );
    assert_eq!(
        skipped,
        [
            Skipped {
                flow: FlowIndex(1),
                first: at(MS / 2),
                count: 9
            },
            Skipped {
                flow: FlowIndex(0),
                first: at(MS),
                count: 9
            },
        ]
    );
    assert_eq!(
        grid.next_due(),
        at(10 * MS + MS / 2),
        "the grid stays absolute"
    );
}

#[test]
fn a_slot_late_by_less_than_an_interval_is_still_sent() {
    let mut grid = grid(1, 1);
    let (slots, skipped) = take(&mut grid, at(MS - 1));
    assert_eq!((slots.len(), skipped.len()), (1, 0));
}

#[test]
fn a_long_sleep_and_the_end_of_time_are_survived() {
    let mut grid = Grid::new(Mono::ZERO, Span::from_nanos(1), 64);
    let (slots, skipped) = take(&mut grid, Mono::from_nanos(i64::MAX - 1));
    assert_eq!((slots.len(), skipped.len()), (64, 64));
    assert!(skipped.iter().all(|s| s.count == u32::MAX));
}

proptest::proptest! {
    /// Every slot up to the last waking is either sent once or reported skipped, whatever the wakings.
    #[test]
    fn slots_are_sent_or_reported(
        interval in 1i64..5_000, flows in 1u8..=64, gaps in proptest::collection::vec(0i64..20_000, 1..60)
    ) {
        let mut grid = Grid::new(at(0), Span::from_nanos(interval), flows);
        let mut now = at(0);
        let mut accounted = vec![0i64; usize::from(flows)];
        for gap in gaps {
            now += Span::from_nanos(gap);
            let (slots, skipped) = take(&mut grid, now);
            proptest::prop_assert!(slots.len() <= usize::from(flows));
            for s in &skipped {
                proptest::prop_assert!(s.first <= now);
                accounted[usize::from(s.flow.0)] += i64::from(s.count);
            }
            for s in &slots {
                let i = usize::from(s.flow.0);
                proptest::prop_assert!(s.due <= now);
                proptest::prop_assert_eq!(s.number, accounted[i]);
                accounted[i] += 1;
            }
            proptest::prop_assert!(grid.next_due() > now);
        }
    }
}
