//! Finds when the reflecting host stood still.
//!
//! Its own records show it: a packet that waited long for its answer, or a thread that did not
//! look at its clock (`Stalled`). Its kernel may have gone on and received packets until the
//! queue was full, or the whole host may have stood still and received none.

use hopgap_proto::time::{Span, Wall};

/// A reflector whose answer is at least this late stood still. A busy host is late by tens of
/// milliseconds.
pub(crate) const STALL: Span = Span::from_millis(500);

/// An arrival this close to an edge of a stall does not count as within it: on a host that is not
/// frozen, a program wakes at most this late. An arrival further within shows that the kernel
/// went on and only the program stood still.
const EDGE: Span = Span::from_millis(50);

/// A stretch of the reflector's wall clock in which it stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// Its last sign of life before.
    pub(crate) from: Wall,
    /// When it went on.
    pub(crate) to: Wall,
    /// Whether the host was suspended for part of it, by its own clocks.
    pub(crate) slept: bool,
    /// The part in which nothing is known to have reached or left the host: all of it, with its
    /// kernel, may have stood still. `None` if its kernel went on.
    pub(crate) deaf: Option<(Wall, Wall)>,
}

/// When the reflecting host stood still, in the order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls(Vec<Stall>);

impl Stalls {
    /// Adds a stall that a record shows, if it lasted at least [`STALL`].
    pub(super) fn add(&mut self, from: Wall, to: Wall) {
        if to - from >= STALL {
            self.push(from, to, false);
        }
    }

    /// Adds a stretch in which the host was suspended, by its own clocks.
    pub(super) fn add_sleep(&mut self, from: Wall, to: Wall) {
        self.push(from, to, true);
    }

    fn push(&mut self, from: Wall, to: Wall, slept: bool) {
        self.0.push(Stall {
            from,
            to,
            slept,
            deaf: Some((from, to)),
        });
    }

    /// Merges what overlaps into one stall and finds the deaf part of each. `arrivals` at that
    /// host and what `left` it, of any session and flow, are in the order of time.
    pub(super) fn settle(&mut self, arrivals: &[Wall], left: &[Wall]) {
        self.0.sort_unstable_by_key(|s| (s.from, s.to));
        let mut merged: Vec<Stall> = Vec::new();
        for stall in self.0.drain(..) {
            match merged.last_mut() {
                Some(last) if stall.from <= last.to => {
                    last.to = last.to.max(stall.to);
                    last.slept |= stall.slept;
                }
                _ => merged.push(stall),
            }
        }
        for stall in &mut merged {
            let (from, to) = silence(stall.from, stall.to, left);
            let next = arrivals.partition_point(|at| *at <= from + EDGE);
            let heard = arrivals.get(next).is_some_and(|at| *at < to - EDGE);
            // Another thread went on: the host was not frozen.
            let awake = (to - from) * 2 < STALL;
            stall.deaf = (!heard && !awake).then_some((from, to));
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

/// Returns the longest part of a stall in which nothing left the host. A thread that waits for
/// packets looks at its clock only ten times a second; other threads date a stall better.
fn silence(from: Wall, to: Wall, left: &[Wall]) -> (Wall, Wall) {
    let first = left.partition_point(|at| *at <= from);
    let within = left.get(first..).unwrap_or_default().iter();
    let within = within.take_while(|at| **at < to).copied();
    let (mut longest, mut since) = ((from, from), from);
    for at in within.chain([to]) {
        if at - since > longest.1 - longest.0 {
            longest = (since, at);
        }
        since = at;
    }
    longest
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
        stalls.settle(&[at(2_000), at(3_000), at(4_000)], &[]);
        let [stall] = stalls.0[..] else {
            panic!("{stalls:?}")
        };
        let all = Stall {
            from: at(2_000),
            to: at(7_001),
            slept: false,
            deaf: None,
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
        let beside = [at(1_990), at(2_010), at(6_990), at(7_010)];
        stalls.settle(&beside, &[]);
        assert_eq!(stalls.0[0].deaf, Some((at(2_000), at(7_000))));
        // Another thread sent until it stood still, and at once when it went on.
        stalls.settle(&beside, &[at(2_040), at(2_080), at(6_900)]);
        assert_eq!(stalls.0[0].deaf, Some((at(2_080), at(6_900))));
        // The program had not looked for 60 ms: the kernel that took this in was awake.
        stalls.settle(&[at(2_140)], &[at(2_080)]);
        assert_eq!(stalls.0[0].deaf, None);
    }

    #[test]
    fn a_host_that_sent_all_the_time_was_not_frozen() {
        let mut stalls = Stalls::default();
        stalls.add(at(2_000), at(3_000));
        let sent: Vec<Wall> = (0..100).map(|i| at(2_000 + i * 10)).collect();
        stalls.settle(&[], &sent);
        assert_eq!(stalls.0[0].deaf, None);
    }
}
