//! What the program may do: no more than it needs.
//!
//! The capabilities that the agent can use are `CAP_NET_RAW`, for the raw sockets of
//! traceroutes (and of echoes where the system gives no ping sockets),
//! `CAP_NET_BIND_SERVICE`, for STAMP's port 862, and `CAP_NET_ADMIN`, for receive buffers
//! beyond `net.core.rmem_max`; the service's unit gives the first two. `measure`, `reflect`
//! and `trace` open all their sockets at the start and give up everything then. `run`
//! opens sockets whenever the plan changes, so it keeps of these three what it was given,
//! and gives up the rest: started as root it reads no file that is another user's.
//!
//! Capabilities are those of a thread; each function here is called while there is one.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What sockets that are yet to be opened need.
const FOR_SOCKETS: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_ADMIN);

/// What is off without `CAP_NET_RAW`, and how to get it.
pub const WITHOUT_RAW_SOCKETS: &str = "without CAP_NET_RAW traceroutes go through the probes' own sockets, and a router that quotes little of a probe stays unnamed: the service has it by its unit, else run `sudo setcap cap_net_raw,cap_net_bind_service+ep $(command -v hopgap-agent)`";

/// Why a right could not be given up.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot give up the rights that are not needed ({what}): {source}; let the sandbox that this runs in allow it"
)]
pub struct PrivilegeError {
    what: &'static str,
    source: std::io::Error,
}

/// What the program was allowed when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Whether it could open raw sockets.
    pub raw_sockets: bool,
    /// Whether it could read and write files of every user.
    pub all_files: bool,
}

/// Gives up all rights: every socket is open. Returns what there was.
///
/// # Errors
/// Where the kernel refuses, as a sandbox may make it.
pub fn give_up_all() -> Result<Rights, PrivilegeError> {
    keep(CapabilitySet::empty())
}

/// Gives up all rights but those that sockets need which are yet to be opened. Returns
/// what there was.
///
/// # Errors
/// As [`give_up_all`].
pub fn keep_for_sockets() -> Result<Rights, PrivilegeError> {
    keep(FOR_SOCKETS)
}

/// Keeps of `wanted` what there is.
fn keep(wanted: CapabilitySet) -> Result<Rights, PrivilegeError> {
    let failed = |what| {
        move |error: Errno| PrivilegeError {
            what,
            source: error.into(),
        }
    };
    // Whatever this would execute gets nothing either.
    set_no_new_privs(true).map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    let now = capabilities(None).map_err(failed("capget"))?;
    let held = now.permitted.intersection(wanted);
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(wanted).iter() {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(failed("PR_CAPBSET_DROP")(error)),
            }
        }
    }
    match clear_ambient_capability_set() {
        // Before Linux 4.3 there is none.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(failed("PR_CAP_AMBIENT")(error)),
    }
    // The service's unit lets nobody call capset, and gives no more than is wanted.
    if now.permitted != held || now.effective != held {
        let sets = CapabilitySets {
            effective: held,
            permitted: held,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).map_err(failed("capset"))?;
    }
    Ok(Rights {
        raw_sockets: now.permitted.contains(CapabilitySet::NET_RAW),
        all_files: now.permitted.contains(CapabilitySet::DAC_OVERRIDE),
    })
}
