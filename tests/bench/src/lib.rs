//! Benchmarks of hopgap, as ratios in one run.
//!
//! Each benchmark (see `benches/`) measures us and a peer, or a bare loop that does the
//! least that could do the job, by turns in the same run, and prints both with their
//! ratio: a figure alone says more about the machine than about the program.

pub mod capture;
pub mod cost;
pub mod program;
pub mod table;
pub mod world;
