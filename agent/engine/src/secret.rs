//! Randomness that nobody outside of this host knows. Engines draw no random numbers: the
//! shell passes it in, so that a run can be replayed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Makes the identifiers of packets unguessable to anyone who does not see them.
#[derive(Clone, Copy)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Creates it from random bytes; the same bytes make the same identifiers.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Returns 64 bits for this purpose and number. Without the secret nobody can tell them
    /// from random bits, even knowing other draws (SipHash).
    pub(crate) fn draw(&self, purpose: Purpose, number: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.0, purpose, number).hash(&mut hasher);
        hasher.finish()
    }
}

/// What a draw is for. Draws for one purpose reveal nothing about those for another.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Purpose {
    /// The number of a flow's first round of traceroute.
    FirstRound,
    /// The identifiers of a traceroute packet.
    TracePacket,
    /// The number of the first size probe.
    FirstSizeProbe,
    /// The identifiers of a size probe.
    SizeProbe,
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}
