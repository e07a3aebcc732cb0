//! Matches kernel transmit stamps to packets.
//!
//! The kernel counts the sends of each socket and returns the count with the stamp.
//! Stamps come in the order of sending, nearly always at once; one may be missing when
//! the kernel had no room for it.
//!
//! Before Linux 6.13 the count restarts after a failed send, and a later stamp may then
//! have the number of another packet. Its time reveals it: no packet is stamped before it
//! was given to the kernel.

use hopgap_proto::time::{Mono, Span};
use std::collections::VecDeque;

/// Most sends that await a stamp: a socket that returns none must not fill memory.
const MOST: usize = 4_096;

/// Largest error of converting a stamp from the wall clock to the monotonic clock.
const CONVERSION: Span = Span::from_micros(100);

/// The sends of one socket that await their stamp, in the order of sending.
#[derive(Debug)]
pub(crate) struct SentTokens<T> {
    awaited: VecDeque<(u32, T, Mono)>,
}

impl<T> Default for SentTokens<T> {
    fn default() -> Self {
        Self {
            awaited: VecDeque::new(),
        }
    }
}

impl<T> SentTokens<T> {
    /// Whether no stamp is awaited.
    pub(crate) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Notes that a packet was given to the kernel at `at`; its stamp will have this token.
    pub(crate) fn sent(&mut self, token: u32, packet: T, at: Mono) {
        if self.awaited.len() == MOST {
            self.awaited.pop_front();
        }
        self.awaited.push_back((token, packet, at));
    }

    /// Returns the packet of this token, and forgets earlier tokens, which get no stamp any
    /// more. `None` also where the stamp is older than the send: it is another packet's.
    pub(crate) fn stamped(&mut self, token: u32, stamp: Mono) -> Option<T> {
        let place = self.awaited.iter().position(|(t, ..)| *t == token)?;
        let (.., sent) = self.awaited.get(place)?;
        if stamp + CONVERSION < *sent {
            return None;
        }
        self.awaited
            .drain(..=place)
            .next_back()
            .map(|(_, packet, _)| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, SentTokens};
    use hopgap_proto::stamp::Seq;
    use hopgap_proto::time::{Mono, Span};

    fn at(ms: u32) -> Mono {
        Mono::from_nanos(i64::from(ms) * 1_000_000)
    }

    #[test]
    fn a_missing_stamp_does_not_shift_the_others() {
        let mut tokens = SentTokens::default();
        for i in 0..3 {
            tokens.sent(i, Seq(100 + i), at(i));
        }
        assert_eq!(tokens.stamped(0, at(1)), Some(Seq(100)));
        assert_eq!(tokens.stamped(2, at(3)), Some(Seq(102)));
        assert_eq!(tokens.stamped(1, at(3)), None);
    }

    #[test]
    fn a_late_stamp_of_an_earlier_count_is_not_taken_for_a_later_packets() {
        let mut tokens = SentTokens::default();
        // Packet 7 failed, the kernel counts anew: the stamp of packet 6 bears the number
        // of packet 8, and says a time before it.
        tokens.sent(6, Seq(106), at(6));
        tokens.sent(8, Seq(108), at(8));
        assert_eq!(tokens.stamped(8, at(6)), None);
        // Its own stamp comes, a little before the program's time as clocks are read.
        let own = at(8) - Span::from_micros(20);
        assert_eq!(tokens.stamped(8, own), Some(Seq(108)));
    }

    #[test]
    fn a_socket_without_stamps_does_not_fill_memory() {
        let mut tokens = SentTokens::default();
        for i in 0..100_000 {
            tokens.sent(i, Seq(i), at(i));
        }
        assert_eq!(tokens.awaited.len(), MOST);
        assert_eq!(tokens.stamped(99_999, at(100_000)), Some(Seq(99_999)));
    }
}
