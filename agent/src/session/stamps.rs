//! Which probe a kernel transmit stamp belongs to.
//!
//! The kernel counts the sends of each socket and gives the count back with the
//! stamp. Stamps come in the order of sending, nearly always at once; one may be
//! missing when the kernel had no room for it.

use hopgap_proto::stamp::Seq;
use std::collections::VecDeque;

/// Sends whose stamp has not come; a socket that gives none must not fill memory.
const MOST: usize = 4_096;

/// The sends of one socket that await their stamp, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct SentTokens {
    awaited: VecDeque<(u32, Seq)>,
}

impl SentTokens {
    /// A probe went out and the kernel will call it `token`.
    pub(super) fn sent(&mut self, token: u32, seq: Seq) {
        if self.awaited.len() == MOST {
            self.awaited.pop_front();
        }
        self.awaited.push_back((token, seq));
    }

    /// The probe of this token; tokens before it will get no stamp any more.
    pub(super) fn stamped(&mut self, token: u32) -> Option<Seq> {
        let place = self.awaited.iter().position(|(t, _)| *t == token)?;
        self.awaited.drain(..=place).next_back().map(|(_, seq)| seq)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, SentTokens};
    use hopgap_proto::stamp::Seq;

    #[test]
    fn a_missing_stamp_does_not_shift_the_others() {
        let mut tokens = SentTokens::default();
        for i in 0..3 {
            tokens.sent(i, Seq(100 + i));
        }
        assert_eq!(tokens.stamped(0), Some(Seq(100)));
        assert_eq!(tokens.stamped(2), Some(Seq(102)));
        assert_eq!(tokens.stamped(1), None);
    }

    #[test]
    fn a_socket_without_stamps_does_not_fill_memory() {
        let mut tokens = SentTokens::default();
        for i in 0..100_000 {
            tokens.sent(i, Seq(i));
        }
        assert_eq!(tokens.awaited.len(), MOST);
        assert_eq!(tokens.stamped(99_999), Some(Seq(99_999)));
    }
}
