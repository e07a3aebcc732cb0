//! Decides what to do with each frame of a body. Pure: takes bytes, roles and times.

use super::AHEAD;
use super::account::Work;
use crate::plan::{NoPart, Roles};
use crate::serve::reply::Failure;
use crate::serve::uplink::Asker;
use crate::store::Incoming;
use hopgap_proto::frame::{Frame, FrameError, FrameReader};
use hopgap_proto::record::{Block, BlockError};
use hopgap_proto::time::{Mono, Span, Wall};
use hopgap_proto::uplink::ErrorCode;
use std::ops::Range;

/// Most frames taken of one body. An agent's bodies hold some hundreds.
pub(super) const MOST_FRAMES: usize = 2_000;
/// Most rows taken of one body: four of the largest blocks.
pub(super) const MOST_ROWS: usize = 1 << 20;
/// Most memory for the decoded blocks of one body, summed, in bytes. They are decoded one
/// after the other: this bounds the work.
pub(super) const MOST_DECODED: usize = 256 << 20;

/// Most that a record may be stamped after the clock reading that closed its block: the
/// kernel's stamps and the program's reading race.
const AFTER_CLOSING: Span = Span::from_secs(60);

/// Why a frame is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::serve) enum FrameCause {
    /// It cannot be read, or is of a newer version.
    Unreadable,
    /// It is of another agent.
    Foreign,
    /// Its agent has no such part in the plan, now or lately.
    NoPart,
    /// Its times are impossible.
    Time,
    /// Another block has its key.
    Different,
}

/// A frame that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct RefusedFrame {
    /// Its byte range in the body.
    pub(in crate::serve) at: Range<usize>,
    /// Why, for programs.
    pub(in crate::serve) cause: FrameCause,
    /// Why, for people.
    pub(in crate::serve) error: String,
}

/// The verdict on a body.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct Judged {
    /// Blocks to store.
    pub(in crate::serve) blocks: Vec<Incoming>,
    /// Where each of them begins in the body.
    pub(in crate::serve) offsets: Vec<usize>,
    /// Frames to keep aside.
    pub(in crate::serve) refused: Vec<RefusedFrame>,
    /// Length of the prefix that was judged, in bytes.
    pub(in crate::serve) bytes: usize,
}

/// Whether a block of a body names an agent that is neither the sender, now or before, nor
/// known otherwise.
pub(super) fn bears_strange_name(body: &[u8], asker: &Asker) -> bool {
    FrameReader::new(body)
        .take(MOST_FRAMES)
        .flatten()
        .filter_map(|frame| Block::peek(frame.payload).ok())
        .any(|summary| asker.is_strange(&summary.header.key.agent))
}

/// Judges the frames of a body that came at `now`, up to the limits of one body. Returns the
/// work done also where the body is refused.
pub(super) fn judge(
    body: &[u8],
    asker: &Asker,
    roles: &Roles,
    now: Wall,
) -> (Result<Judged, Failure>, Work) {
    let mut work = Work::default();
    let frames: Vec<_> = FrameReader::new(body).take(MOST_FRAMES).collect();
    // Checked before decoding: the agent sends a damaged body again as a whole.
    let damaged = frames.iter().find_map(|frame| match frame {
        Err(error @ (FrameError::Torn { .. } | FrameError::Corrupt { .. })) => Some(error),
        _ => None,
    });
    if let Some(error) = damaged {
        work.frames = 1;
        work.bytes = body.len();
        let failure = Failure::new(
            ErrorCode::Malformed,
            error.to_string(),
            "send the frames again",
        );
        return (Err(failure), work);
    }
    let mut judged = Judged::default();
    for frame in frames {
        let at = range_of(&frame);
        let verdict = match frame {
            Ok(frame) => match claim(&frame, asker, roles, now) {
                Ok((claimed, own_name)) => {
                    let next = work.with(claimed);
                    // Always takes one frame, or a large one would never pass.
                    if judged.bytes > 0 && !next.is_within_a_body() {
                        break;
                    }
                    work = next;
                    read(&frame, own_name, asker)
                }
                Err(refused) => Err(refused),
            },
            Err(error) => Err((FrameCause::Unreadable, error.to_string())),
        };
        work.frames += 1;
        work.bytes += at.len();
        judged.bytes = at.end;
        match verdict {
            Ok(block) => {
                judged.blocks.push(block);
                judged.offsets.push(at.start);
            }
            Err((cause, error)) => judged.refused.push(RefusedFrame { at, cause, error }),
        }
    }
    (Ok(judged), work)
}

fn range_of(frame: &Result<Frame<'_>, FrameError>) -> Range<usize> {
    match frame {
        Ok(frame) => frame.offset..frame.end(),
        Err(
            FrameError::NewerVersion { offset, length, .. }
            | FrameError::UnknownKind { offset, length, .. }
            | FrameError::Corrupt { offset, length, .. },
        ) => *offset..offset + length,
        Err(FrameError::Torn { offset, .. }) => *offset..*offset,
    }
}

type Refusal = (FrameCause, String);

/// The rows and bytes that a block needs when decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) rows: usize,
    pub(super) decoded: usize,
}

/// Judges a frame by its block's header alone. Returns the block's claim, and whether it
/// names the agent by its present name.
fn claim(
    frame: &Frame<'_>,
    asker: &Asker,
    roles: &Roles,
    now: Wall,
) -> Result<(Claim, bool), Refusal> {
    let unreadable = |error: BlockError| (FrameCause::Unreadable, error.to_string());
    let summary = Block::peek(frame.payload).map_err(unreadable)?;
    let whose = &summary.header.key.agent;
    let own_name = *whose == asker.name;
    // Recorded while `name` was mistyped: no other agent has that name.
    let mistyped = asker.is_nobodys(whose);
    if !own_name && !mistyped && !asker.former.contains(whose) {
        // Never stored under the other agent's name; but later blocks must pass.
        return Err((
            FrameCause::Foreign,
            format!(
                "the block at byte {} is of agent `{whose}`, but `{}` delivers it; give each agent a `state_dir` of its own, and rename one with `hopgap-collector agent rename`",
                frame.offset, asker.name
            ),
        ));
    }
    let names: Vec<_> = std::iter::once(&asker.name).chain(&asker.former).collect();
    roles
        .may_deliver(&names, &summary, now)
        .map_err(|why: NoPart| {
            let remedy = "correct the plan, or see to that agent's host";
            (FrameCause::NoPart, format!("{why}; {remedy}"))
        })?;
    let closed = summary.header.closed.wall;
    if closed > now + AHEAD {
        return Err((
            FrameCause::Time,
            format!(
                "the block at byte {} was closed {} after this delivery, by its agent's clock; set that clock right",
                frame.offset,
                closed - now
            ),
        ));
    }
    let claim = Claim {
        rows: summary.rows,
        decoded: summary.decoded_bytes(frame.payload.len()),
    };
    Ok((claim, own_name))
}

/// Decodes a block, and checks its records' times against the clock reading that closed it.
fn read(frame: &Frame<'_>, own_name: bool, asker: &Asker) -> Result<Incoming, Refusal> {
    let mut block = Incoming::read(frame.payload)
        .map_err(|error| (FrameCause::Unreadable, error.to_string()))?;
    let closed = block.header.closed;
    let earliest = closed.wall_of(Mono::ZERO);
    let latest = closed.wall + AFTER_CLOSING;
    if block.tally.first < earliest || block.tally.last > latest {
        return Err((
            FrameCause::Time,
            format!(
                "the block at byte {} holds records of times that its agent's clocks had not reached, or before its host was started",
                frame.offset
            ),
        ));
    }
    if !own_name {
        if asker.is_nobodys(&block.header.key.agent) {
            tracing::info!(
                "a block that agent `{}` recorded as `{}` is stored as its own: nobody has that name",
                asker.name,
                block.header.key.agent
            );
        }
        block.header.key.agent = asker.name.clone();
    }
    Ok(block)
}
