//! Sealed files: the rows of one kind, session and hour as Parquet.
//!
//! | column | type | of | meaning |
//! |---|---|---|---|
//! | `session` | string | both | the session |
//! | `agent` | string | both | the agent that recorded the row |
//! | `run` | uint64 | both | the run of its process |
//! | `clock_offset_ns` | int64 | both | the agent's wall clock minus its monotonic clock: subtract it from `sent` or `received` to have `CLOCK_MONOTONIC`, which no step disturbs |
//! | `flow` | uint8 | both | index of the flow (5-tuple) in its session |
//! | `seq` | uint32 | both | Session-Sender Sequence Number |
//! | `sent` | timestamp ns UTC | probes | T1, on the agent's wall clock; for a refused probe, when the kernel refused it |
//! | `sent_source` | string | probes | who took that time: `kernel`, `hardware`, `user` |
//! | `fate` | string | probes | `answered`, `unanswered`, `refused` |
//! | `errno` | int32, null | probes | the kernel's reason for refusing |
//! | `out_ns` | int64, null | probes | T2 − T1: the way out plus how far the reflector's wall clock is ahead; a delay only where both clocks are synchronised |
//! | `residence_ns` | int64, null | probes | T3 − T2: the reflector's residence |
//! | `back_ns` | int64, null | probes | T4 − T3: the way back less how far the reflector's clock is ahead; round trip = `out_ns` + `back_ns`, whatever the clocks |
//! | `received_source` | string, null | probes | who took T4 |
//! | `reflector_seq` | uint32, null | both | the reflector's own Sequence Number; for receptions null where it sent no reply |
//! | `forward_ttl` | uint8, null | probes | TTL of the probe at the reflector (sent with 255) |
//! | `reverse_ttl` | uint8, null | probes | TTL of the reply at the sender |
//! | `received` | timestamp ns UTC | receptions | when the probe arrived, on the agent's wall clock |
//! | `received_source` | string | receptions | who took that time |
//! | `ttl` | uint8, null | receptions | TTL of the probe on arrival |
//! | `residence_ns` | int64, null | receptions | from the arrival to the departure of the reply, or to its refusal; null where no reply was made, and for records of agents that did not take it |
//! | `departed_source` | string, null | receptions | who took the departure: `kernel` by its transmit stamp, `user` by the program just before its send call |
//! | `refused_errno` | int32, null | receptions | the kernel's reason for refusing the reply |
//!
//! Files of receptions that were sealed before hopgap took departures end with
//! `reflector_seq`.
//!
//! Integers and times are DELTA_BINARY_PACKED, strings and the three legs of a probe
//! dictionaries (the legs for as long as the dictionary is small), all is zstd.

mod columns;
mod row;

pub(super) use columns::{Segment, write};
pub(super) use row::{Origin, Row};

#[cfg(test)]
mod tests;
