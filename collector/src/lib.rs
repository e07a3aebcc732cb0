//! The hopgap collector: takes in what the agents measured, keeps it, analyses
//! and reports it.
//!
//! The records' way: `serve` takes frames in, the `store` keeps them in SQLite
//! and seals them into Parquet, `query` reads a stretch of time back for
//! `hopgap_analysis`, and the report shows what that found.
#![forbid(unsafe_code)]

pub mod cli;
mod client;
mod clock;
pub mod identity;
pub mod plan;
pub mod query;
pub mod report;
pub mod serve;
mod signals;
pub mod store;
