use super::AHEAD;
use super::judge::{FrameCause, Judged, MOST_FRAMES, MOST_ROWS, bears_strange_name, judge};
use crate::plan::Roles;
use crate::serve::uplink::Asker;
use crate::store::tests::Session;
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{
    Block, BlockBody, Event, EventKind, FlowIndex, MAX_ROWS, Probe, ProbeFate, Stamp, StampSource,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span, Wall};

const NOW: Wall = Wall::from_nanos(1_795_399_200_000_000_000);
const PLAN: &str = "[[agent]]\nname = \"onprem\"\naddress = \"10.0.0.1\"\n[[agent]]\nname = \"azure\"\naddress = \"10.0.0.2\"\n[[session]]\nname = \"out\"\nfrom = \"onprem\"\nto = \"azure\"\n";

fn asker(name: &str) -> Asker {
    let plan = toml::from_str(PLAN).unwrap();
    Asker::new(name.parse().unwrap(), Vec::new(), &plan)
}

fn judged(agent: &str, body: &[u8]) -> Judged {
    let mut roles = Roles::default();
    roles.adopt(&toml::from_str(PLAN).unwrap(), NOW);
    judge(body, &asker(agent), &roles, NOW).0.unwrap()
}

fn framed(blocks: &[Block]) -> Vec<u8> {
    let mut body = Vec::new();
    for block in blocks {
        let payload = block.encode(Span::from_nanos(100)).unwrap();
        frame::append(&mut body, FrameKind::Block, &payload).unwrap();
    }
    body
}

fn causes(judged: &Judged) -> Vec<FrameCause> {
    judged.refused.iter().map(|r| r.cause).collect()
}

/// A block of `onprem` with as many rows as there can be, in a hundred bytes.
fn dense(number: u64) -> Block {
    let [mut block, _] = Session::new(NOW - Span::from_secs(10)).ten_seconds();
    block.header.key.number = number;
    let closed = block.header.closed.mono;
    let probe = |i: u32| Probe {
        flow: FlowIndex(0),
        seq: Seq(i),
        sent: Stamp {
            at: closed - Span::from_secs(1),
            source: StampSource::Kernel,
        },
        fate: ProbeFate::Unanswered,
    };
    block.body = BlockBody::Probes((0..u32::try_from(MAX_ROWS).unwrap()).map(probe).collect());
    block
}

#[test]
fn only_what_the_plan_gives_a_part_in_is_stored() {
    let [probes, receptions] = Session::new(NOW - Span::from_secs(10)).ten_seconds();
    let taken = judged("onprem", &framed(std::slice::from_ref(&probes)));
    assert_eq!((taken.blocks.len(), causes(&taken)), (1, vec![]));
    // The arrivals of a session that it sends, and probes of one that no plan has.
    let mut arrivals = receptions.clone();
    arrivals.header.key.agent = "onprem".parse().unwrap();
    let mut unknown = probes.clone();
    unknown.header.session = Some("other".parse().unwrap());
    let body = framed(&[arrivals, unknown, probes]);
    let taken = judged("onprem", &body);
    assert_eq!(causes(&taken), [FrameCause::NoPart, FrameCause::NoPart]);
    assert_eq!((taken.blocks.len(), taken.bytes), (1, body.len()));
    let why = &taken.refused[0].error;
    assert!(
        why.contains("does not let agent `onprem` reflect session `out`"),
        "{why}"
    );
    assert_eq!(
        causes(&judged("onprem", &framed(&[receptions]))),
        [FrameCause::Foreign]
    );
}

#[test]
fn a_time_that_cannot_be_is_refused() {
    let [good, _] = Session::new(NOW - Span::from_secs(10)).ten_seconds();
    let with = |change: &dyn Fn(&mut Block)| {
        let mut block = good.clone();
        change(&mut block);
        causes(&judged("onprem", &framed(&[block])))
    };
    assert_eq!(with(&|_| {}), []);
    // 2262, and clocks that are an hour and three years ahead.
    let far = Wall::from_nanos(i64::MAX - 1_000);
    assert_eq!(with(&|b| b.header.closed.wall = far), [FrameCause::Time]);
    let hour = Span::from_secs(3_600);
    assert_eq!(with(&|b| b.header.closed.wall += hour), []);
    assert_eq!(with(&|b| b.header.closed.wall += hour * 26_280), []);
    assert_eq!(
        with(&|b| b.header.closed.wall = NOW + AHEAD + hour),
        [FrameCause::Time]
    );
    // A clock that is far behind, as at a boot without a battery, is told elsewhere.
    assert_eq!(
        with(&|b| b.header.closed.wall = Wall::ZERO + Span::from_secs(86_460)),
        []
    );
    // Records after the closing of their block, and before the host's start.
    let event = |at: Mono| {
        move |block: &mut Block| {
            block.body = BlockBody::Events(vec![Event {
                at,
                kind: EventKind::SessionStarted,
            }]);
        }
    };
    let closed = good.header.closed.mono;
    assert_eq!(with(&event(closed + Span::from_secs(1))), []);
    for at in [closed + hour, Mono::MAX, Mono::from_nanos(-1), Mono::MIN] {
        assert_eq!(with(&event(at)), [FrameCause::Time], "{at:?}");
    }
}

#[test]
fn of_a_body_that_claims_too_much_a_prefix_is_taken() {
    let blocks: Vec<_> = (0..20).map(dense).collect();
    let body = framed(&blocks);
    assert!(body.len() < 20 * 200, "{}", body.len());
    let taken = judged("onprem", &body);
    let rows: usize = taken.blocks.iter().map(|b| b.tally.records as usize).sum();
    assert!((MAX_ROWS..=MOST_ROWS).contains(&rows), "{rows}");
    assert_eq!(taken.refused, []);
    assert_eq!(taken.bytes, framed(&blocks[..taken.blocks.len()]).len());
    // A single frame always passes, or nothing after it ever would.
    assert_eq!(judged("onprem", &framed(&blocks[..1])).blocks.len(), 1);
}

#[test]
fn of_very_many_frames_a_prefix_is_taken() {
    let mut one = Vec::new();
    frame::append(&mut one, FrameKind::Block, b"no block").unwrap();
    let body = one.repeat(MOST_FRAMES + 5);
    let taken = judged("onprem", &body);
    assert_eq!(taken.refused.len(), MOST_FRAMES);
    assert_eq!(taken.bytes, one.len() * MOST_FRAMES);
    let rest = judged("onprem", &body[taken.bytes..]);
    assert_eq!((rest.refused.len(), rest.bytes), (5, one.len() * 5));
}

#[test]
fn a_damaged_body_costs_no_decoding() {
    let mut body = framed(&[dense(0), dense(1)]);
    body.pop();
    let (judged, work) = judge(&body, &asker("onprem"), &Roles::default(), NOW);
    assert!(judged.is_err());
    assert_eq!((work.rows, work.decoded, work.bytes), (0, 0, body.len()));
}

#[test]
fn only_a_name_that_nobody_has_is_asked_after() {
    let [own, _] = Session::new(NOW - Span::from_secs(10)).ten_seconds();
    let named = |name: &str| {
        let mut block = own.clone();
        block.header.key.agent = name.parse().unwrap();
        block
    };
    let strange = |names: &[&str]| {
        let blocks: Vec<_> = names.iter().map(|name| named(name)).collect();
        let plan = toml::from_str(PLAN).unwrap();
        let former = vec!["onprem-old".parse().unwrap()];
        let asker = Asker::new("onprem".parse().unwrap(), former, &plan);
        bears_strange_name(&framed(&blocks), &asker)
    };
    assert!(!strange(&["onprem", "onprem-old", "azure"]));
    assert!(strange(&["onprem", "onprme"]));
    assert!(!strange(&[]));
}
