//! Hop counts by the TTL of packets: the only place that does this arithmetic.
//!
//! A hop number is the number of routers in between plus one, as in a traceroute. A probe
//! leaves with TTL 255, and the reflector copies the TTL that it arrived with into its reply
//! (Session-Sender TTL, RFC 8762 section 4.3); the reply itself leaves with 255 where the
//! reflector is one of ours, with one of the usual TTLs where it is not.

/// Most hops between two hosts: a larger count shows that something on the way has set the
/// TTL. (The longest routes on the Internet have some 40.)
pub const MOST_HOPS: u8 = 64;

/// The TTLs that hosts send with, the smallest first.
const USUAL: [u8; 3] = [64, 128, 255];

/// Whether the reflector is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflector {
    /// One of ours: it reports the TTL that it saw and replies with TTL 255.
    Ours,
    /// Another's: it may copy what was in the packet, and reply with any usual TTL.
    Foreign,
}

/// What the TTL of a packet says of its distance.
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

/// Returns the reflector's distance, from the TTL with which a probe reached it. `None` where
/// that is unknown: for zero (RFC 8762), and for 255 from a foreign reflector, because many
/// only copy it.
pub fn forward(ttl: u8, reflector: Reflector) -> Option<Distance> {
    match (ttl, reflector) {
        (0, _) | (255, Reflector::Foreign) => None,
        (ttl, _) => Some(Distance::of(255, ttl)),
    }
}

/// Returns the sender's distance from the reflector, from the TTL of a reply. A foreign
/// reflector's initial TTL is taken to be the smallest usual one that is not below. `None`
/// for zero.
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
