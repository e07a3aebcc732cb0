//! One outage, as it truly was and as everybody tells it.

use super::output::{Said, read};
use super::{Cut, Peer, file};
use crate::campaign::scenario::Way;
use anyhow::{Context, Result};
use hopgap_proto::time::Span;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where the outputs of the peers are, in a run's folder.
pub(in crate::campaign) const DIR: &str = "peers";

/// An outage as the program of the wire made it, and what was said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::campaign) struct Compared {
    /// Which way it truly was.
    pub(super) way: Way,
    /// How long it truly was, in nanoseconds.
    pub(super) lasted_ns: i64,
    /// What each flow of hopgap's session says: bounds, where it saw it.
    pub(super) hopgap: Vec<Told>,
    /// What each peer says.
    pub(super) peers: Vec<(Peer, Told)>,
}

/// What somebody says of an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::campaign) struct Told {
    /// How long it was at least and at most, in nanoseconds; `None` where it was not seen.
    /// A peer gives one number, which is both.
    pub(in crate::campaign) bounds_ns: Option<(i64, i64)>,
    /// Which way it was; `None` where that is not said.
    pub(in crate::campaign) way: Option<Way>,
}

impl Told {
    /// The middle of the bounds.
    pub(super) fn length_ns(&self) -> Option<i64> {
        self.bounds_ns
            .map(|(least, most)| i64::midpoint(least, most))
    }
}

impl From<Said> for Told {
    fn from(said: Said) -> Self {
        Self {
            bounds_ns: said.lasted.map(|span| (span.as_nanos(), span.as_nanos())),
            way: said.way,
        }
    }
}

/// Reads what the peers said of outage `number` in the run of `dir`.
///
/// # Errors
/// The file that is not there, or says something else than expected.
pub(in crate::campaign) fn compare(
    dir: &Path,
    number: usize,
    cut: Cut,
    hopgap: Vec<Told>,
) -> Result<Compared> {
    let peers = Peer::ALL.into_iter().map(|peer| {
        let ending = if peer == Peer::Irtt { "json" } else { "txt" };
        let path = dir
            .join(DIR)
            .join(format!("{}.{ending}", file(number, peer)));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let said = read(peer, &text).with_context(|| format!("in {}", path.display()))?;
        Ok((peer, said.into()))
    });
    Ok(Compared {
        way: cut.way,
        lasted_ns: (cut.until - cut.from).as_nanos(),
        hopgap,
        peers: peers.collect::<Result<_>>()?,
    })
}

/// Of a hopgap outage.
pub(in crate::campaign) fn told(
    direction: &str,
    at_least_ns: i64,
    at_most_ns: Option<i64>,
) -> Told {
    Told {
        bounds_ns: Some((
            at_least_ns,
            // Without an end it lasts for ever.
            at_most_ns.unwrap_or(Span::MAX.as_nanos()),
        )),
        way: match direction {
            "forward" => Some(Way::Forward),
            "reverse" => Some(Way::Reverse),
            _ => None,
        },
    }
}
