use super::{Accounts, FRAMES, NOTES, ROWS, Work};
use crate::serve::delivery::{FrameCause, RefusedFrame};
use hopgap_proto::record::AgentName;
use hopgap_proto::uplink::Ack;
use std::time::Duration;
use tokio::time::Instant;

fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn rows(rows: usize) -> Work {
    Work {
        rows,
        ..Work::default()
    }
}

#[test]
fn an_agent_that_asks_for_too_much_waits_alone() {
    paused(async {
        let accounts = Accounts::default();
        let (a, b) = (agent("a"), agent("b"));
        let waited = async |who: &AgentName| {
            let begun = Instant::now();
            accounts.wait(who).await.unwrap();
            begun.elapsed()
        };
        // A second's work can be ahead of its time.
        accounts.charge(&a, &rows(ROWS));
        assert!(waited(&a).await < Duration::from_millis(5));
        accounts.charge(&a, &rows(ROWS));
        let held = waited(&a).await;
        let near = Duration::from_millis(990)..=Duration::from_millis(1_010);
        assert!(near.contains(&held), "{held:?}");
        assert_eq!(waited(&b).await, Duration::ZERO);
        // A request that would wait too long is refused and comes again.
        accounts.charge(&a, &rows(ROWS * 10));
        assert!(accounts.wait(&a).await.is_err());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(waited(&a).await < Duration::from_secs(2));
        let taken = accounts.taken("a");
        assert_eq!((taken.rows, taken.too_much), (12 * ROWS as u64, 1));
        assert!(taken.held_ms >= 990, "{taken:?}");
        assert_eq!(accounts.taken("b"), Default::default());
    });
}

#[test]
fn the_dearest_part_of_the_work_counts() {
    let second = Duration::from_secs(1);
    let near = |work: Work| {
        let time = work.time();
        assert!(time >= second && time < second * 11 / 10, "{time:?}");
    };
    near(rows(ROWS));
    near(Work {
        frames: FRAMES,
        rows: 5,
        ..Work::default()
    });
    assert_eq!(Work::default().time(), Duration::ZERO);
}

#[test]
fn being_heard_of_is_written_down_only_so_often() {
    paused(async {
        let accounts = Accounts::default();
        let a = agent("a");
        let written = (0..1_000).filter(|_| accounts.may_note(&a)).count();
        assert_eq!(written, NOTES as usize);
        assert!(accounts.may_note(&agent("b")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(accounts.may_note(&a));
    });
}

#[test]
fn refusals_are_counted_by_their_cause() {
    paused(async {
        let accounts = Accounts::default();
        let refused =
            [FrameCause::NoPart, FrameCause::NoPart, FrameCause::Time].map(|cause| RefusedFrame {
                at: 0..1,
                cause,
                error: String::new(),
            });
        accounts.took(&agent("a"), &Ack::default(), &refused);
        let taken = accounts.taken("a");
        assert_eq!((taken.no_part, taken.time, taken.refused()), (2, 1, 3));
        assert_eq!(
            taken.to_string(),
            "2 without a part in the plan, 1 with impossible times"
        );
    });
}
