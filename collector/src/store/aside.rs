//! Deliveries with frames that cannot be stored: counts these frames and keeps a bounded
//! number of them aside.

use super::{Appended, Incoming, Store, StoreError, append, status};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{AgentName, BlockKey};
use hopgap_proto::time::Wall;
use rusqlite::{Transaction, params};

/// Most frames kept aside for each agent; further ones are only counted.
const MOST_FRAMES: i64 = 1_000;
/// Most bytes of the frames kept aside for each agent.
const MOST_BYTES: i64 = 16 << 20;

/// A whole frame that is not stored.
#[derive(Clone, Copy, Debug)]
pub struct Aside<'a> {
    /// Why, as a sentence.
    pub error: &'a str,
    /// Its bytes.
    pub frame: &'a [u8],
}

/// The outcome of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The outcome for its blocks.
    pub appended: Appended,
}

/// Returns the error text for a block whose key another block has.
pub(crate) fn is_different(key: &BlockKey) -> String {
    format!(
        "block {} of run {} of agent `{}` is stored already, with other records; two hosts may have the same `name`, or one is a copy of the other's disk",
        key.number, key.run, key.agent
    )
}

impl Store {
    /// Stores a delivery of `agent` in one transaction: appends its blocks as
    /// [`Store::append`] does, and counts and keeps aside its unusable frames.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing was written.
    pub fn deliver(
        &mut self,
        agent: &AgentName,
        blocks: &[Incoming],
        aside: &[Aside<'_>],
        now: Wall,
    ) -> Result<Delivered, StoreError> {
        let tx = self.db.transaction()?;
        let mut ids = std::mem::take(&mut self.ids);
        let appended = append(&tx, &mut ids, blocks, now)?;
        let different: Vec<_> = appended
            .different
            .iter()
            .filter_map(|index| blocks.get(*index))
            .map(|block| (is_different(&block.header.key), frame_of(&block.payload)))
            .collect();
        let different = different
            .iter()
            .map(|(error, frame)| Aside { error, frame });
        let all: Vec<_> = aside.iter().copied().chain(different).collect();
        if !all.is_empty() {
            keep(&tx, agent, &all, now)?;
        }
        tx.commit()?;
        self.ids = ids;
        Ok(Delivered { appended })
    }
}

/// Rebuilds the frame that a payload came in.
fn frame_of(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Cannot be too large: the payload came in a frame.
    let _ = frame::append(&mut bytes, FrameKind::Block, payload);
    bytes
}

fn keep(
    tx: &Transaction<'_>,
    agent: &AgentName,
    aside: &[Aside<'_>],
    now: Wall,
) -> Result<(), StoreError> {
    let id = status::agent_id(tx, agent, now)?;
    let count = i64::try_from(aside.len()).unwrap_or(i64::MAX);
    tx.execute(
        "UPDATE agent SET refused = refused + ?2, last_seen = ?3 WHERE id = ?1",
        params![id, count, now.as_nanos()],
    )?;
    let (mut frames, mut bytes): (i64, i64) = tx.query_row(
        "SELECT count(*), coalesce(sum(length(data)), 0) FROM refused WHERE agent = ?1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut insert =
        tx.prepare_cached("INSERT INTO refused (agent, at, error, data) VALUES (?1, ?2, ?3, ?4)")?;
    for Aside { error, frame } in aside {
        frames += 1;
        bytes = bytes.saturating_add(i64::try_from(frame.len()).unwrap_or(i64::MAX));
        if frames > MOST_FRAMES || bytes > MOST_BYTES {
            break;
        }
        insert.execute(params![id, now.as_nanos(), error, frame])?;
    }
    Ok(())
}
