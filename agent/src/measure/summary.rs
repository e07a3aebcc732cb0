//! The final summary of `measure`: the findings of one session, in plain text.

use hopgap_analysis::findings::{
    Coverage, Direction, Findings, FlowFindings, Outage, PathEpoch, SessionFindings,
};
use hopgap_analysis::text;
use hopgap_proto::record::PathName;
use std::fmt::Write as _;

/// Outages shown one by one; more are counted.
const MOST_OUTAGES: usize = 20;
/// Path epochs shown one by one for a flow and direction; more are counted.
const MOST_EPOCHS: usize = 12;

/// Returns the summary of a stand-alone measurement. `unnamed_back` are the paths that cannot
/// name the way back.
pub(super) fn summary(findings: &Findings, unnamed_back: &[PathName]) -> String {
    let mut out = String::new();
    for session in &findings.sessions {
        session_summary(session, &findings.coverage, &mut out);
    }
    for transition in &findings.transitions {
        for icmp in &transition.icmp {
            let _ = writeln!(
                out,
                "  ICMP from {}: {} ({}), {} to {}",
                icmp.from,
                icmp.meaning,
                text::plural(icmp.count, "error", "errors"),
                text::clock(icmp.first),
                text::clock(icmp.last)
            );
        }
    }
    for name in unnamed_back {
        if let Some(hint) = hop_hint(findings, name.as_str()) {
            for line in text::wrap(&hint, 96, "  note: ") {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    for caveat in &findings.caveats {
        for line in text::wrap(caveat, 96, "  note: ") {
            let _ = writeln!(out, "{line}");
        }
    }
    let _ = writeln!(out, "{}", findings.verdict.sentence);
    out
}

fn session_summary(session: &SessionFindings, coverage: &Coverage, out: &mut String) {
    let c = &session.counts;
    let _ = writeln!(
        out,
        "\n--- {} to {}, {}, one probe every {} each ---",
        session.from,
        session.to,
        text::plural(session.flows.len() as u64, "flow", "flows"),
        text::span(session.interval_ns)
    );
    let _ = writeln!(
        out,
        "  sent {}, answered {}, late {}",
        c.sent, c.answered, c.late
    );
    let _ = writeln!(
        out,
        "  lost forward {} ({}), lost on the way back {} ({}){}",
        c.lost_forward,
        text::percent(c.lost_forward, c.sent),
        c.lost_reverse,
        text::percent(c.lost_reverse, c.sent - c.lost_forward.min(c.sent)),
        if c.lost_unknown > 0 {
            format!(
                ", lost in an unknown direction {} ({})",
                c.lost_unknown,
                text::percent(c.lost_unknown, c.sent)
            )
        } else {
            String::new()
        }
    );
    let rest = [
        (c.duplicated, "duplicated"),
        (c.reordered_forward, "reordered forward"),
        (c.reordered_reverse, "reordered on the way back"),
        (c.refused, "refused by this host's kernel (not loss)"),
        (c.skipped, "slots skipped by this host (not loss)"),
        (
            c.dropped_by_policy,
            "dropped by the reflector's policy (not loss)",
        ),
        (c.pending, "pending at the end (not judged)"),
    ];
    for (count, what) in rest {
        if count > 0 {
            let _ = writeln!(out, "  {count} {what}");
        }
    }
    for latency in &session.latency {
        let paths = match (&latency.forward, &latency.reverse) {
            (None, None) => String::new(),
            (f, r) if f == r => format!(" over {}", text::path(f.as_deref())),
            (f, r) => format!(
                " out over {}, back over {}",
                text::path(f.as_deref()),
                text::path(r.as_deref())
            ),
        };
        let _ = writeln!(
            out,
            "  round trip{paths}: {}",
            text::latency(&latency.round_trip)
        );
    }
    for mtu in &session.path_mtu {
        let path = match mtu.forward.as_deref() {
            None => String::new(),
            path => format!(" over {}", text::path(path)),
        };
        let _ = writeln!(
            out,
            "  largest packet{path}: {} bytes, limited by {}{}",
            mtu.bytes,
            text::mtu_limit(mtu),
            text::mtu_directions(mtu).map_or_else(String::new, |by| format!(" ({by})"))
        );
    }
    outages(session, coverage, out);
    paths(session, out);
}

fn outages(session: &SessionFindings, coverage: &Coverage, out: &mut String) {
    let all: Vec<(&FlowFindings, &Outage)> = session
        .flows
        .iter()
        .flat_map(|f| f.outages.iter().map(move |o| (f, o)))
        .collect();
    if all.is_empty() {
        let _ = writeln!(out, "  {}", text::no_outage(coverage));
        return;
    }
    let _ = writeln!(
        out,
        "  {}:",
        text::plural(all.len() as u64, "outage", "outages")
    );
    for (flow, outage) in all.iter().take(MOST_OUTAGES) {
        let _ = writeln!(
            out,
            "    port {:<5} {:<8} {}  first lost {}  {} lost{}",
            flow.source_port,
            direction(outage.direction),
            text::bounds(outage.at_least_ns, outage.at_most_ns),
            text::clock(outage.first_lost.sent),
            outage.lost,
            match outage.first_good {
                Some(good) => format!("  good again {}", text::clock(good.sent)),
                None => "  not over at the end".to_owned(),
            }
        );
    }
    if all.len() > MOST_OUTAGES {
        let _ = writeln!(
            out,
            "    and {} more (--json has all)",
            all.len() - MOST_OUTAGES
        );
    }
}

/// Returns how to name the way back, too, where traceroutes saw this path on the way out.
fn hop_hint(findings: &Findings, name: &str) -> Option<String> {
    let flows = || findings.sessions.iter().flat_map(|s| &s.flows);
    let back = flows().flat_map(|f| &f.reverse_paths);
    if !back.into_iter().any(|e| e.path.is_none()) {
        return None;
    }
    let mut seen = flows().flat_map(|f| &f.forward_paths);
    let hop = seen
        .find(|e| e.path.as_deref() == Some(name))?
        .target_at_hop?;
    Some(format!(
        "the way back is named by its hop count alone: give `--path {name}=hop:{hop}`, too, \
         where it is as long as the way out"
    ))
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Reverse => "back",
        Direction::Unknown => "unknown",
    }
}

/// Writes the paths; flows with the same sequence of paths share a line.
fn paths(session: &SessionFindings, out: &mut String) {
    for (label, epochs_of) in [
        (
            "forward",
            (|f| &f.forward_paths) as fn(&FlowFindings) -> &Vec<PathEpoch>,
        ),
        ("back", |f| &f.reverse_paths),
    ] {
        let mut told: Vec<(Vec<String>, Vec<u16>)> = Vec::new();
        for flow in &session.flows {
            let epochs = epochs_of(flow);
            // A single epoch from the beginning needs no time.
            let story: Vec<String> = epochs
                .iter()
                .filter(|e| e.path.is_some() || e.target_at_hop.is_some())
                .enumerate()
                .map(|(i, e)| name(e, i > 0))
                .collect();
            match told.iter_mut().find(|(s, _)| *s == story) {
                Some((_, ports)) => ports.push(flow.source_port),
                None => told.push((story, vec![flow.source_port])),
            }
        }
        for (story, ports) in told {
            if story.is_empty() {
                continue;
            }
            let shown = story
                .iter()
                .take(MOST_EPOCHS)
                .cloned()
                .collect::<Vec<_>>()
                .join(" -> ");
            let more = if story.len() > MOST_EPOCHS {
                format!(" and {} more", story.len() - MOST_EPOCHS)
            } else {
                String::new()
            };
            let ports = text::ports(ports);
            for line in text::wrap(
                &format!("{shown}{more}"),
                96,
                &format!("  path {label}, port {ports}: "),
            ) {
                let _ = writeln!(out, "{line}");
            }
        }
    }
}

fn name(epoch: &PathEpoch, dated: bool) -> String {
    let hops = epoch.target_at_hop.map_or_else(
        || "hops unknown".to_owned(),
        |h| format!("target at hop {h}"),
    );
    let since = if dated {
        format!(", from {}", text::clock(epoch.first.sent))
    } else {
        String::new()
    };
    match &epoch.path {
        Some(path) => format!("{} ({hops}{since})", text::ascii(path)),
        None => format!("{hops}{since}"),
    }
}
