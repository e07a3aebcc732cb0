//! What the agent and the collector need to know of their own process, and of how it was started.

pub mod descriptors;
pub mod hang_up;
