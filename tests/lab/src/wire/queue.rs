//! What is on its way over a wire, in the order in which it is to leave.

use hopgap_proto::time::Mono;
use std::collections::VecDeque;

/// Items leave when they are due; equals leave in the order in which they came.
#[derive(Debug)]
pub(crate) struct DelayQueue<T> {
    items: VecDeque<(Mono, T)>,
}

impl<T> Default for DelayQueue<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
        }
    }
}

impl<T> DelayQueue<T> {
    /// Adds an item; cheap where it is due after most others, as on a wire with one delay.
    pub(crate) fn push(&mut self, due: Mono, item: T) {
        let after = self
            .items
            .iter()
            .rev()
            .take_while(|(other, _)| *other > due)
            .count();
        self.items.insert(self.items.len() - after, (due, item));
    }

    /// Puts an item back that was taken; it leaves before all others.
    pub(crate) fn push_front(&mut self, due: Mono, item: T) {
        self.items.push_front((due, item));
    }

    /// When the next item is due.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.items.front().map(|(due, _)| *due)
    }

    /// Removes what is due at `now`, in order.
    pub(crate) fn take_due(&mut self, now: Mono) -> Vec<(Mono, T)> {
        let count = self.items.iter().take_while(|(due, _)| *due <= now).count();
        self.items.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::DelayQueue;
    use hopgap_proto::time::Mono;

    fn at(nanos: i64) -> Mono {
        Mono::from_nanos(nanos)
    }

    fn taken(queue: &mut DelayQueue<char>, now: i64) -> String {
        queue
            .take_due(at(now))
            .into_iter()
            .map(|(_, item)| item)
            .collect()
    }

    #[test]
    fn items_leave_when_due_and_not_before() {
        let mut queue = DelayQueue::default();
        assert_eq!(queue.next_due(), None);
        queue.push(at(10), 'a');
        queue.push(at(20), 'b');
        assert_eq!(queue.next_due(), Some(at(10)));
        assert_eq!(taken(&mut queue, 9), "");
        assert_eq!(taken(&mut queue, 10), "a");
        assert_eq!(taken(&mut queue, 100), "b");
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn a_late_comer_that_is_due_earlier_leaves_earlier_and_equals_keep_their_order() {
        let mut queue = DelayQueue::default();
        for (due, item) in [(10, 'b'), (30, 'd'), (10, 'c'), (5, 'a'), (30, 'e')] {
            queue.push(at(due), item);
        }
        assert_eq!(taken(&mut queue, 30), "abcde");
    }

    #[test]
    fn what_is_put_back_leaves_first() {
        let mut queue = DelayQueue::default();
        queue.push(at(10), 'b');
        queue.push_front(at(50), 'a');
        assert_eq!(taken(&mut queue, 49), "");
        assert_eq!(taken(&mut queue, 50), "ab");
    }
}
