//! Pure analysis of hopgap records: records in, findings out.
//!
//! The one definition of loss, outage and path in hopgap: the collector's
//! reports and the agent's stand-alone `measure` both use it. [`analyse`] is a
//! pure function of its [`Input`]: the same records in any order, delivered
//! once or more, give the same [`Findings`](findings::Findings).
#![forbid(unsafe_code)]

pub mod findings;
pub mod input;
pub mod schema;
pub mod text;
