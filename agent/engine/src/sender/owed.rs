//! Replies that are still owed: what is kept of unanswered probes after the late window.
//!
//! A reflecting host may stand still for minutes and then answer everything in its queue.
//! Such a reply is late, not a stray. What is needed to match it is kept only for unanswered
//! probes. A healthy session has none; an outage makes many, and the newest are kept.

use hopgap_proto::record::Stamp;
use hopgap_proto::stamp::Seq;
use std::collections::VecDeque;

/// Most unanswered probes kept for all flows of a session: 32 MB. For 8 flows with a probe
/// every 10 ms that is 21 minutes.
const MOST: usize = 1 << 20;

/// A number this far behind is of the round before: the number wrapped.
const ROUND: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
struct Probe {
    seq: u32,
    t1: u64,
    sent: Stamp,
}

/// One flow's unanswered probes older than the late window, in the order of sending.
#[derive(Debug)]
pub(super) struct UnansweredProbes {
    probes: VecDeque<Probe>,
    most: usize,
}

impl UnansweredProbes {
    /// Creates the store of one of `flows` flows, which share [`MOST`].
    pub(super) fn of(flows: u8) -> Self {
        Self::with_most(MOST / usize::from(flows.max(1)))
    }

    fn with_most(most: usize) -> Self {
        Self {
            probes: VecDeque::new(),
            most,
        }
    }

    /// Keeps a probe that was sent with this T1 and not answered.
    pub(super) fn push(&mut self, seq: Seq, t1: u64, sent: Stamp) {
        let older = |p: &Probe| seq.0.wrapping_sub(p.seq) >= ROUND;
        while self.probes.len() >= self.most || self.probes.front().is_some_and(older) {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe {
            seq: seq.0,
            t1,
            sent,
        });
    }

    /// T1 of a probe as it was written.
    pub(super) fn t1(&self, seq: Seq) -> Option<u64> {
        self.place(seq)
            .and_then(|place| self.probes.get(place))
            .map(|p| p.t1)
    }

    /// Removes the probe whose reply came. Returns when it was sent.
    pub(super) fn take(&mut self, seq: Seq) -> Option<Stamp> {
        let place = self.place(seq)?;
        let probe = self.probes.remove(place)?;
        if self.probes.is_empty() {
            self.probes.shrink_to(0);
        }
        Some(probe.sent)
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        let newest = self.probes.back()?.seq;
        let age = |seq: u32| newest.wrapping_sub(seq);
        let place = self.probes.partition_point(|p| age(p.seq) > age(seq.0));
        self.probes
            .get(place)
            .is_some_and(|p| p.seq == seq.0)
            .then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::UnansweredProbes;
    use hopgap_proto::record::{Stamp, StampSource};
    use hopgap_proto::stamp::Seq;
    use hopgap_proto::time::Mono;

    fn sent(at: i64) -> Stamp {
        Stamp {
            at: Mono::from_nanos(at),
            source: StampSource::Kernel,
        }
    }

    #[test]
    fn each_reply_is_owed_once() {
        let mut owed = UnansweredProbes::of(1);
        for seq in [3, 4, 7, 9] {
            owed.push(Seq(seq), 100 + u64::from(seq), sent(i64::from(seq)));
        }
        assert_eq!(owed.t1(Seq(7)), Some(107));
        assert_eq!(owed.t1(Seq(5)), None);
        assert_eq!((owed.t1(Seq(2)), owed.t1(Seq(10))), (None, None));
        assert_eq!(owed.take(Seq(7)), Some(sent(7)));
        assert_eq!(owed.take(Seq(7)), None);
        assert_eq!(owed.take(Seq(9)), Some(sent(9)));
        assert_eq!(owed.take(Seq(3)), Some(sent(3)));
    }

    #[test]
    fn numbers_wrap() {
        let mut owed = UnansweredProbes::of(8);
        for n in 0..20_u32 {
            owed.push(Seq((u32::MAX - 9).wrapping_add(n)), u64::from(n), sent(0));
        }
        for n in 0..20_u32 {
            let seq = Seq((u32::MAX - 9).wrapping_add(n));
            assert_eq!(owed.t1(seq), Some(u64::from(n)));
        }
        // Half a round later nothing of this one is owed.
        owed.push(Seq(1 << 31), 5, sent(0));
        assert_eq!(owed.t1(Seq(u32::MAX - 9)), None);
        assert_eq!(owed.t1(Seq(1 << 31)), Some(5));
    }

    #[test]
    fn the_newest_are_kept() {
        let mut owed = UnansweredProbes::with_most(100);
        for n in 0..1_000_u32 {
            owed.push(Seq(n), u64::from(n), sent(0));
        }
        assert_eq!(owed.probes.len(), 100);
        assert_eq!((owed.t1(Seq(899)), owed.t1(Seq(900))), (None, Some(900)));
    }
}
