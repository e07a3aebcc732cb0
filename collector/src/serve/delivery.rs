//! Bodies of frames: judged outside of the writer's thread, within each agent's limits, and
//! then stored in one transaction.
//!
//! A block of a hundred bytes may decode to a quarter of a million rows, and a body holds
//! thousands of blocks. So that no agent holds up another:
//!
//! - Frames are decoded on separate threads, [`DECODERS`] at a time, never on the writer's.
//!   A block's claimed size is checked against the rest of its body's limit before anything
//!   is allocated ([`judge`]).
//! - A prefix of each body, as long as the limits allow, is taken and acknowledged; the
//!   agent sends the rest again. A limit never loses anything.
//! - An agent that has used up its work for a second waits before its next body is read,
//!   and holds up nobody meanwhile ([`account`]).

mod account;
mod judge;

pub use account::TakenBody;
pub(super) use account::{Accounts, too_much};
pub(super) use judge::{FrameCause, Judged, RefusedFrame};

use super::App;
use super::reply::Failure;
use super::uplink::Asker;
use super::writer::Stopped;
use crate::clock;
use crate::store::{Aside, Delivered, Store};
use axum::body::Bytes;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{Ack, ErrorCode, Refused};
use std::sync::{Arc, PoisonError};

/// Most bodies that are decoded at a time. Each takes a thread and the memory of its largest
/// block.
pub(super) const DECODERS: usize = 2;

/// How far an agent's clock may be ahead of the collector's before its blocks are refused: a
/// century. A clock may be wrong by days or years and be corrected later; its times are read
/// by its offset from the collector's. Beyond that the range of times ends.
pub(super) const AHEAD: Span = Span::from_secs(36_525 * 86_400);

/// Returns an error where the agent's wall clock, which reads `reading` now, is too far ahead
/// of the collector's: one of the two is wrong.
pub(super) fn is_ahead(asker: &Asker, reading: Option<Wall>, now: Wall) -> Option<Failure> {
    let ahead = reading.map(|r| r - now).filter(|ahead| *ahead > AHEAD)?;
    Some(Failure::new(
        ErrorCode::Busy,
        format!(
            "the clock of agent `{}` is {ahead} ahead of the collector's, so that nothing of it is taken yet",
            asker.name
        ),
        "set the wrong one right: what is recorded waits in the agent's spool",
    ))
}

/// Judges and stores a body of `asker`.
///
/// # Errors
/// When the body was damaged on its way or cannot be stored; then nothing of it was stored.
pub(super) async fn take(app: &App, asker: Asker, body: Bytes) -> Result<Ack, Failure> {
    let now = clock::now();
    let (bytes, whose) = (body.clone(), asker.clone());
    let bears_strange_name = decode(app, move || judge::bears_strange_name(&bytes, &whose));
    let asker = match bears_strange_name.await? {
        // Asks for the known agents only where it matters: the writer has other work.
        true => asker.among(app.writer.run(|store| store.known_agents()).await??),
        false => asker,
    };
    let (roles, bytes, whose) = (Arc::clone(&app.roles), body.clone(), asker.clone());
    let judging = decode(app, move || {
        let roles = roles.read().unwrap_or_else(PoisonError::into_inner);
        judge::judge(&bytes, &whose, &roles, now)
    });
    let (judged, work) = judging.await?;
    app.accounts.charge(&asker.name, &work);
    let judged = judged?;
    let name = asker.name.clone();
    let (ack, refused) = app
        .writer
        .run(move |store| store_judged(store, &asker, &body, judged, now))
        .await??;
    app.accounts.took(&name, &ack, &refused);
    Ok(ack)
}

/// Runs work on a body on its own thread, once one of the [`DECODERS`] is free.
async fn decode<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let decoder = Arc::clone(&app.decoders).acquire_owned().await;
    let decoder = decoder.map_err(|_| Stopped)?;
    let working = tokio::task::spawn_blocking(move || {
        let _decoder = decoder;
        work()
    });
    working.await.map_err(|_| Stopped)
}

/// Stores the judged blocks; returns the acknowledgement and the refused frames.
fn store_judged(
    store: &mut Store,
    asker: &Asker,
    body: &Bytes,
    judged: Judged,
    now: Wall,
) -> Result<(Ack, Vec<RefusedFrame>), Failure> {
    let Judged {
        blocks,
        offsets,
        mut refused,
        bytes,
    } = judged;
    let aside: Vec<Aside<'_>> = refused
        .iter()
        .map(|r| Aside {
            error: &r.error,
            frame: body.get(r.at.clone()).unwrap_or_default(),
        })
        .collect();
    let Delivered { appended } = store.deliver(&asker.name, &blocks, &aside, now)?;
    for index in appended.different {
        if let (Some(block), Some(offset)) = (blocks.get(index), offsets.get(index)) {
            refused.push(RefusedFrame {
                at: *offset..*offset,
                cause: FrameCause::Different,
                error: crate::store::is_different(&block.header.key),
            });
        }
    }
    let ack = Ack {
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        stored: short(appended.new),
        duplicates: short(appended.duplicate),
        refused: refused
            .iter()
            .map(|r| Refused {
                offset: u64::try_from(r.at.start).unwrap_or(u64::MAX),
                error: r.error.clone(),
            })
            .collect(),
    };
    Ok((ack, refused))
}

fn short(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
