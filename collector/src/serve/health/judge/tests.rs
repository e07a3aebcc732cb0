use super::*;
use hopgap_proto::record::{FlowIndex, RunFault};
use hopgap_proto::uplink::FlowFault;

fn heard(silent: i64, behind: i64, block: i64) -> AgentSigns {
    AgentSigns {
        silent: Some(Span::from_secs(silent)),
        behind: Some(Span::from_secs(behind)),
        block: Some(Span::from_secs(block)),
    }
}

#[test]
fn an_agent_that_was_killed_22_s_ago_is_stale_whatever_its_blocks() {
    for block in [1, 10] {
        assert_eq!(agent(heard(3, block, block)), AgentState::Ok, "{block}");
        assert_eq!(agent(heard(22, 22, block)), AgentState::Stale, "{block}");
        assert_eq!(agent(heard(60, 60, block)), AgentState::Down, "{block}");
    }
    assert_eq!(
        agent(AgentSigns::default()),
        AgentState::Down,
        "never heard of"
    );
}

#[test]
fn one_that_reports_and_does_not_deliver_is_stale() {
    assert_eq!(agent(heard(1, 11, 1)), AgentState::Ok);
    assert_eq!(agent(heard(1, 13, 1)), AgentState::Stale);
    assert_eq!(agent(heard(1, 29, 10)), AgentState::Ok);
    assert_eq!(agent(heard(1, 31, 10)), AgentState::Stale);
    // A clock that is ahead or unknown does not make it stale.
    assert_eq!(agent(heard(1, -7_200, 10)), AgentState::Ok);
    let unknown = AgentSigns {
        behind: None,
        ..heard(1, 0, 10)
    };
    assert_eq!(agent(unknown), AgentState::Ok);
}

#[test]
fn an_agent_that_makes_no_reports_has_the_time_of_its_blocks() {
    let old = |silent| AgentSigns {
        silent: Some(Span::from_secs(silent)),
        ..AgentSigns::default()
    };
    assert_eq!(agent(old(20)), AgentState::Ok);
    assert_eq!(agent(old(23)), AgentState::Stale);
    assert_eq!(agent(old(60)), AgentState::Down);
}

fn told(running: u8, faults: &[Option<u8>]) -> SessionReport {
    let why = RunFault::EverySendRefused { errno: 101 };
    SessionReport {
        name: "a-b".parse().unwrap(),
        running,
        faults: faults
            .iter()
            .map(|flow| FlowFault {
                flow: flow.map(FlowIndex),
                why,
            })
            .collect(),
    }
}

fn good_and_since(unanswered_since: u64) -> Option<Tally> {
    Some(Tally {
        answered: 100,
        unanswered: 40,
        refused: 0,
        unanswered_since,
    })
}

#[test]
fn a_session_is_as_its_sender_says_and_as_its_probes_show() {
    use AgentState::{Down, Ok, Stale};
    let tally = |answered, unanswered, refused| {
        Some(Tally {
            answered,
            unanswered,
            refused,
            unanswered_since: 0,
        })
    };
    // Answered at first, and nothing in the newest block.
    let silent = good_and_since(40);
    let one_lost = good_and_since(1);
    let good = tally(100, 3, 0);
    let whole = told(8, &[]);
    let table = [
        (Ok, Some(&whole), good, SessionState::Ok),
        (Ok, None, good, SessionState::Ok),
        (Ok, Some(&whole), None, SessionState::NoData),
        (Ok, Some(&whole), tally(0, 50, 0), SessionState::NoReply),
        (Ok, Some(&whole), silent, SessionState::NoReply),
        (Ok, Some(&whole), one_lost, SessionState::Ok),
        (Ok, Some(&whole), tally(0, 0, 50), SessionState::Refused),
        (Stale, Some(&whole), good, SessionState::Stale),
        (Down, Some(&whole), good, SessionState::Stale),
        (Ok, Some(&told(7, &[Some(3)])), good, SessionState::Partly),
        (Ok, Some(&told(0, &[None])), good, SessionState::NotRunning),
        (Ok, Some(&told(8, &[None])), good, SessionState::Refused),
        // Its last report is outdated.
        (Down, Some(&told(0, &[None])), good, SessionState::Stale),
        (Down, Some(&told(0, &[None])), None, SessionState::NoData),
    ];
    for (sender, told, minute, state) in table {
        assert_eq!(
            session(sender, 8, told, minute),
            state,
            "{sender:?} {told:?}"
        );
    }
}
