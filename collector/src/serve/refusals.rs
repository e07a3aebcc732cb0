//! Word of agents that are not let in: in the log at once, in the status for a while.

use super::App;
use crate::clock;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hopgap_proto::time::{Span, Wall};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// The same refusal is logged again after this long.
const AGAIN: Span = Span::from_secs(60);
/// Refusals that are kept apart; more are not told, as a scan must not fill memory or log.
const MOST: usize = 64;
/// A refusal leaves the status when it did not come again for this long.
const TOLD_FOR: Span = Span::from_secs(600);

/// Why a response refuses its request, carried in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Reason(pub(super) String);

/// Someone who is not let in, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) from: IpAddr,
    pub(super) why: String,
    pub(super) last: Wall,
    pub(super) count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    logged: Wall,
    last: Wall,
    count: u64,
}

/// The refusals of the last while.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(IpAddr, String), Seen>>);

impl Refusals {
    /// Takes note; whether it is to be logged.
    fn note(&self, from: IpAddr, why: &str, now: Wall) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, s| now - s.last < TOLD_FOR);
        let key = (from, why.to_owned());
        if let Some(seen) = seen.get_mut(&key) {
            seen.last = now;
            seen.count += 1;
            let due = now - seen.logged >= AGAIN;
            if due {
                seen.logged = now;
            }
            return due;
        }
        if seen.len() >= MOST {
            return false;
        }
        let first = Seen {
            logged: now,
            last: now,
            count: 1,
        };
        seen.insert(key, first);
        true
    }

    /// Who is not let in now.
    pub(super) fn list(&self, now: Wall) -> Vec<Refusal> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|(_, s)| now - s.last < TOLD_FOR)
            .map(|((from, why), s)| Refusal {
                from: *from,
                why: why.clone(),
                last: s.last,
                count: s.count,
            })
            .collect()
    }
}

/// Tells of every uplink request that is refused for who asks.
pub(super) async fn watch(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    if let Some(Reason(why)) = response.extensions().get::<Reason>()
        && app
            .refusals
            .note(peer.ip().to_canonical(), why, clock::now())
    {
        tracing::warn!("an agent at {peer} is not let in: {why}");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{AGAIN, MOST, Refusals, TOLD_FOR};
    use hopgap_proto::time::{Span, Wall};
    use std::net::{IpAddr, Ipv4Addr};

    const NOW: Wall = Wall::from_nanos(1_790_000_000_000_000_000);

    #[test]
    fn a_refusal_is_logged_once_a_minute_and_told_while_it_comes() {
        let refusals = Refusals::default();
        let from = IpAddr::from([10, 17, 11, 132]);
        let second = Span::from_secs(1);
        assert!(refusals.note(from, "wrong", NOW));
        assert!(!refusals.note(from, "wrong", NOW + second));
        assert!(refusals.note(from, "unknown", NOW + second));
        assert!(refusals.note(from, "wrong", NOW + AGAIN));
        let told = refusals.list(NOW + AGAIN);
        assert_eq!(told.len(), 2);
        assert_eq!((told[1].why.as_str(), told[1].count), ("wrong", 3));
        assert!(refusals.list(NOW + AGAIN + TOLD_FOR).is_empty());
    }

    #[test]
    fn a_scan_fills_neither_memory_nor_log() {
        let refusals = Refusals::default();
        let logged = (0..10_000_u32)
            .filter(|n| refusals.note(IpAddr::V4(Ipv4Addr::from_bits(*n)), "unknown", NOW))
            .count();
        assert_eq!((logged, refusals.list(NOW).len()), (MOST, MOST));
    }
}
