//! The queue of encoded blocks for the disk.

use crate::spool::Lost;
use hopgap_proto::time::Wall;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An encoded block for the spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// When the block was closed.
    pub(super) closed: Wall,
    /// Whether this block completes the report of what [`Queue::take_spool_losses`] returned.
    pub(super) tells_spool_losses: bool,
}

/// The queue has no room: the disk has taken nothing for a long time.
#[derive(Debug, thiserror::Error)]
#[error(
    "the disk hangs: {waiting} bytes of blocks wait for it, and there is room for {most}; see to the disk of `state_dir`"
)]
pub(super) struct Full {
    waiting: u64,
    most: u64,
}

/// The next item of the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A block.
    Block(Encoded),
    /// No block came within the wait.
    Nothing,
    /// No block comes any more.
    End,
}

/// Carries blocks from the recorder to the spooler, and the spooler's losses back.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    most: u64,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Encoded>,
    bytes: u64,
    closed: bool,
    spool_losses: Vec<Lost>,
    refused: Option<Lost>,
}

impl Queue {
    /// Makes a queue with room for `most` bytes of blocks, and one block more.
    pub(super) fn new(most: u64) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            most,
        }
    }

    /// Adds a block where there is room.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn push(&self, block: Encoded) -> Result<(), Full> {
        let waiting = self.state().bytes;
        if waiting >= self.most {
            let most = self.most;
            return Err(Full { waiting, most });
        }
        self.push_anyway(block);
        Ok(())
    }

    /// Adds a block also where there is no room.
    pub(super) fn push_anyway(&self, block: Encoded) {
        let mut state = self.state();
        state.bytes += length(&block);
        state.blocks.push_back(block);
        self.filled.notify_one();
    }

    /// Whether there is room for a block.
    pub(super) fn has_room(&self) -> bool {
        self.state().bytes < self.most
    }

    /// No block comes any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    /// Takes the oldest block; waits for one for at most `most`.
    pub(super) fn next(&self, most: Duration) -> Next {
        let state = self.state();
        let empty = |state: &mut State| state.blocks.is_empty() && !state.closed;
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, most, empty)
            .unwrap_or_else(PoisonError::into_inner);
        match state.blocks.pop_front() {
            Some(block) => {
                state.bytes = state.bytes.saturating_sub(length(&block));
                Next::Block(block)
            }
            None if state.closed => Next::End,
            None => Next::Nothing,
        }
    }

    /// Adds losses of the spool.
    pub(super) fn note_spool_losses(&self, lost: Vec<Lost>) {
        self.state().spool_losses.extend(lost);
    }

    /// Takes the spool's losses since the last call.
    pub(super) fn take_spool_losses(&self) -> Vec<Lost> {
        std::mem::take(&mut self.state().spool_losses)
    }

    /// Notes that the spool refused a block that was closed at this time.
    pub(super) fn refuse(&self, closed: Wall) {
        let mut state = self.state();
        let refused = state.refused.get_or_insert(Lost {
            blocks: 0,
            from: Some(closed),
            to: closed,
        });
        refused.blocks = refused.blocks.saturating_add(1);
        refused.from = refused.from.map(|from| from.min(closed));
        refused.to = refused.to.max(closed);
    }

    /// Takes the blocks that the spool refused since the last call, as one loss.
    pub(super) fn take_refused(&self) -> Option<Lost> {
        self.state().refused.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(block: &Encoded) -> u64 {
    u64::try_from(block.bytes.len()).unwrap_or(u64::MAX)
}
