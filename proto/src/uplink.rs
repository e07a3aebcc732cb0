//! The protocol between agent and collector, over HTTP/1.1.
//!
//! The agent is always the client: agents stand behind firewalls, and one outgoing port
//! passes through proxies. Four requests, all safe to repeat:
//!
//! | request | body | success |
//! |---|---|---|
//! | `POST` [`HELLO_PATH`] | [`Hello`] | 200 [`Welcome`] |
//! | `GET` [`PLAN_PATH`]`?revision=…&wait=…` | none | 200 [`PlanResponse`], or 304 without a body |
//! | `POST` [`BLOCKS_PATH`] | frames ([`crate::frame`]), one after the other | 200 [`Ack`] |
//! | `POST` [`REPORT_PATH`] | [`AgentReport`] | 204 without a body; a collector before it answers 404 |
//!
//! and over TLS two more, for the agent's certificate:
//!
//! | request | body | success |
//! |---|---|---|
//! | `POST` [`JOIN_PATH`] | [`JoinRequest`] | 200 [`Certified`] |
//! | `POST` [`RENEW_PATH`] | [`RenewRequest`] | 200 [`Certified`] |
//!
//! Control messages are JSON ([`CONTROL_TYPE`]); blocks are the spool's own bytes
//! ([`FRAMES_TYPE`]). Every response other than success carries an [`ErrorBody`], which says
//! what was wrong and what to do.
//!
//! # Who is asking
//! Over TLS 1.3 the client's certificate says who asks: the collector's catalogue records to
//! which agent it gave it. The certificate's subject is an opaque number. An agent joins with
//! a one-time token ([`JoinToken`]), which names the authority that must have signed the
//! collector's own certificate. It renews its certificate, with a new key, over a connection
//! that the old one authenticates.
//!
//! Without TLS, which is for one host and for labs, every request carries
//! `Authorization: Bearer <secret>` ([`bearer`]), and the collector accepts it only when
//! the secret is that agent's own.
//!
//! In both cases every request but the join names the agent in the header
//! [`AGENT_HEADER`], which must agree, and a block is accepted only when its key names the
//! agent that delivers it.
//!
//! # Versions
//! The paths' `v1` is the shape of the requests. Within it, [`Hello`] offers the versions
//! that the agent can speak and [`Welcome`] names the newest that both know
//! ([`ProtocolRange::agree`]); if there is none the collector answers 400 with
//! [`ErrorCode::Protocol`]. Receivers ignore fields that they do not know, so that additions
//! need no new version. Frames and blocks carry versions of their own.
//!
//! # The plan
//! The agent asks with the revision that it has. If the collector has the same, it holds the
//! request until the plan changes or `wait` seconds have passed (at most [`MAX_WAIT`]), then
//! answers 304. The response holds the part of the plan that concerns this agent. The
//! revision is of that part, so that a change for others wakes nobody.
//!
//! # Clocks
//! Hosts' wall clocks may disagree, and markers are set on the collector's. Each hello brings
//! the collector's clock ([`Welcome::now_ns`]). The plan request after it reports, in the
//! header [`EXCHANGE_HEADER`], what the agent's own clocks showed around it, which gives the
//! collector the difference between the clocks. Without the header the difference is unknown,
//! and nothing is refused.
//!
//! # Delivery
//! A block is identified by [`BlockKey`](crate::record::BlockKey), that is agent, run and
//! number. Delivering it again changes nothing: the collector answers as if it were new. It
//! acknowledges only after a durable write (the data has been synced to the disk), and always
//! a prefix of the body ([`Ack::bytes`]): the agent sends the rest again. A frame that is
//! whole but cannot be used (its block cannot be decoded, or is of a newer version) is
//! counted, kept aside and acknowledged too, with an entry in [`Ack::refused`]: one bad block
//! must not hold up what follows. A body with a corrupt frame was damaged on its way, because
//! the agent checks its frames before it sends them. The collector answers 400 with
//! [`ErrorCode::Malformed`], and the agent sends it again.

mod clock;
mod identity;
mod message;
mod report;
mod revision;
mod version;

pub use clock::{ClockExchange, ClockExchangeError, EXCHANGE_HEADER};
pub use identity::{
    Certified, Fingerprint, JOIN_PATH, JoinRequest, JoinToken, RENEW_PATH, RenewRequest,
    TokenError, TokenId, TokenSecret,
};
pub use message::{
    Ack, ErrorBody, ErrorCode, Hello, PlanResponse, ProtocolRange, Refused, Welcome, bearer,
    secret_of,
};
pub use report::{
    AgentFault, AgentPart, AgentReport, FlowFault, REPORT_EVERY, SessionReport, SpoolReport,
};
pub use revision::{Revision, RevisionError};
pub use version::{ProgramVersion, VersionError};

use crate::frame::MAX_FRAME;
use core::time::Duration;

/// The newest version of the uplink that this build speaks.
pub const PROTOCOL: u16 = 1;

/// Where an agent introduces itself: `POST`.
pub const HELLO_PATH: &str = "/uplink/v1/hello";
/// Where an agent waits for its plan: `GET`, with [`REVISION_QUERY`] and [`WAIT_QUERY`].
pub const PLAN_PATH: &str = "/uplink/v1/plan";
/// Where an agent delivers blocks: `POST`.
pub const BLOCKS_PATH: &str = "/uplink/v1/blocks";
/// Where an agent reports its state: `POST`.
pub const REPORT_PATH: &str = "/uplink/v1/report";

/// Query parameter of [`PLAN_PATH`]: the revision that the agent has; absent for none.
pub const REVISION_QUERY: &str = "revision";
/// Query parameter of [`PLAN_PATH`]: how long to hold the request, in whole
/// seconds; absent for not at all.
pub const WAIT_QUERY: &str = "wait";

/// Header of every request but the join: the agent's name.
pub const AGENT_HEADER: &str = "hopgap-agent";
/// Header of a delivery: the agent's wall clock when it sends it, in nanoseconds since 1970.
/// It limits the times that a block may claim.
pub const CLOCK_HEADER: &str = "hopgap-clock-ns";
/// Media type of control messages.
pub const CONTROL_TYPE: &str = "application/json";
/// Media type of a body of frames.
pub const FRAMES_TYPE: &str = "application/vnd.hopgap.frames";

/// The longest that a collector holds a plan request.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// Target size of a body of frames, in bytes. A larger frame is sent alone.
pub const BATCH_BYTES: usize = 1 << 20;
/// The largest body of frames that a collector must take, in bytes.
pub const MAX_BATCH_BYTES: usize = BATCH_BYTES + MAX_FRAME;
/// Slowest transfer, in bytes per second, at which a body must still pass. A collector that
/// cuts slower ones allows each some extra seconds.
pub const SLOWEST_BODY: usize = 4_000;
/// The largest control message that either side must take, in bytes.
pub const MAX_CONTROL_BYTES: usize = 4 << 20;
/// The largest [`Hello`] that a collector must take, in bytes: it holds names and numbers.
pub const MAX_HELLO_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
