use super::Rewriter;
use crate::campaign::clock::{ClockSpec, HostClock};
use hopgap_proto::frame::{self, FrameKind, FrameReader};
use hopgap_proto::record::{
    Block, BlockBody, BlockHeader, BlockKey, Event, EventKind, FlowIndex, Probe, ProbeFate,
    Reception, Reply, RunId, Stamp, StampSource,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use hopgap_proto::uplink::Ack;

const HOUR: Span = Span::from_secs(3600);
const UNIT: Span = Span::from_nanos(100);

fn at(seconds: i64) -> (Mono, Wall) {
    let since = Span::from_secs(seconds);
    (
        Mono::from_nanos(0) + since,
        Wall::from_nanos(1_800_000_000_000_000_000) + since,
    )
}

fn pair(seconds: i64) -> ClockPair {
    let (mono, wall) = at(seconds);
    ClockPair { mono, wall }
}

/// An hour ahead, and a second more from second 50 on.
fn clock() -> HostClock {
    let spec: ClockSpec =
        toml::from_str("offset-s = 3600\nstep-s = 1\nstep-at = \"50s\"").expect("a clock");
    let (mut clock, _) = spec.draw(1, pair(0));
    clock.step_at(at(50).0);
    clock
}

fn block(agent: &str, session: Option<&str>, number: u64, closed: i64, body: BlockBody) -> Block {
    Block {
        header: BlockHeader {
            key: BlockKey {
                agent: agent.parse().expect("a name"),
                run: RunId(1),
                number,
            },
            session: session.map(|s| s.parse().expect("a name")),
            closed: pair(closed),
        },
        body,
    }
}

fn stamp(seconds: i64) -> Stamp {
    Stamp {
        at: at(seconds).0,
        source: StampSource::Kernel,
    }
}

fn probe(seconds: i64) -> Probe {
    Probe {
        flow: FlowIndex(0),
        seq: Seq(u32::try_from(seconds).expect("small")),
        sent: stamp(seconds),
        fate: ProbeFate::Answered(Reply {
            received: stamp(seconds + 1),
            reflector_received: at(seconds).1,
            reflector_sent: at(seconds).1,
            reflector_seq: Seq(0),
            forward_ttl: None,
            reverse_ttl: None,
        }),
    }
}

fn framed(blocks: &[Block]) -> Vec<u8> {
    let mut body = Vec::new();
    for block in blocks {
        let bytes = block.encode(UNIT).expect("a block");
        frame::append(&mut body, FrameKind::Block, &bytes).expect("small");
    }
    body
}

fn rewritten(rewriter: &mut Rewriter, blocks: &[Block]) -> Vec<Block> {
    let body = rewriter.body(&clock(), &framed(blocks)).expect("frames");
    FrameReader::new(&body.body)
        .map(|frame| Block::decode(frame.expect("a frame").payload).expect("a block"))
        .collect()
}

fn only(block: Block) -> Block {
    let mut all = rewritten(&mut Rewriter::default(), &[block]);
    all.pop().expect("one")
}

#[test]
fn the_host_dates_its_own_records_by_its_own_clock() {
    let receptions = BlockBody::Receptions(vec![Reception {
        flow: FlowIndex(0),
        seq: Seq(3),
        received: stamp(5),
        ttl: Some(250),
        reflector_seq: Some(Seq(3)),
        departed: Some(stamp(6)),
        refused: None,
    }]);
    let found = only(block("b", Some("a-b"), 0, 10, receptions.clone()));
    // Its monotonic clock is the machine's here: there is no skew.
    assert_eq!(found.body, receptions);
    assert_eq!(found.header.closed.wall, at(10).1 + HOUR);
    // What its replies' reflector says is the other host's clock.
    let probes = BlockBody::Probes(vec![probe(5)]);
    assert_eq!(
        only(block("b", Some("b-a"), 0, 10, probes.clone())).body,
        probes
    );
}

#[test]
fn the_other_host_has_its_wall_clock_in_the_replies_alone() {
    let found = only(block(
        "a",
        Some("a-b"),
        0,
        60,
        BlockBody::Probes(vec![probe(5), probe(55)]),
    ));
    assert_eq!(found.header.closed, pair(60));
    let BlockBody::Probes(probes) = found.body else {
        panic!("no probes")
    };
    for (probe, seconds, ahead) in [
        (probes[0], 5, HOUR),
        (probes[1], 55, HOUR + Span::from_secs(1)),
    ] {
        let ProbeFate::Answered(reply) = probe.fate else {
            panic!("no reply")
        };
        assert_eq!(probe.sent, stamp(seconds));
        assert_eq!(reply.received, stamp(seconds + 1));
        assert_eq!(reply.reflector_received, at(seconds).1 + ahead);
        assert_eq!(reply.reflector_sent, at(seconds).1 + ahead);
    }
}

#[test]
fn the_step_is_told_once_in_each_session_and_again_when_delivered_again() {
    let events = |number, closed| {
        let event = Event {
            at: at(closed).0,
            kind: EventKind::SessionStarted,
        };
        block("b", None, number, closed, BlockBody::Events(vec![event]))
    };
    let mut rewriter = Rewriter::default();
    let all = [events(0, 40), events(1, 60), events(2, 70)];
    let told = |block: &Block| {
        let BlockBody::Events(events) = &block.body else {
            panic!("no events")
        };
        events
            .iter()
            .filter(|e| e.kind == EventKind::ClockStepped(Span::from_secs(1)))
            .map(|e| e.at)
            .collect::<Vec<_>>()
    };
    let first = rewritten(&mut rewriter, &all);
    let said: Vec<_> = first.iter().map(told).collect();
    assert_eq!(said, [vec![], vec![at(50).0], vec![]]);
    assert_eq!(rewritten(&mut rewriter, &all), first);
}

#[test]
fn an_answer_speaks_of_the_body_that_was_sent() {
    let blocks = [
        block(
            "a",
            Some("a-b"),
            0,
            60,
            BlockBody::Probes((0..60).map(probe).collect()),
        ),
        block(
            "b",
            Some("b-a"),
            1,
            60,
            BlockBody::Probes((0..60).map(probe).collect()),
        ),
    ];
    let body = framed(&blocks);
    let new = Rewriter::default().body(&clock(), &body).expect("frames");
    assert_ne!(new.body.len(), body.len());
    let ack = |bytes: usize| Ack {
        bytes: bytes as u64,
        ..Ack::default()
    };
    let answer = |bytes| new.answer(&ack(bytes)).map(|ack| ack.bytes);
    assert_eq!(answer(new.body.len()).expect("the end"), body.len() as u64);
    assert_eq!(answer(0).expect("the start"), 0);
    assert!(answer(7).is_err());
}
