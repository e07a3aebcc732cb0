//! Caveats: what the reader must know before trusting the findings.

mod asked;
mod session;
mod stamps;

use crate::align::{Placed, Session};
use crate::findings::SessionFindings;
use crate::input::Input;
use std::collections::BTreeSet;

/// All caveats, one sentence each: those of the input first, then by session in the
/// plan's order, and those on clocks last.
pub(crate) fn all(
    input: &Input,
    placed: &Placed,
    sessions: &[Session<'_>],
    found: &[SessionFindings],
) -> Vec<String> {
    let mut caveats = Vec::new();
    let unknown: BTreeSet<&str> = input
        .sessions
        .iter()
        .map(|s| &s.session)
        .filter(|name| input.plan.session(name).is_none())
        .map(|name| name.as_str())
        .collect();
    for name in unknown {
        caveats.push(format!(
            "Session `{name}` has records but is not in the plan; it is left out."
        ));
    }
    for (session, found) in sessions.iter().zip(found) {
        session::add(session, found, &mut caveats);
    }
    caveats.extend(stamps::find(input, placed).iter().map(ToString::to_string));
    // Last: a clock changes no length of time, unlike all else here.
    for session in sessions {
        session::clocks(session, &mut caveats);
    }
    // Both sessions between two agents notice the same step of a clock.
    let mut said = BTreeSet::new();
    caveats.retain(|c| said.insert(c.clone()));
    caveats
}

/// A number with its noun: `1 probe`, `3 probes`.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {many}")
    }
}

#[cfg(test)]
mod tests;
