//! `status`: the judged state of the collector, its agents and their sessions.

use super::show::{table, time};
use super::{Failure, ServerArgs, print};
use crate::serve::{
    AgentBody, AgentState, ClockDifferenceBody, DiskBody, InUseBody, RefusalBody, SessionBody,
    SessionState, Status,
};
use clap::Args;
use hopgap_analysis::schema::Nanos;
use hopgap_analysis::text::fault_in_brief;
use hopgap_proto::time::Span;
use hopgap_proto::uplink::AgentPart;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

/// A terminal's usual width.
const WIDTH: usize = 80;
/// How often `--watch` redraws.
const EVERY: Duration = Duration::from_secs(1);

/// Clocks that differ by more are shown.
const APART: Span = Span::from_secs(1);

const EXIT: &str = "Exit status: 0 when all is OK; 1 when an agent is stale or down, a session does not run or gets no replies, the plan file is not in force, or the collector's disk is full or fails, and also when the collector does not answer; 2 for a command line that is wrong. With --json it is 0 whenever the collector answers: `ok` in what is printed says the rest";

/// Options of `status`.
#[derive(Debug, Args)]
#[command(after_help = EXIT)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw it anew every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let client = args.server.client()?;
    loop {
        let status = client.status();
        if !args.watch {
            let status = status?;
            print(&text(&status, args.json)?)?;
            // The JSON contains the judgement.
            return Ok(if status.ok || args.json {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        // A watcher wants to see the collector come back.
        let text = match &status {
            Ok(status) => text(status, args.json)?,
            Err(error) => format!("{error}\n"),
        };
        let clear = std::io::stdout().is_terminal() && !args.json;
        if clear {
            // Moves the cursor home and clears the screen (ECMA-48).
            std::io::stdout().write_all(b"\x1b[H\x1b[2J")?;
        }
        print(&text)?;
        std::thread::sleep(EVERY);
    }
}

fn text(status: &Status, json: bool) -> Result<String, Failure> {
    Ok(match json {
        true => serde_json::to_string_pretty(status)? + "\n",
        false => show(status),
    })
}

/// The whole page, no line longer than a terminal is wide.
fn show(status: &Status) -> String {
    let mut page = Page::default();
    page.line(&format!(
        "hopgap-collector {}, since {}",
        status.version,
        time(status.started)
    ));
    let sessions = status.plan.sessions;
    let of = if sessions == 1 { "session" } else { "sessions" };
    page.line(&format!("plan {}, {sessions} {of}", status.plan.file));
    if let Some(error) = &status.plan.error {
        page.line(&format!(
            "the plan file as it is now is not in force: {error}"
        ));
    }
    disk(&mut page, &status.store, &status.disk);
    if let Some(drill) = &status.drill {
        page.line(&format!(
            "drill `{}` runs since {}",
            drill.name,
            time(drill.started)
        ));
    }
    page.blank();
    agents(&mut page, &status.agents);
    page.blank();
    sessions_of(&mut page, &status.sessions);
    page.blank();
    if let Some(tls) = &status.tls {
        page.line(&format!(
            "TLS: {} connections, {} handshakes failed, {} took too long, {} over the limit, {} unknown tokens",
            tls.accepted, tls.failed, tls.timed_out, tls.over_limit, tls.unknown_tokens
        ));
    }
    page.line(&format!("refused requests: {}", status.refused));
    for agent in status.agents.iter().filter(|a| a.taken.refused() > 0) {
        let (name, taken) = (&agent.name, agent.taken);
        page.line(&format!("frames of `{name}` that were not stored: {taken}"));
    }
    for refusal in &status.refusals {
        refused(&mut page, refusal);
    }
    page.0
}

fn disk(page: &mut Page, store: &str, disk: &DiskBody) {
    let free = disk.free.map_or_else(
        || "free space unknown".to_owned(),
        |free| format!("{} free", bytes(free)),
    );
    let low = if disk.low { "ALMOST FULL: " } else { "" };
    page.line(&format!("store {store}: {low}{free}"));
    let Some(error) = &disk.error else { return };
    let times = match error.count {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    page.line(&match error.since {
        Some(since) => format!(
            "CANNOT STORE since {}, last tried at {}, {times}: {}; agents keep what they record",
            time(since),
            time(error.at),
            error.error
        ),
        None => format!(
            "could not store until {}, {times}, and can again: {}",
            time(error.at),
            error.error
        ),
    });
}

fn agents(page: &mut Page, agents: &[AgentBody]) {
    let head = [
        "AGENT",
        "STATE",
        "DATA",
        "WAITING",
        "DISK FREE",
        "REFUSED",
        "VERSION",
    ];
    let rows = agents.iter().map(|agent| {
        let disk = agent.spool.and_then(|s| s.free);
        vec![
            agent.name.clone(),
            agent_state(agent),
            agent.behind_ns.map_or_else(
                || agent.newest.map_or("none".to_owned(), |_| "-".to_owned()),
                |Nanos(behind)| format!("{} ago", brief(behind.max(Span::ZERO))),
            ),
            agent
                .spool
                .map_or_else(|| "-".to_owned(), |s| bytes(s.waiting)),
            disk.map_or_else(|| "-".to_owned(), bytes),
            agent.refused.to_string(),
            agent.version.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    page.table(&head, rows);
    for agent in agents {
        for fault in &agent.faults {
            let part = match fault.part {
                AgentPart::Reflector => "its reflector does not run",
                AgentPart::Echo => "its echoes do not run",
                AgentPart::Other => "a part of it does not run",
            };
            page.line(&format!(
                "agent `{}`: {part}: {}",
                agent.name,
                fault_in_brief(fault.why)
            ));
        }
        if let Some(clock) = agent.clock {
            clock_of(page, &agent.name, clock);
        }
        if let Some(spool) = agent.spool.filter(|s| s.in_memory > 0) {
            page.line(&format!(
                "agent `{}`: its disk takes nothing; {} wait in its memory",
                agent.name,
                bytes(spool.in_memory)
            ));
        }
    }
}

/// A clock that is off by more than [`APART`].
fn clock_of(page: &mut Page, agent: &str, clock: ClockDifferenceBody) {
    let (Nanos(ahead), Nanos(bound)) = (clock.ahead_ns, clock.bound_ns);
    if ahead.abs() - bound <= APART {
        return;
    }
    let way = if ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let short = brief(ahead.abs());
    let in_short = match short.ends_with(" s") {
        true => String::new(),
        false => format!(" ({short})"),
    };
    page.line(&format!(
        "agent `{agent}`: its clock is {}{in_short} {way} the collector's; synchronise the two clocks (NTP)",
        ahead.abs()
    ));
}

fn agent_state(agent: &AgentBody) -> String {
    let silent = agent.silent_ns.map(|Nanos(silent)| silent);
    match (agent.state, silent) {
        (AgentState::Ok, _) => "OK".to_owned(),
        (AgentState::Unplanned, _) => "not in plan".to_owned(),
        (AgentState::Down, None) => "DOWN never heard".to_owned(),
        (AgentState::Down, Some(silent)) => format!("DOWN {}", brief(silent)),
        (AgentState::Stale, silent) => {
            // The longer of the two is the reason.
            let behind = agent.behind_ns.map(|Nanos(behind)| behind);
            let longest = silent.max(behind).unwrap_or(Span::ZERO);
            format!("STALE {}", brief(longest))
        }
    }
}

fn sessions_of(page: &mut Page, sessions: &[SessionBody]) {
    let head = ["SESSION", "STATE", "FLOWS", "LOST", "PATH OUT", "PATH BACK"];
    let rows = sessions.iter().map(|session| {
        let running = session.running.map_or_else(
            || session.flows.to_string(),
            |running| format!("{running}/{}", session.flows),
        );
        let sent = session.answered + session.unanswered;
        let lost = match sent {
            0 => "-".to_owned(),
            _ => format!("{}/{sent}", session.unanswered),
        };
        let InUseBody { forward, reverse } = &session.paths;
        vec![
            session.name.clone(),
            state_of(session),
            running,
            lost,
            names(forward),
            names(reverse),
        ]
    });
    page.table(&head, rows);
    for session in sessions {
        for fault in &session.faults {
            let what = match fault.flow {
                Some(flow) => format!("flow {} does not run", flow.0),
                None => "does not run as it should".to_owned(),
            };
            page.line(&format!(
                "session `{}`: {what}: {}",
                session.name,
                fault_in_brief(fault.why)
            ));
        }
        if session.faults.is_empty() && session.refused > 0 {
            page.line(&format!(
                "session `{}`: its sender's kernel refused {} sends in its newest minute",
                session.name, session.refused
            ));
        }
    }
    if !sessions.is_empty() {
        page.line("LOST is of each session's newest minute.");
    }
}

/// Returns the state, and for how long nothing was answered.
fn state_of(session: &SessionBody) -> String {
    let state = session_state(session.state);
    match (session.state, session.unanswered_ns) {
        (SessionState::NoReply, Some(Nanos(silent))) => format!("{state} {}", brief(silent)),
        _ => state.to_owned(),
    }
}

fn session_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Ok => "OK",
        SessionState::Stale => "STALE",
        SessionState::NoData => "NO DATA",
        SessionState::NoReply => "NO REPLY",
        SessionState::Refused => "REFUSED",
        SessionState::Partly => "PARTLY",
        SessionState::NotRunning => "NOT RUNNING",
    }
}

fn names(names: &[Option<String>]) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    let name = |n: &Option<String>| n.clone().unwrap_or_else(|| "(unnamed)".to_owned());
    names.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn refused(page: &mut Page, refusal: &RefusalBody) {
    let times = match refusal.count {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    page.line(&format!(
        "refused `{}` from {}, {times}, last at {}: {}",
        refusal.agent,
        refusal.peer,
        time(refusal.at),
        refusal.error
    ));
}

/// A length of time to one unit: `0.4 s`, `22 s`, `3 min`, `5 h`, `2 d`.
fn brief(span: Span) -> String {
    let seconds = span.as_nanos() / 1_000_000_000;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes to three digits: `512 B`, `1.25 MB`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1_000 {
        return format!("{n} B");
    }
    let mut scaled = n;
    for (i, unit) in UNITS.iter().enumerate() {
        if scaled < 1_000_000 || i + 1 == UNITS.len() {
            let (whole, part) = (scaled / 1_000, scaled % 1_000);
            return match whole {
                ..10 => format!("{whole}.{:02} {unit}", part / 10),
                10..100 => format!("{whole}.{} {unit}", part / 100),
                _ => format!("{whole} {unit}"),
            };
        }
        scaled /= 1_000;
    }
    format!("{n} B")
}

/// Lines of at most [`WIDTH`] columns.
#[derive(Default)]
struct Page(String);

impl Page {
    fn blank(&mut self) {
        self.0.push('\n');
    }

    /// Adds a sentence. Breaks it between words, and within words wider than a line; indents all
    /// lines but the first.
    fn line(&mut self, text: &str) {
        let mut used = 0;
        for word in text.split_whitespace() {
            let letters: Vec<char> = word.chars().collect();
            for piece in letters.chunks(WIDTH - 2) {
                if used > 0 && used + 1 + piece.len() > WIDTH {
                    self.0.push_str("\n  ");
                    used = 2;
                } else if used > 0 {
                    self.0.push(' ');
                    used += 1;
                }
                self.0.extend(piece);
                used += piece.len();
            }
        }
        self.0.push('\n');
    }

    /// Adds a table; where it would be too wide, cuts its widest columns.
    fn table(&mut self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        let head = head.iter().map(|&h| h.to_owned()).collect();
        let mut rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        fit(&mut rows);
        let _ = write!(self.0, "{}", table(&rows));
    }
}

/// Cuts the widest columns until the rows fit.
fn fit(rows: &mut [Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |rows: &[Vec<String>], c: usize| {
        let widths = rows.iter().filter_map(|r| r.get(c));
        widths.map(|t| t.chars().count()).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(|c| cells(rows, c)).collect();
    let room = WIDTH.saturating_sub(2 * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max() else {
            return;
        };
        if *widest <= 1 {
            return;
        }
        *widest -= 1;
    }
    for row in rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            if cell.chars().count() > *width {
                let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
                *cell = kept + "~";
            }
        }
    }
}

#[cfg(test)]
mod tests;
