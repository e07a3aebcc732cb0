//! When the reflecting host stood still.
//!
//! Its own records tell: a packet that waited for its answer for long (turnaround), and a
//! thread that did not look at its clock (`Stalled`). Its kernel may have gone on
//! meanwhile and taken packets in until the queue was full, or the host as a whole stood
//! still and took none.

use hopgap_proto::time::{Span, Wall};

/// A reflector that answers this late stood still. A busy host is late by tens of
/// milliseconds.
pub(crate) const STALL: Span = Span::from_millis(500);

/// What arrived this close to the edges of a stall arrived beside it.
const EDGE: Span = Span::from_millis(100);

/// A stretch on the reflector's wall clock in which it stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// Its last sign of life before.
    pub(crate) from: Wall,
    /// When it went on.
    pub(crate) to: Wall,
    /// No packet is known to have reached it meanwhile: the whole host may have stood
    /// still, its kernel with it.
    pub(crate) deaf: bool,
}

/// When the reflecting host stood still, in the order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls(Vec<Stall>);

impl Stalls {
    /// It stood still from one instant to another, by one of its records.
    pub(super) fn add(&mut self, from: Wall, to: Wall) {
        if to - from >= STALL {
            self.0.push(Stall {
                from,
                to,
                deaf: true,
            });
        }
    }

    /// Puts together what tells of one stall; `arrivals` are in the order of time.
    pub(super) fn settle(&mut self, arrivals: &[Wall]) {
        self.0.sort_unstable_by_key(|s| (s.from, s.to));
        let mut merged: Vec<Stall> = Vec::new();
        for stall in self.0.drain(..) {
            match merged.last_mut() {
                Some(last) if stall.from <= last.to => last.to = last.to.max(stall.to),
                _ => merged.push(stall),
            }
        }
        for stall in &mut merged {
            let next = arrivals.partition_point(|at| *at <= stall.from + EDGE);
            let heard = arrivals.get(next).is_some_and(|at| *at < stall.to - EDGE);
            stall.deaf = !heard;
        }
        self.0 = merged;
    }

    /// Whether there was none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stall that an instant lies in.
    pub(crate) fn at(&self, at: Wall) -> Option<&Stall> {
        let after = self.0.partition_point(|s| s.from <= at);
        let last = self.0.get(after.checked_sub(1)?)?;
        (at <= last.to).then_some(last)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stall> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::{Stall, Stalls};
    use hopgap_proto::time::{Span, Wall};

    fn at(ms: i64) -> Wall {
        Wall::from_nanos(1_790_000_000_000_000_000) + Span::from_millis(ms)
    }

    #[test]
    fn records_of_one_stall_are_one() {
        let mut stalls = Stalls::default();
        // Packets that came at 2 s, 3 s and 4 s were answered at 7 s.
        stalls.add(at(3_000), at(7_000));
        stalls.add(at(2_000), at(7_000));
        stalls.add(at(4_000), at(7_001));
        stalls.add(at(8_000), at(8_100));
        stalls.settle(&[at(2_000), at(3_000), at(4_000)]);
        let [stall] = stalls.0[..] else {
            panic!("{stalls:?}")
        };
        let all = Stall {
            from: at(2_000),
            to: at(7_001),
            deaf: false,
        };
        assert_eq!(stall, all);
        assert_eq!(stalls.at(at(5_000)), Some(&all));
        assert_eq!(stalls.at(at(7_002)), None);
        assert_eq!(stalls.at(at(1_999)), None);
    }

    #[test]
    fn a_host_that_heard_nothing_is_deaf() {
        let mut stalls = Stalls::default();
        stalls.add(at(2_000), at(7_000));
        stalls.settle(&[at(1_990), at(2_010), at(6_990), at(7_010)]);
        assert!(stalls.0[0].deaf);
    }
}
