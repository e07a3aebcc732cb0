use super::find;
use crate::align::Placed;
use crate::analyse;
use crate::input::Input;
use crate::scenario::{UTC, line, world};
use hopgap_proto::record::{ProbeFate, StampSource};
use hopgap_proto::time::Span;

fn input() -> Input {
    world(&[
        line(&".".repeat(300)),
        line(&format!("{}x", ".".repeat(299))),
    ])
    .input()
}

fn told(input: &Input) -> Vec<String> {
    find(input, &Placed::default())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn kernel_times_need_no_word() {
    assert_eq!(find(&input(), &Placed::default()), []);
}

#[test]
fn a_sender_on_an_interface_without_stamps_is_named_with_its_counts() {
    let mut input = input();
    for probe in &mut input.sessions[0].sender[0].probes {
        probe.sent.source = StampSource::User;
    }
    let said = told(&input);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("of 600 probes that left at")
            && said[0].contains(", 600 have the program's own time"),
        "{said:?}"
    );
    assert!(said[0].contains("macvlan"), "{said:?}");
    // The reader of the findings gets it, once.
    let all = analyse(&input).caveats;
    assert_eq!(all.iter().filter(|c| **c == said[0]).count(), 1, "{all:?}");
}

#[test]
fn arrivals_are_told_apart_by_their_host() {
    let mut input = input();
    for probe in &mut input.sessions[0].sender[0].probes {
        if let ProbeFate::Answered(reply) = &mut probe.fate {
            reply.received.source = StampSource::User;
        }
    }
    for reception in &mut input.sessions[0].reflector[0].receptions {
        reception.received.source = StampSource::User;
    }
    let said = told(&input);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("of 599 replies that arrived at"),
        "{said:?}"
    );
    assert!(
        said[1].contains("of 599 probes that arrived at"),
        "{said:?}"
    );
}

#[test]
fn a_stamp_that_got_lost_and_what_is_not_judged_are_not_told() {
    let mut one_lost = input();
    one_lost.sessions[0].sender[0].probes[7].sent.source = StampSource::User;
    assert_eq!(told(&one_lost), [""; 0]);

    let mut elsewhere = input();
    for probe in &mut elsewhere.sessions[0].sender[0].probes {
        probe.sent.source = StampSource::User;
    }
    let later = UTC + Span::from_secs(3_600);
    elsewhere.window = Some((later, later + Span::from_secs(60)));
    assert_eq!(told(&elsewhere), [""; 0]);
}
