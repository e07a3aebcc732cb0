//! Groups the flows of one direction of a transition that had the same outages and paths,
//! with the range of each figure over the group.

use hopgap_analysis::findings::{
    Asymmetry, Coverage, DirectionCoverage, DirectionSource, EchoFindings, Findings, Outage,
    ProbePoint, SessionFindings, Transition, TransitionDirection, TransitionFlow, UnnamedRoute,
};
use hopgap_analysis::schema::{Nanos, Utc};
use hopgap_analysis::text;
use hopgap_proto::time::Span;
use std::collections::BTreeSet;

/// How close instants of different flows must be to count as the same: flows are not sent at
/// the same instant, and routers do not switch all prefixes at once.
const SAME: Span = Span::from_millis(250);

/// Flows with the same number of outages at the same time and the same paths.
pub(super) struct Story<'a> {
    /// At least one.
    pub rows: Vec<&'a TransitionFlow>,
}

/// The stories of one direction: those with an outage first, the longest first of all.
pub(super) fn stories(direction: &TransitionDirection) -> Vec<Story<'_>> {
    let mut stories: Vec<Story<'_>> = Vec::new();
    for row in &direction.rows {
        match stories.iter_mut().find(|s| s.fits(row)) {
            Some(story) => story.rows.push(row),
            None => stories.push(Story { rows: vec![row] }),
        }
    }
    stories.sort_by_key(|s| core::cmp::Reverse(s.longest()));
    stories
}

impl Story<'_> {
    fn fits(&self, row: &TransitionFlow) -> bool {
        self.rows.first().is_some_and(|mine| {
            mine.path_before == row.path_before
                && mine.path_after == row.path_after
                && mine.outages.len() == row.outages.len()
                && (mine.untold_ns.0 > SAME) == (row.untold_ns.0 > SAME)
                && mine
                    .outages
                    .iter()
                    .zip(&row.outages)
                    .all(|(a, b)| near(a, b))
        })
    }

    fn longest(&self) -> Option<Nanos> {
        let outages = self.rows.iter().flat_map(|r| &r.outages);
        outages.map(|o| o.at_least_ns).max()
    }

    /// How many outages each of its flows had.
    pub(super) fn outages(&self) -> usize {
        self.rows.first().map_or(0, |r| r.outages.len())
    }

    /// The `n`-th outage of each flow.
    pub(super) fn outage(&self, n: usize) -> impl Iterator<Item = &Outage> {
        self.rows.iter().filter_map(move |r| r.outages.get(n))
    }

    /// Smallest and largest of a count over its flows.
    pub(super) fn range(&self, of: impl Fn(&TransitionFlow) -> u64) -> (u64, u64) {
        let values = || self.rows.iter().map(|r| of(r));
        (values().min().unwrap_or(0), values().max().unwrap_or(0))
    }

    /// Returns for how long, and for how many probes, this direction is unknown, as text; `None`
    /// where every probe tells of it.
    pub(super) fn untold(&self) -> Option<String> {
        let probes = self.rows.iter().map(|r| r.untold).max()?;
        let longest = self.rows.iter().map(|r| r.untold_ns).max()?;
        (probes > 0).then(|| {
            format!(
                "nothing is known of {} of a flow ({} at a stretch): lost before \
                 they could tell of this direction",
                text::plural(probes, "probe", "probes"),
                text::span(longest)
            )
        })
    }

    /// Earliest and latest of a point over its flows; `None` where a flow lacks it.
    pub(super) fn points(
        &self,
        of: impl Fn(&TransitionFlow) -> Option<ProbePoint>,
    ) -> Option<(Utc, Utc)> {
        span_of(self.rows.iter().map(|r| of(r)))
    }
}

/// The longest stretch in which no probe of a flow tells of this direction; `None` where
/// each tells of it.
pub(super) fn untold(direction: &TransitionDirection) -> Option<Nanos> {
    let rows = direction.rows.iter().filter(|r| r.untold > 0);
    rows.map(|r| r.untold_ns).max()
}

/// Returns the text for a transition without an outage.
pub(super) fn none_seen(transition: &Transition) -> &'static str {
    let mut directions = transition.directions.iter();
    if directions.any(|d| untold(d).is_some()) {
        "none seen"
    } else {
        "none"
    }
}

/// Whether an echo target answered nothing at all, in words for people.
pub(super) fn never_answered(echo: &EchoFindings) -> Option<String> {
    (echo.sent > 0 && echo.answered == 0).then(|| format!("never answered ({} sent)", echo.sent))
}

/// Who answered an echo target's requests with an error, in words for people.
pub(super) fn echo_errors(echo: &EchoFindings) -> Option<String> {
    let said: Vec<String> = echo
        .errors
        .iter()
        .map(|e| format!("{} from {} ({}x)", e.meaning, e.from, e.count))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// Earliest and latest of some points; `None` where one is missing.
pub(super) fn span_of(points: impl Iterator<Item = Option<ProbePoint>>) -> Option<(Utc, Utc)> {
    let mut span: Option<(Utc, Utc)> = None;
    for point in points {
        let at = point?.sent;
        span = Some(span.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
    }
    span
}

/// How much of a direction was seen, in a line.
pub(super) fn seen(direction: &DirectionCoverage) -> String {
    let share = text::share_seen(direction);
    let ends = direction
        .missing
        .last()
        .zip(direction.seen_until)
        .is_some_and(|(missing, until)| until <= missing.from);
    let until = direction.seen_until.filter(|_| ends);
    let until = until.map_or_else(String::new, |at| {
        format!(", data up to {}", text::date_time(at))
    });
    format!("{} -> {}: {share}{until}", direction.from, direction.to)
}

/// Why a report is preliminary, in sentences.
pub(super) fn preliminary(coverage: &Coverage) -> Vec<String> {
    let mut said = vec!["Records are still to come, which may change this report:".to_owned()];
    said.extend(text::awaited(coverage));
    said.push("With --wait the report waits for them.".to_owned());
    said
}

/// Returns the text that replaces an empty list of transitions.
pub(super) fn no_transition(findings: &Findings) -> String {
    if findings.window.is_none() {
        "There is no data: nothing can be said about failovers, failbacks and interruptions."
            .to_owned()
    } else {
        text::no_transition(&findings.coverage)
    }
}

/// How many flows had an outage in any direction, and how many there are.
pub(super) fn affected(transition: &Transition) -> (usize, usize) {
    let flows = |hit: bool| {
        let rows = transition
            .directions
            .iter()
            .flat_map(|d| d.rows.iter().map(|r| (&d.session, r)));
        rows.filter(|(_, r)| !hit || !r.outages.is_empty())
            .map(|(session, r)| (session, r.flow))
            .collect::<BTreeSet<_>>()
            .len()
    };
    (flows(true), flows(false))
}

/// Returns the asymmetric intervals of a session; groups those of different flows that
/// differ by little.
pub(super) fn asymmetries(session: &SessionFindings) -> Vec<Vec<&Asymmetry>> {
    let mut groups: Vec<Vec<&Asymmetry>> = Vec::new();
    for a in &session.asymmetries {
        let same = |b: &&Asymmetry| {
            b.forward == a.forward
                && b.reverse == a.reverse
                && (b.first.sent.0 - a.first.sent.0).abs() <= SAME
                && (b.last.sent.0 - a.last.sent.0).abs() <= SAME
        };
        match groups.iter_mut().find(|g| g.first().is_some_and(same)) {
            Some(group) => group.push(a),
            None => groups.push(vec![a]),
        }
    }
    groups
}

/// One length of time, or the range from the shortest to the longest.
pub(super) fn ranged(low: Nanos, high: Nanos) -> String {
    let (low, high) = (text::span(low), text::span(high));
    if low == high {
        low
    } else {
        format!("{low} to {high}")
    }
}

fn near(a: &Outage, b: &Outage) -> bool {
    let close = |a: Utc, b: Utc| (a.0 - b.0).abs() <= SAME;
    a.direction == b.direction
        && close(a.first_lost.sent, b.first_lost.sent)
        && close(a.last_lost.sent, b.last_lost.sent)
        && a.first_good.is_some() == b.first_good.is_some()
        && a.last_good.is_some() == b.last_good.is_some()
}

/// The text above the routes without a name.
pub(super) const UNNAMED: &str = "Put these lines into the plan, with names and roles of your \
     own, to name the routes from then on. To name them in this report, too, give the changed \
     plan to report --plan FILE.";

/// Returns the routes without a name, grouped by the lines of a plan that would name them.
pub(super) fn unnamed(findings: &Findings) -> Vec<(Option<&str>, Vec<&UnnamedRoute>)> {
    let mut groups: Vec<(Option<&str>, Vec<&UnnamedRoute>)> = Vec::new();
    for route in &findings.unnamed_routes {
        let lines = route.plan_lines.as_deref();
        match groups.iter_mut().find(|(same, _)| *same == lines) {
            Some((_, group)) => group.push(route),
            None => groups.push((lines, vec![route])),
        }
    }
    groups
}

/// One route without a name, in words.
pub(super) fn unnamed_route(route: &UnnamedRoute) -> String {
    let hops: Vec<&str> = route
        .hops
        .iter()
        .map(|hop| hop.as_deref().unwrap_or("*"))
        .collect();
    let seen = match (hops.is_empty(), route.target_at_hop) {
        (false, _) => format!("over {}", hops.join(", ")),
        (true, Some(hop)) => format!("seen by its length alone, {hop} hops"),
        (true, None) => "of which nothing is known".to_owned(),
    };
    format!(
        "{} -> {} (session {}, {}): {} of {}, {seen}",
        route.from,
        route.to,
        route.session,
        text::direction(route.direction),
        text::plural(route.probes, "probe", "probes"),
        text::plural(
            u64::try_from(route.flows.len()).unwrap_or(u64::MAX),
            "flow",
            "flows"
        ),
    )
}

/// How to read the figures, for the foot of a report.
pub(super) const READING: [&str; 4] = [
    "An outage is an interval with bounds. At least: from the first lost probe to the last lost \
     one, less any stretch in between in which no probe tells of this direction. At most: from the \
     last probe that made it to the first that made it again. All are actual send times of the \
     probes on the sender's monotonic clock, for both directions; no clocks are compared. The true \
     outage lies between; a shorter probe interval narrows the bounds.",
    "A path change lies between the last probe seen on the old path and the first seen on the \
     new one. Paths are told apart by the hop count of every probe, in both directions, and named \
     by traceroutes on the same 5-tuple.",
    "Late, lost, duplicated, reordered, refused by the sender's own kernel and dropped by a \
     reflector's policy are counted apart, and silence while the reflecting agent did not run is no data. Only \
     lost probes make an outage.",
    "Recovered: from this instant on all flows were unimpaired for the objective's stable time.",
];

/// How the direction of a loss is known, in a sentence.
pub(super) fn source(source: DirectionSource) -> &'static str {
    match source {
        DirectionSource::ReflectorLog => {
            "The direction of each loss comes from the reflector's own log."
        }
        DirectionSource::ReflectorCounter => {
            "The direction of a loss comes from the reflector's counter: known per gap, not \
             always per probe."
        }
        DirectionSource::None => {
            "The direction of a loss is unknown: neither a log of the reflector nor its numbers tell it."
        }
    }
}
