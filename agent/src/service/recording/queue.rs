//! Encoded blocks on their way to the disk.

use crate::spool::Lost;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A block as it is spooled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// With it, everything is told that [`Queue::take_lost`] gave.
    pub(super) tells_spool: bool,
}

/// No room: the disk has taken nothing for long.
#[derive(Debug, thiserror::Error)]
#[error(
    "the disk hangs: {waiting} bytes of blocks wait for it, and there is room for {most}; see to the disk of `state_dir`"
)]
pub(super) struct Full {
    waiting: u64,
    most: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A block.
    Block(Encoded),
    /// Nothing, for as long as was waited.
    Nothing,
    /// Nothing any more.
    End,
}

/// Blocks from the recorder to the spooler, and what the spooler lost, back.
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
    lost: Vec<Lost>,
    refused: u32,
}

impl Queue {
    /// With room for so many bytes of blocks, and one block more.
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
        self.push_beyond(block);
        Ok(())
    }

    /// Adds a block in any case.
    pub(super) fn push_beyond(&self, block: Encoded) {
        let mut state = self.state();
        state.bytes += length(&block);
        state.blocks.push_back(block);
        self.filled.notify_one();
    }

    /// Whether a block finds room.
    pub(super) fn has_room(&self) -> bool {
        self.state().bytes < self.most
    }

    /// No block comes any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    /// The oldest block, after waiting for one up to `most`.
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

    /// The spool lost this.
    pub(super) fn tell(&self, lost: Vec<Lost>) {
        self.state().lost.extend(lost);
    }

    /// What the spool lost since this was last asked.
    pub(super) fn take_lost(&self) -> Vec<Lost> {
        std::mem::take(&mut self.state().lost)
    }

    /// The spool did not take a block.
    pub(super) fn refuse(&self) {
        let mut state = self.state();
        state.refused = state.refused.saturating_add(1);
    }

    /// How many blocks the spool did not take since this was last asked.
    pub(super) fn take_refused(&self) -> u32 {
        std::mem::take(&mut self.state().refused)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(block: &Encoded) -> u64 {
    u64::try_from(block.bytes.len()).unwrap_or(u64::MAX)
}
