//! The article's topology in network namespaces, its faults, and the truth.

mod bird;
pub mod control;
pub mod deps;
mod error;
pub mod events;
pub mod fault;
pub mod lab;
mod namespace;
pub mod routing;
pub mod sandbox;
pub mod setup;
pub mod topology;
pub mod trace;
pub mod truth;
pub mod tunnel;
pub mod wire;

pub use error::LabError;
pub use fault::Fault;
pub use lab::{Lab, Options};
pub use sandbox::Sandbox;
pub use topology::Node;
pub use truth::Truth;
pub use tunnel::Tunnel;
