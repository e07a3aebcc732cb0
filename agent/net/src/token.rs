//! Which packet a transmit stamp belongs to.

/// Names one packet of one socket. Its transmit stamps carry it.
///
/// Counts up by one for every packet given to the socket, refused ones included,
/// and wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SendToken(pub u32);

/// Maps between tokens and the kernel's timestamp ids.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    next: u32,
    ids: Ids,
}

#[derive(Clone, Debug)]
enum Ids {
    /// Each packet carries its id, in a control message (Linux 6.13).
    Chosen,
    /// The kernel counts. It may or may not have counted a packet that it refuses, depending
    /// on where it failed and on the kernel's version; so the count is started again after
    /// every failure. A later stamp, of a packet that waited in a queue, can be taken for
    /// another packet's only where both counts are that short.
    Counted {
        /// The token of the packet that the kernel counted as 0.
        start: u32,
        /// How many it has sent since.
        sent: u32,
        /// `start` before the count was started again.
        before: u32,
    },
}

impl Tokens {
    pub(crate) fn chosen() -> Self {
        Self {
            next: 0,
            ids: Ids::Chosen,
        }
    }

    pub(crate) fn counted() -> Self {
        Self {
            next: 0,
            ids: Ids::Counted {
                start: 0,
                sent: 0,
                before: 0,
            },
        }
    }

    /// A token for the next packet.
    pub(crate) fn take(&mut self) -> SendToken {
        let token = SendToken(self.next);
        self.next = self.next.wrapping_add(1);
        token
    }

    /// The token that the next packet gets.
    pub(crate) fn peek(&self) -> SendToken {
        SendToken(self.next)
    }

    /// Returns the id to send with the packet, where this program chooses it.
    pub(crate) fn id(&self, token: SendToken) -> Option<u32> {
        matches!(self.ids, Ids::Chosen).then_some(token.0)
    }

    /// Notes that a packet was sent.
    pub(crate) fn sent(&mut self) {
        if let Ids::Counted { sent, .. } = &mut self.ids {
            *sent = sent.wrapping_add(1);
        }
    }

    /// Notes a failed attempt. `next` is the next packet that may be sent. Returns whether
    /// the kernel must start its count again.
    pub(crate) fn failed(&mut self, next: SendToken) -> bool {
        match &mut self.ids {
            Ids::Chosen => false,
            Ids::Counted {
                start,
                sent,
                before,
            } => {
                // Stamps may still come for packets of the count before, unless
                // it had none.
                if *sent > 0 {
                    *before = *start;
                }
                *start = next.0;
                *sent = 0;
                true
            }
        }
    }

    /// Returns the packet whose stamp has the kernel's `id`.
    pub(crate) fn of(&self, id: u32) -> SendToken {
        match self.ids {
            Ids::Chosen => SendToken(id),
            Ids::Counted { start, sent, .. } if id < sent => SendToken(start.wrapping_add(id)),
            // Not sent yet in this count: a late stamp of the count before.
            Ids::Counted { before, .. } => SendToken(before.wrapping_add(id)),
        }
    }
}

#[cfg(test)]
mod tests;
