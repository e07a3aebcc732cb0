//! The caveats of one session.

use super::asked::{Question, Tally};
use super::counted;
use crate::align::{Beyond, LogEvent, Logged, Run, Session, stretch_of};
use crate::findings::{DirectionLimit, DirectionSource, MtuLimit, SessionFindings};
use crate::loss::{Fate, len};
use crate::schema::Utc;
use crate::{text, told};
use hopgap_proto::record::{DropReason, EventKind, FlowIndex};
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;

/// A smaller step is slewing seen through noisy readings.
const STEP_WORTH_TELLING: Span = Span::from_millis(2);

/// A pause is reported if it is at least this many intervals and `PAUSE` long.
const PAUSE_INTERVALS: i64 = 10;
const PAUSE: Span = Span::from_secs(1);

pub(super) fn add(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    let name = &session.plan.name;
    if found.counts.sent == 0 && found.counts.refused == 0 {
        out.push(format!(
            "Session `{name}`: no data from the sender `{}`.",
            session.plan.from
        ));
    }
    not_running(session, out);
    translations(session, found, out);
    direction(session, found, out);
    for run in &session.runs {
        events(session, run, out);
        pauses(session, run, out);
    }
    refused(session, out);
    stalls(found, out);
    unrecorded(session, out);
    let skipped = found.counts.skipped;
    if skipped > 0 {
        out.push(format!(
            "Session `{name}`: the sender left out {} because it was late; nothing was sent in them, and that is not loss.",
            counted(skipped, "slot", "slots")
        ));
    }
    reflector(session, found, out);
    black_holes(session, found, out);
    forged(session, found, out);
}

/// Reports ICMP errors and traceroute answers that match nothing sent.
fn forged(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    let name = &session.plan.name;
    for unfit in &found.unfit_icmp {
        out.push(format!(
            "Session `{name}`: {}; nothing was concluded from them.",
            text::unfit_icmp(unfit.what, unfit.count)
        ));
    }
}

/// Reports each host's stalls: the longest, and their number.
fn stalls(found: &SessionFindings, out: &mut Vec<String>) {
    for reflects in [false, true] {
        let stalls = || found.host_stalls.iter().filter(|s| s.reflects == reflects);
        let Some(longest) = stalls().max_by_key(|s| s.lasted_ns) else {
            continue;
        };
        let times = match stalls().count() {
            1 => String::new(),
            n => format!(" (the longest of {n} times)"),
        };
        let why = if longest.suspended {
            "it was suspended"
        } else {
            "its agent was stopped, or had no processor"
        };
        let means = if reflects {
            "what reached it meanwhile it answered late, or not at all, and that is no fault of a path"
        } else {
            "it sent nothing meanwhile, and that is no data"
        };
        out.push(format!(
            "Session `{}`: the host of `{}` stood still for {} from {}{times}: {why}; {means}.",
            found.session,
            longest.agent,
            longest.lasted_ns.0,
            text::date_time(longest.from)
        ));
    }
}

/// Flows that could not run. Nothing was sent in them, and that is not loss.
fn not_running(session: &Session<'_>, out: &mut Vec<String>) {
    for (flow, why, first, last) in told::not_running(session) {
        let what = match flow {
            Some(FlowIndex(flow)) => format!(
                "flow {flow} (source port {}) did not run",
                session.source_port(flow)
            ),
            None => "it did not run".to_owned(),
        };
        out.push(format!(
            "Session `{}`: {what} from {} to {}, as its sender `{}` says: {}.",
            session.plan.name,
            text::date_time(Utc(first)),
            text::date_time(Utc(last)),
            session.plan.from,
            text::fault(why)
        ));
    }
}

/// Addresses that something on the way translates.
fn translations(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    for seen in &found.translations {
        out.push(format!(
            "Session `{}`: the address of `{}` is translated to {} on the way: `{}` saw {} from it between {} and {}, and SSID and HMAC prove that they are this session's.",
            session.plan.name,
            seen.of,
            seen.address,
            seen.seen_by,
            counted(seen.packets, "packet", "packets"),
            text::date_time(seen.first),
            text::date_time(seen.last)
        ));
    }
}

fn black_holes(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    for mtu in found
        .path_mtu
        .iter()
        .filter(|m| m.limit == MtuLimit::Silent)
    {
        let name = |path: &Option<String>| path.clone().unwrap_or_else(|| "(unnamed)".to_owned());
        let (forward, reverse) = (name(&mtu.forward), name(&mtu.reverse));
        let paths = if forward == reverse {
            format!("path {forward}")
        } else {
            format!("the path out by {forward} and back by {reverse}")
        };
        let way = match (mtu.out.limit, mtu.back.limit) {
            (DirectionLimit::Silent, _) => " on the way out",
            (_, DirectionLimit::Silent) => " on the way back",
            _ => "",
        };
        out.push(format!(
            "Session `{}`: packets of more than {} bytes vanish on {paths}{way}, and no router says so: a black hole for large packets; connections that send such packets hang on it.",
            session.plan.name, mtu.bytes
        ));
    }
}

fn direction(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    let name = &session.plan.name;
    let lost = counted(found.counts.lost_unknown, "loss has", "losses have");
    let missing = found.counts.sent > 0 && session.reflector_is_agent() && !session.log.present;
    if missing {
        out.push(format!(
            "Session `{name}`: no data from the reflector `{}`; the direction of a loss comes from the counter in its replies.",
            session.to_name()
        ));
    }
    if found.counts.lost_unknown > 0 {
        let why = match found.direction_source {
            DirectionSource::ReflectorLog => "the reflector's log does not cover that time",
            DirectionSource::ReflectorCounter => {
                "the reflector's counter does not tell it (it went back, or no reply came after)"
            }
            DirectionSource::None if found.counts.answered + found.counts.late == 0 => {
                "nothing answered at all"
            }
            DirectionSource::None => {
                "the numbers in the replies are those of the probes, so the reflector does not count, or had nothing to count apart"
            }
        };
        out.push(format!(
            "Session `{name}`: {lost} no known direction: {why}."
        ));
    }
}

/// Reports on the wall clocks at both ends.
pub(super) fn clocks(session: &Session<'_>, out: &mut Vec<String>) {
    for run in &session.runs {
        clocks_of(session, run, out);
    }
    let asked = Question::of_reflector(session);
    for (at, by) in &session.log.steps {
        if asked.holds(*at - *by) || asked.holds(*at) {
            out.extend(step(&session.to_name(), *at - *by, *by));
        }
    }
}

fn clocks_of(session: &Session<'_>, run: &Run, out: &mut Vec<String>) {
    let asked = Question(session.window);
    let agent = &run.agent;
    if !run.timeline.is_known() {
        out.push(format!(
            "Agent `{agent}`: no clock reading came with its records; its instants are not on UTC."
        ));
    }
    for (at, by) in run.timeline.steps() {
        let before = run.timeline.utc(at) - by;
        if asked.holds(before) || asked.holds(before + by) {
            out.extend(step(agent.as_str(), run.timeline.wall(at) - by, by));
        }
    }
    let unsynchronised = run
        .events
        .iter()
        .any(|e| matches!(e.kind, EventKind::Clock(r) if !r.synchronised));
    if unsynchronised {
        out.push(format!(
            "Agent `{agent}`: its wall clock was not synchronised; its instants may be off against those of others. Lengths of time are not affected."
        ));
    }
}

fn step(agent: &str, before: Wall, by: Span) -> Option<String> {
    let direction = if by.is_negative() { "back" } else { "forward" };
    (by.abs() >= STEP_WORTH_TELLING).then(|| {
        format!(
            "Agent `{agent}`: its wall clock was set {direction} by {} at {}; lengths of time are not affected.",
            by.abs(),
            text::date_time(Utc(before))
        )
    })
}

fn events(session: &Session<'_>, run: &Run, out: &mut Vec<String>) {
    let name = &session.plan.name;
    let asked = Question(session.window);
    let mut restarts = 0_u64;
    let (mut strays, mut lost, mut overflowed) = Default::default();
    for event in &run.events {
        let stretch = stretch_of(event, &run.timeline);
        let tally = |of: &mut Tally, count: u32| of.add(&asked, stretch, u64::from(count));
        match event.kind {
            EventKind::ReflectorRestarted { .. } => restarts += 1,
            EventKind::StrayReplies { count } => tally(&mut strays, count),
            EventKind::ReceiveOverflow { count, .. } => tally(&mut overflowed, count),
            EventKind::RecordsLost { blocks } | EventKind::BlocksLost { blocks, .. } => {
                tally(&mut lost, blocks);
            }
            _ => {}
        }
    }
    if restarts > 0 {
        out.push(format!(
            "Session `{name}`: the reflector's counter began anew ({}); its counter does not tell the direction of losses around that.",
            counted(restarts, "time", "times")
        ));
    }
    if let Some(strays) = strays.said("reply", "replies") {
        out.push(format!(
            "Session `{name}`: {strays} belonged to no known probe or could not be read."
        ));
    }
    if let Some(overflowed) = overflowed.said("reply", "replies") {
        out.push(format!(
            "Session `{name}`: the sender's own host threw away {overflowed} that had arrived, because the agent `{}` was held up; that is no data, not loss. Give it more of the processor, or a larger buffer (net.core.rmem_max).",
            run.agent
        ));
    }
    records_lost(run.agent.as_str(), &lost, out);
}

fn records_lost(agent: &str, blocks: &Tally, out: &mut Vec<String>) {
    if let Some(blocks) = blocks.said("block", "blocks") {
        out.push(format!(
            "Agent `{agent}`: {blocks} of records were lost by the agent itself; what they held is missing here and is not counted as loss."
        ));
    }
}

/// Reports stretches in which a sender sent nothing without recording skipped slots.
fn pauses(session: &Session<'_>, run: &Run, out: &mut Vec<String>) {
    let least = PAUSE.max(session.plan.interval * PAUSE_INTERVALS);
    let mut sends: Vec<_> = Vec::new();
    for flow in run.flows.values() {
        // One flow is enough to show that the agent was awake.
        sends.extend(flow.samples.iter().map(|s| s.sent));
        sends.extend(flow.refused.iter().map(|(at, _)| *at));
    }
    sends.sort();
    for pair in sends.windows(2) {
        if let [a, b] = pair
            && *b - *a > least
        {
            out.push(format!(
                "Session `{}`: `{}` sent nothing for {} from {}; that is no data, not loss.",
                session.plan.name,
                run.agent,
                *b - *a,
                text::date_time(Utc(run.timeline.utc(*a)))
            ));
        }
    }
}

fn refused(session: &Session<'_>, out: &mut Vec<String>) {
    let mut by_errno: BTreeMap<i32, (u64, Wall, Wall)> = BTreeMap::new();
    for run in &session.runs {
        for (at, errno) in run.flows.values().flat_map(|f| &f.refused) {
            let at = run.timeline.utc(*at);
            let entry = by_errno.entry(*errno).or_insert((0, at, at));
            *entry = (entry.0 + 1, entry.1.min(at), entry.2.max(at));
        }
    }
    for (errno, (n, first, last)) in by_errno {
        out.push(format!(
            "Session `{}`: the sender's own kernel refused {} ({}) between {} and {}; they never left and are not counted as loss.",
            session.plan.name,
            counted(n, "send", "sends"),
            text::errno_name(errno),
            text::date_time(Utc(first)),
            text::date_time(Utc(last))
        ));
    }
}

/// Reports sequence numbers without any record.
fn unrecorded(session: &Session<'_>, out: &mut Vec<String>) {
    let mut missing = 0_u64;
    for flow in session.runs.iter().flat_map(|r| r.flows.values()) {
        for pair in flow.samples.windows(2) {
            let [a, b] = pair else { continue };
            let between = flow.refused_orders.partition_point(|o| *o < b.order)
                - flow
                    .refused_orders
                    .partition_point(|o| *o <= a.order)
                    .min(flow.refused_orders.partition_point(|o| *o < b.order));
            let numbers = b.order.saturating_sub(a.order).max(1).unsigned_abs() - 1;
            missing = missing.saturating_add(numbers.saturating_sub(len(between)));
        }
    }
    if missing > 0 {
        out.push(format!(
            "Session `{}`: there is no record of {} between recorded ones; that is missing data, not loss.",
            session.plan.name,
            counted(missing, "sequence number", "sequence numbers")
        ));
    }
}

fn reflector(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    let name = &session.plan.name;
    let log = &session.log;
    let to = session.to_name();
    let asked = Question::of_reflector(session);
    let mut dropped: BTreeMap<DropReason, Tally> = BTreeMap::new();
    let (mut lost, mut overflowed) = (Tally::default(), Tally::default());
    for LogEvent { since, at, kind } in &log.events {
        let stretch = (*since, *at);
        match kind {
            EventKind::ReceiveOverflow {
                flow: None, count, ..
            } => overflowed.add(&asked, stretch, u64::from(*count)),
            EventKind::ReflectorDropped { reason, count } => {
                let of = dropped.entry(*reason).or_default();
                of.add(&asked, stretch, u64::from(*count));
            }
            EventKind::RecordsLost { blocks } | EventKind::BlocksLost { blocks, .. } => {
                lost.add(&asked, stretch, u64::from(*blocks));
            }
            _ => {}
        }
    }
    records_lost(&to, &lost, out);
    if let Some(overflowed) = overflowed.said("packet", "packets") {
        out.push(format!(
            "Session `{name}`: the host of the reflector `{to}` threw away {overflowed} that had arrived, because its agent was held up; that is not loss on a path. Give it more of the processor, or a larger buffer (net.core.rmem_max)."
        ));
    }
    for (reason, n) in dropped {
        let Some(packets) = n.said("packet", "packets") else {
            continue;
        };
        out.push(if reason == DropReason::Replayed {
            format!(
                "Session `{name}`: the reflector `{to}` took {packets} for copies of earlier ones, by their number or by their sender's time; none counts as an arrival. Somebody replays them, or the sender's clock was set back."
            )
        } else {
            format!(
                "Session `{name}`: the reflector `{to}` did not answer {packets}: {}.",
                drop_reason(reason)
            )
        });
    }
    if found.counts.dropped_by_policy > 0 {
        out.push(format!(
            "Session `{name}`: {} reached the reflector, which sent no reply; that is not loss.",
            counted(found.counts.dropped_by_policy, "probe", "probes")
        ));
    }
    no_data(session, found, out);
    let strays = len(log.strays.iter().filter(|at| asked.holds(**at)).count());
    if strays > 0 {
        out.push(format!(
            "Session `{name}`: {} in the reflector's log belong to no probe on record.",
            counted(strays, "arrival", "arrivals")
        ));
    }
    unlogged(session, out);
}

/// Answered probes that the reflector's log lacks: within what it covers, and after its end.
fn unlogged(session: &Session<'_>, out: &mut Vec<String>) {
    let (name, log) = (&session.plan.name, &session.log);
    let Some(end) = log.end() else {
        return;
    };
    let (mut within, mut after) = (0, 0);
    for (i, run) in session.runs.iter().enumerate() {
        for s in run.flows.values().flat_map(|f| &f.samples) {
            if s.logged != Logged::Absent || !matches!(s.fate, Fate::Answered | Fate::Late) {
                continue;
            }
            if log.expected(i, &run.timeline, s.sent) <= end {
                within += 1;
            } else {
                after += 1;
            }
        }
    }
    if within > 0 {
        out.push(format!(
            "Session `{name}`: {} not in the reflector's log: part of the log is missing, and losses close to it take their direction from the counter in the replies.",
            counted(within, "answered probe is", "answered probes are")
        ));
    }
    if after > 0 {
        out.push(format!(
            "Session `{name}`: the reflector's log is missing after {}, its records are still on their way or were not made; losses after that take their direction from the counter in the replies.",
            text::date_time(Utc(end))
        ));
    }
}

/// Reports probes that went unanswered while the reflecting agent was not running, or is not
/// known to have been.
fn no_data(session: &Session<'_>, found: &SessionFindings, out: &mut Vec<String>) {
    let (name, to, log) = (&session.plan.name, session.to_name(), &session.log);
    let (mut before, mut after, mut stalled) = (0, 0, 0_u64);
    for (i, run) in session.runs.iter().enumerate() {
        for s in run.flows.values().flat_map(|f| &f.samples) {
            if s.fate != Fate::NoData {
                continue;
            }
            let at = log.expected(i, &run.timeline, s.sent);
            match log.beyond(at) {
                Some(Beyond::First) => before += 1,
                Some(Beyond::Last) => after += 1,
                None => stalled += u64::from(log.stalls.at(at).is_some()),
            }
        }
    }
    let probes = |n: u64| counted(n, "probe", "probes");
    let Some((first, last)) = log.heard else {
        if found.counts.no_data > 0 {
            out.push(format!(
                "Session `{name}`: {} went unanswered, and there is no sign of the agent `{to}`, neither a reply nor a record: that is no data, not loss. Start it, or wait until its records are here.",
                probes(found.counts.no_data)
            ));
        }
        return;
    };
    if before > 0 {
        out.push(format!(
            "Session `{name}`: {} went unanswered before the first sign of the agent `{to}` at {}; that is no data, not loss.",
            probes(before),
            Utc(first)
        ));
    }
    if after > 0 {
        out.push(format!(
            "Session `{name}`: {} went unanswered after the last sign of the agent `{to}` at {}: it does not run, or its records are still on their way; that is no data, not loss, until a later report knows more.",
            probes(after),
            Utc(last)
        ));
    }
    let overflowed: u64 = session
        .runs
        .iter()
        .flat_map(|r| &r.events)
        .map(|e| match e.kind {
            EventKind::ReceiveOverflow { count, .. } => u64::from(count),
            _ => 0,
        })
        .sum();
    let between = found
        .counts
        .no_data
        .saturating_sub(before + after + stalled + overflowed);
    if stalled > 0 {
        out.push(format!(
            "Session `{name}`: {} went unanswered while the host of `{to}` stood still; that is no data, not loss.",
            probes(stalled)
        ));
    }
    if between > 0 {
        out.push(format!(
            "Session `{name}`: {} went unanswered while the agent `{to}` did not run; that is no data, not loss.",
            probes(between)
        ));
    }
}

fn drop_reason(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Malformed => "it could not be read as a STAMP packet",
        DropReason::Unauthenticated => "its HMAC was absent or wrong",
        DropReason::Unprovisioned => "it belonged to no provisioned session",
        DropReason::LoopGuard => "it came from a reflector's port, or was itself a reply",
        DropReason::RateLimited => "its source exceeded the reflector's rate",
        DropReason::SendRefused => "the reflector's own kernel refused the reply",
        DropReason::Replayed => "it was a copy of an earlier one",
        DropReason::Stranger => "it came from a host of which no session is planned",
    }
}
