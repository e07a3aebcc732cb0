//! Deliveries of frames: acknowledged, refused, or asked for again.

use super::{Running, frames, json, now};
use crate::store::Kind;
use crate::store::tests::Session;
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, BLOCKS_PATH, CLOCK_HEADER, ErrorBody, ErrorCode, bearer,
};

#[test]
fn blocks_are_acknowledged_when_they_are_stored_and_again_when_they_come_again() {
    let running = Running::start();
    let [probes, _] = Session::new(now()).ten_seconds();
    let body = frames([&probes]);
    let (status, text) = running.deliver("onprem", &body);
    let ack: Ack = json(&text);
    assert_eq!(status, 200);
    assert_eq!(
        (ack.bytes, ack.stored, ack.duplicates),
        (body.len() as u64, 1, 0)
    );
    let records = || {
        let all = (Wall::MIN, Wall::MAX);
        let session = "out".parse().unwrap();
        let rows = running
            .reader()
            .records(&session, &[Kind::Probes], all.0, all.1)
            .unwrap();
        rows.values().map(|r| r.probes.len()).sum::<usize>()
    };
    assert_eq!(records(), 4_000);
    let again: Ack = json(&running.deliver("onprem", &body).1);
    assert_eq!(
        (again.bytes, again.stored, again.duplicates),
        (body.len() as u64, 0, 1)
    );
    assert_eq!(records(), 4_000);
}

#[test]
fn a_frame_that_cannot_be_used_costs_itself_only() {
    let running = Running::start();
    let mut session = Session::new(now());
    let [first, _] = session.ten_seconds();
    let [second, _] = session.ten_seconds();
    let mut body = frames([&first]);
    let bad_at = body.len() as u64;
    frame::append(&mut body, FrameKind::Block, b"no block").unwrap();
    body.extend(frames([&second]));
    let (status, text) = running.deliver("onprem", &body);
    let ack: Ack = json(&text);
    assert_eq!((status, ack.bytes, ack.stored), (200, body.len() as u64, 2));
    assert_eq!(ack.refused.len(), 1);
    assert_eq!(ack.refused[0].offset, bad_at);
    let status = running.client().status().unwrap();
    let onprem = status.agents.iter().find(|a| a.name == "onprem").unwrap();
    assert_eq!(
        (onprem.blocks, onprem.refused, onprem.records),
        (2, 1, 8_000)
    );
}

#[test]
fn a_body_damaged_on_its_way_is_asked_for_again() {
    let running = Running::start();
    let [probes, receptions] = Session::new(now()).ten_seconds();
    let good = frames([&probes]);
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    let cut = &good[..good.len() - 1];
    for bad in [&flipped[..], cut, b"hello"] {
        let (status, text) = running.deliver("onprem", bad);
        assert_eq!(
            (status, json::<ErrorBody>(&text).code),
            (400, ErrorCode::Malformed)
        );
    }
    assert_eq!(running.reader().count(Wall::MIN, Wall::MAX).unwrap(), 0);
    // An empty body is a body of no frames.
    let ack: Ack = json(&running.deliver("onprem", b"").1);
    assert_eq!(ack, Ack::default());
    // Nobody may deliver another agent's block; it does not hold up the agent's own.
    let ack: Ack = json(&running.deliver("onprem", &frames([&receptions, &probes])).1);
    assert_eq!((ack.stored, ack.refused.len()), (1, 1));
    let why = &ack.refused[0];
    assert!(
        why.offset == 0
            && why
                .error
                .contains("is of agent `azure`, but `onprem` delivers it"),
        "{why:?}"
    );
    assert_eq!(
        json::<Ack>(&running.deliver("onprem", &good).1).duplicates,
        1
    );
}

/// As of an agent on a copy of another's disk, or after its disk was set back.
#[test]
fn another_block_of_a_known_key_is_refused_and_kept_aside() {
    let running = Running::start();
    let mut session = Session::new(now());
    let [first, _] = session.ten_seconds();
    let [mut second, _] = session.ten_seconds();
    assert_eq!(running.deliver("onprem", &frames([&first])).0, 200);
    second.header.key = first.header.key.clone();
    let body = frames([&first, &second]);
    let ack: Ack = json(&running.deliver("onprem", &body).1);
    assert_eq!((ack.stored, ack.duplicates), (0, 1));
    assert_eq!(ack.bytes, body.len() as u64, "it holds up nothing");
    let [why] = &ack.refused[..] else {
        panic!("{ack:?}");
    };
    assert_eq!(why.offset, frames([&first]).len() as u64);
    assert!(why.error.contains("is stored already, with other records"));
    let status = running.client().status().unwrap();
    let onprem = status.agents.iter().find(|a| a.name == "onprem").unwrap();
    assert_eq!((onprem.blocks, onprem.refused), (1, 1));
    // The first block stays.
    let ack: Ack = json(&running.deliver("onprem", &frames([&first])).1);
    assert_eq!((ack.duplicates, ack.refused.len()), (1, 0));
}

/// As by an agent whose `name` was mistyped at first, so that nobody let it in.
#[test]
fn what_was_recorded_under_a_name_that_nobody_has_is_its_deliverers() {
    let running = Running::start();
    let mut session = Session::new(now());
    let [mut first, _] = session.ten_seconds();
    first.header.key.agent = "onprme".parse().unwrap();
    let body = frames([&first]);
    assert_eq!(running.deliver("onprme", &body).0, 403, "it waits");
    let refused = running.client().status().unwrap().refusals;
    assert_eq!(refused[0].agent, "onprme");
    assert!(
        refused[0]
            .error
            .starts_with("the plan has no agent `onprme`; correct"),
        "{refused:?}"
    );
    let ack: Ack = json(&running.deliver("onprem", &body).1);
    assert_eq!((ack.stored, ack.refused.len()), (1, 0), "{ack:?}");
    let again: Ack = json(&running.deliver("onprem", &body).1);
    assert_eq!((again.stored, again.duplicates), (0, 1));
    let status = running.client().status().unwrap();
    let onprem = status.agents.iter().find(|a| a.name == "onprem").unwrap();
    assert_eq!((onprem.records, onprem.refused), (4_000, 0));
    assert!(status.agents.iter().all(|a| a.name != "onprme"));
    let audit = running.reader().audit(Wall::MIN, Wall::MAX, Vec::new());
    assert!(audit.unwrap().is_whole());
}

/// Records with impossible times wait at the agent until one of the clocks is corrected.
/// Being off by days and years is possible.
#[test]
fn an_agent_whose_clock_is_a_century_ahead_waits_and_is_told_of() {
    let running = Running::start();
    let [probes, _] = Session::new(now()).ten_seconds();
    let body = frames([&probes]);
    let day = Span::from_secs(86_400);
    let deliver = |reading: Wall| {
        let answer = ureq::post(running.url(BLOCKS_PATH))
            .config()
            .http_status_as_error(false)
            .build()
            .header(AGENT_HEADER, "onprem")
            .header("authorization", bearer(super::SECRET))
            .header(CLOCK_HEADER, reading.as_nanos().to_string())
            .send(&body);
        answer.unwrap().status().as_u16()
    };
    assert_eq!(deliver(now() + day * 36_526), 503);
    let refusals = running.client().status().unwrap().refusals;
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].error.contains("ahead of the collector's"));
    assert_eq!(running.reader().count(Wall::MIN, Wall::MAX).unwrap(), 0);
    // Any less is told elsewhere, and taken.
    assert_eq!(deliver(now() + day * 300), 200);
    assert_eq!(deliver(now() - day * 3), 200);
    assert!(running.reader().count(Wall::MIN, Wall::MAX).unwrap() > 0);
}

#[test]
fn what_was_taken_of_each_agent_is_told() {
    let running = Running::start();
    let [probes, receptions] = Session::new(now()).ten_seconds();
    let body = frames([&probes, &receptions]);
    running.deliver("onprem", &body);
    let status = running.client().status().unwrap();
    let taken = |name: &str| {
        let agent = status.agents.iter().find(|a| a.name == name);
        agent.unwrap().taken
    };
    let of = taken("onprem");
    assert_eq!((of.frames, of.bytes, of.foreign), (2, body.len() as u64, 1));
    assert_eq!((of.rows, of.refused()), (4_000, 1));
    assert_eq!(taken("azure"), Default::default());
}
