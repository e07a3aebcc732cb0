use super::*;
use Freshness::{Copy, Fresh, Replayed};
use proptest::prelude::*;

const MS: Span = Span::from_millis(1);
const HOUR: Span = Span::from_secs(3_600);
const INTERVAL: Span = Span::from_millis(10);

/// A sender, with the time and the clock by which its packets leave. They arrive 5 ms later.
#[derive(Clone, Copy)]
struct Sender {
    /// When number 0 was sent.
    origin: Mono,
    /// Its wall clock then.
    wall: Wall,
}

const FIRST: Sender = Sender {
    origin: Mono::from_nanos(1_000_000_000_000),
    wall: Wall::from_nanos(1_790_000_000_000_000_000),
};

impl Sender {
    fn sent(self, seq: u32) -> Wall {
        self.wall + INTERVAL * i64::from(seq)
    }

    fn arrives(self, seq: u32) -> Mono {
        self.origin + INTERVAL * i64::from(seq) + MS * 5
    }

    fn gives(self, guard: &mut Guard, seq: u32) -> Freshness {
        guard.judge(Seq(seq), self.sent(seq), self.arrives(seq))
    }

    fn gives_all(self, guard: &mut Guard, numbers: core::ops::Range<u32>) {
        for seq in numbers {
            assert_eq!(self.gives(guard, seq), Fresh, "{seq}");
        }
    }
}

#[test]
fn a_copy_at_once_is_a_copy_and_later_a_replay() {
    let mut guard = Guard::default();
    FIRST.gives_all(&mut guard, 0..1_000);
    assert_eq!(FIRST.gives(&mut guard, 999), Copy);
    assert_eq!(FIRST.gives(&mut guard, 999), Copy);
    // Number 500 is 4.99 s behind the newest, 498 more than 5 s.
    assert_eq!(FIRST.gives(&mut guard, 500), Copy);
    assert_eq!(FIRST.gives(&mut guard, 498), Replayed);
    FIRST.gives_all(&mut guard, 1_000..1_100);
}

#[test]
fn what_is_late_is_a_probe_and_its_copy_is_not() {
    let mut guard = Guard::default();
    FIRST.gives_all(&mut guard, 0..10);
    FIRST.gives_all(&mut guard, 11..5_000);
    assert_eq!(FIRST.gives(&mut guard, 10), Fresh);
    assert_eq!(FIRST.gives(&mut guard, 10), Replayed);
}

#[test]
fn numbers_wrap_and_a_number_below_the_window_is_a_replay() {
    let mut guard = Guard::default();
    let sender = Sender {
        origin: FIRST.origin - INTERVAL * i64::from(u32::MAX),
        wall: FIRST.wall - INTERVAL * i64::from(u32::MAX),
    };
    sender.gives_all(&mut guard, u32::MAX - 5..u32::MAX);
    let after = |seq: u32| (FIRST.sent(seq), FIRST.arrives(seq));
    for seq in 0..200_000 {
        let (sent, at) = after(seq);
        assert_eq!(guard.judge(Seq(seq), sent, at), Fresh);
    }
    for seq in [199_999 - 65_536, 7, 0] {
        let (sent, at) = after(seq);
        assert_eq!(guard.judge(Seq(seq), sent, at), Replayed, "{seq}");
    }
    // A jump beyond the window forgets all of it.
    let (sent, at) = after(400_000);
    assert_eq!(guard.judge(Seq(400_000), sent, at), Fresh);
    let (sent, at) = after(399_999);
    assert_eq!(guard.judge(Seq(399_999), sent, at), Fresh);
}

#[test]
fn a_sender_that_is_started_again_is_believed_at_once() {
    for before in [3, 1_000, 100_000] {
        let mut guard = Guard::default();
        FIRST.gives_all(&mut guard, 0..before);
        let again = Sender {
            origin: FIRST.arrives(before) + HOUR,
            wall: FIRST.sent(before) + HOUR,
        };
        again.gives_all(&mut guard, 0..2_000);
        // The first sender's packets are replays, whatever their number.
        for seq in [0, before / 2, before - 1] {
            let verdict = guard.judge(Seq(seq), FIRST.sent(seq), again.arrives(2_000));
            assert_eq!(verdict, Replayed, "{before} {seq}");
        }
        again.gives_all(&mut guard, 2_000..2_100);
    }
}

#[test]
fn an_earlier_run_replayed_beside_the_session_is_never_believed() {
    let mut guard = Guard::default();
    let run = Sender {
        origin: FIRST.origin + HOUR,
        wall: FIRST.wall + HOUR,
    };
    FIRST.gives_all(&mut guard, 0..100_000);
    run.gives_all(&mut guard, 0..100);
    for seq in 100..2_000 {
        // Replays ahead of the run, in step with time, and replays of the run's own next number.
        for replayed in [seq + 50_000, seq] {
            let verdict = guard.judge(Seq(replayed), FIRST.sent(replayed), run.arrives(seq));
            assert_eq!(verdict, Replayed, "{replayed}");
        }
        assert_eq!(run.gives(&mut guard, seq), Fresh, "{seq}");
    }
}

#[test]
fn a_clock_set_forward_changes_nothing() {
    let mut guard = Guard::default();
    FIRST.gives_all(&mut guard, 0..100);
    let set = Sender {
        wall: FIRST.wall + HOUR * 24,
        ..FIRST
    };
    set.gives_all(&mut guard, 100..200);
}

#[test]
fn a_clock_set_back_is_believed_after_a_second() {
    let mut guard = Guard::default();
    FIRST.gives_all(&mut guard, 0..100);
    let little = Sender {
        wall: FIRST.wall - Span::from_secs(59),
        ..FIRST
    };
    little.gives_all(&mut guard, 100..200);
    let far = Sender {
        wall: FIRST.wall - HOUR,
        ..FIRST
    };
    for seq in 200..300 {
        assert_eq!(far.gives(&mut guard, seq), Replayed, "{seq}");
    }
    far.gives_all(&mut guard, 300..500);
}

#[test]
fn a_sender_started_again_with_its_clock_set_back_is_believed_after_a_second() {
    let mut guard = Guard::default();
    FIRST.gives_all(&mut guard, 0..1_000);
    let again = Sender {
        origin: FIRST.origin + HOUR,
        wall: FIRST.wall - HOUR,
    };
    for seq in 0..100 {
        assert_eq!(again.gives(&mut guard, seq), Replayed, "{seq}");
    }
    again.gives_all(&mut guard, 100..500);
}

#[test]
fn a_slow_session_is_believed_again_too() {
    let mut guard = Guard::default();
    let slow = |guard: &mut Guard, n: i64, back: Span| {
        let after = Span::from_secs(10) * n;
        let seq = Seq(u32::try_from(n).unwrap());
        guard.judge(seq, FIRST.wall + after - back, FIRST.origin + after)
    };
    assert_eq!(slow(&mut guard, 0, Span::ZERO), Fresh);
    let verdicts: Vec<_> = (1..5).map(|n| slow(&mut guard, n, HOUR)).collect();
    assert_eq!(verdicts, [Replayed, Replayed, Fresh, Fresh]);
}

proptest! {
    /// On a network that loses, delays up to a minute, reorders and copies, every probe is
    /// fresh once and never taken for a replay.
    #[test]
    fn no_first_arrival_is_a_replay(
        fates in proptest::collection::vec((any::<bool>(), 0i64..59_000, 0u8..3), 1..2_000),
    ) {
        let mut arrivals = Vec::new();
        for (seq, (lost, late, copies)) in (0..).zip(&fates) {
            for copy in 0..=i64::from(*copies) {
                if !lost {
                    arrivals.push((FIRST.arrives(seq) + MS * (*late + copy), seq));
                }
            }
        }
        arrivals.sort_unstable();
        let mut guard = Guard::default();
        let mut fresh = std::collections::BTreeSet::new();
        for (at, seq) in arrivals {
            let verdict = guard.judge(Seq(seq), FIRST.sent(seq), at);
            prop_assert_eq!(verdict == Fresh, fresh.insert(seq));
        }
    }
}
