//! The article's topology in network namespaces, its faults, and the truth.
//!
//! Everything runs on one machine, in namespaces that end with the process
//! ([`sandbox`]); no packet leaves them. Routers are Linux with BIRD, the tunnels
//! kernel VXLAN or strongSwan ([`tunnel`]). Where delays and faults belong there is a
//! user-space [`wire`], which logs every probe; [`truth`] reads those logs.
//!
//! ```no_run
//! use hopgap_lab::{Fault, Lab, Node, Options, Sandbox, Truth, Tunnel};
//! use std::process::Command;
//!
//! # fn main() -> Result<(), hopgap_lab::LabError> {
//! // Starts this program again inside, and returns there only.
//! let sandbox = Sandbox::enter()?;
//! let options = Options { tunnel: Tunnel::Vxlan, bfd: true, out: "out".into() };
//! let lab = Lab::up(&sandbox, options)?;
//! lab.wait_converged()?;
//! let mut probes = lab.spawn(Node::Server, Command::new("ping").arg("10.17.11.132"), "ping")?;
//! lab.fault(Fault::Admin)?;
//! sandbox.sleep(std::time::Duration::from_secs(5))?;
//! println!("{}", lab.traceroute()?);
//! lab.heal(Fault::Admin)?;
//! lab.wait_converged()?;
//! let _ = probes.kill();
//! let out = lab.finish()?;
//! println!("{}", Truth::read(&out)?);
//! # Ok(())
//! # }
//! ```

mod bird;
pub mod burner;
pub mod campaign;
pub mod chaos;
pub mod control;
pub mod deps;
pub mod drill;
mod error;
pub mod events;
pub mod fault;
pub mod lab;
mod namespace;
pub mod routing;
pub mod sandbox;
pub mod setup;
pub mod suite;
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
