//! What the agent and the collector ask of their own process, and of how it was started.

pub mod descriptors;
pub mod hang_up;
