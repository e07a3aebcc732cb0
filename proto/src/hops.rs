//! Hop counts by the TTL of packets: the only place that does this arithmetic.
//!
//! A hop number counts as a traceroute does: routers between plus one. A probe leaves
//! with TTL 255, and the reflector copies the TTL that it arrived with into its reply
//! (Session-Sender TTL, RFC 8762 section 4.3); the reply itself leaves with 255 where
//! the reflector is one of ours, with one of the usual TTLs where it is not.

/// No route between two hosts has more hops: a count beyond shows that somebody on the
/// way has set the TTL. (The longest routes on the Internet have some 40.)
pub const MOST_HOPS: u8 = 64;

/// The TTLs that hosts send with, the smallest first.
const USUAL: [u8; 3] = [64, 128, 255];

/// Whose the reflector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflector {
    /// One of ours: it says what it saw and replies with TTL 255.
    Ours,
    /// Another: it may copy what was in the packet, and reply with any usual TTL.
    Foreign,
}

/// What the TTL of a packet says of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distance {
    /// The hop number of the host where it arrived.
    Hop(u8),
    /// It arrived with this TTL, which no number of routers explains: it was set on the way.
    Implausible(u8),
}

impl Distance {
    /// The hop number, where there is one.
    pub fn hop(self) -> Option<u8> {
        match self {
            Self::Hop(hop) => Some(hop),
            Self::Implausible(_) => None,
        }
    }

    fn of(initial: u8, ttl: u8) -> Self {
        match initial
            .checked_sub(ttl)
            .map(|routers| routers.saturating_add(1))
        {
            Some(hop) if hop <= MOST_HOPS => Self::Hop(hop),
            _ => Self::Implausible(ttl),
        }
    }
}

/// How far the reflector is, by the TTL with which a probe reached it. `None` where that
/// is not known: zero (RFC 8762), and 255 from a foreign reflector, which many only copy.
pub fn forward(ttl: u8, reflector: Reflector) -> Option<Distance> {
    match (ttl, reflector) {
        (0, _) | (255, Reflector::Foreign) => None,
        (ttl, _) => Some(Distance::of(255, ttl)),
    }
}

/// How far the sender is from the reflector, by the TTL of a reply. A foreign reflector's
/// initial TTL is the smallest usual one that is not below. `None` where none came.
pub fn reverse(ttl: u8, reflector: Reflector) -> Option<Distance> {
    let initial = match reflector {
        _ if ttl == 0 => return None,
        Reflector::Ours => 255,
        Reflector::Foreign => USUAL.into_iter().find(|usual| ttl <= *usual)?,
    };
    Some(Distance::of(initial, ttl))
}

#[cfg(test)]
mod tests;
