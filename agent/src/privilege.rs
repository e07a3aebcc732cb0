//! Limits the program's rights to what it needs.
//!
//! The agent can use three capabilities: `CAP_NET_RAW` for the raw sockets of traceroutes (and of
//! echoes where the system gives no ping sockets), `CAP_NET_BIND_SERVICE` for STAMP's port 862,
//! and `CAP_NET_ADMIN` for receive buffers beyond `net.core.rmem_max`. The service's unit gives
//! the first two. `measure`, `reflect` and `trace` open all their sockets at the start and then
//! give up everything. `run` opens sockets whenever the plan changes, so it keeps those of the
//! three that it was given and gives up the rest: even if started as root, it cannot read other
//! users' files.
//!
//! Root's user id is a right, too: it opens files that root owns. `measure`, `reflect` and
//! `trace`, which need no more files, become the user who called `sudo`, or nobody. `run` keeps
//! its user, who owns its spool and its key.
//!
//! A file's capabilities may be permitted without being effective (`setcap …+p`): the program
//! then raises what it needs itself. With `+ep` the kernel would refuse to start the program at
//! all in a container whose bounding set lacks one of them.
//!
//! Capabilities belong to a thread, so call these functions while there is only one.

use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// What is needed to open more sockets.
const FOR_SOCKETS: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_ADMIN);

/// The user and the group that own nothing.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// What does not work without `CAP_NET_RAW`, and how to get it.
pub const WITHOUT_RAW_SOCKETS: &str = "without CAP_NET_RAW traceroutes go through the probes' own sockets, and a router that quotes little of a probe stays unnamed: the service has it by its unit, else run `sudo setcap cap_net_raw,cap_net_bind_service+p $(command -v hopgap-agent)`, which gives them to everybody who may run that file";

/// Why a right could not be given up.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot give up the rights that are not needed ({what}): {source}; let the sandbox that this runs in allow it"
)]
pub struct PrivilegeError {
    what: &'static str,
    source: std::io::Error,
}

/// What the program was allowed before it gave up rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Whether it could open raw sockets.
    pub raw_sockets: bool,
    /// Whether it could read and write files of every user.
    pub all_files: bool,
}

/// Makes the permitted rights that sockets need effective. Call it before opening any socket. If
/// a sandbox forbids it, the rights stay as they are, and the socket that lacks one reports it.
pub fn raise_for_sockets() {
    let Ok(now) = capabilities(None) else { return };
    let effective = now.effective | now.permitted.intersection(FOR_SOCKETS);
    if effective != now.effective {
        let _ = set_capabilities(None, CapabilitySets { effective, ..now });
    }
}

/// Gives up all rights. Call it once all sockets are open and all files read. Returns what the
/// rights were.
///
/// # Errors
/// When the kernel refuses, as it may in a sandbox.
pub fn give_up_all() -> Result<Rights, PrivilegeError> {
    keep(CapabilitySet::empty(), leave_root)
}

/// Becomes another user if this is root and may change its user.
fn leave_root(had: CapabilitySets) -> Result<(), PrivilegeError> {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if !geteuid().is_root() || !had.effective.contains(needed) {
        return Ok(());
    }
    let (user, group) = caller(|name| std::env::var(name).ok()).unwrap_or(NOBODY);
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    // Set the user last: leaving root removes the right to set the others.
    let become_it = || {
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)
    };
    match become_it() {
        Ok(()) => Ok(()),
        // This user namespace has no other user; its root is a plain user outside.
        Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(error) => Err(failed("setresuid")(error)),
    }
}

/// Returns user and group of the caller of `sudo`; `None` for root.
fn caller(variable: impl Fn(&str) -> Option<String>) -> Option<(u32, u32)> {
    let number = |name| variable(name)?.parse::<u32>().ok();
    let (user, group) = (number("SUDO_UID")?, number("SUDO_GID")?);
    // To the kernel, the largest number means "unchanged".
    (user != 0 && user != u32::MAX && group != u32::MAX).then_some((user, group))
}

/// Gives up all rights except those needed to open more sockets. Returns what the rights were.
///
/// # Errors
/// As [`give_up_all`].
pub fn keep_for_sockets() -> Result<Rights, PrivilegeError> {
    keep(FOR_SOCKETS, |_| Ok(()))
}

impl Rights {
    fn of(had: CapabilitySets) -> Self {
        Self {
            raw_sockets: had.effective.contains(CapabilitySet::NET_RAW),
            all_files: had.permitted.contains(CapabilitySet::DAC_OVERRIDE),
        }
    }
}

fn failed(what: &'static str) -> impl Fn(Errno) -> PrivilegeError {
    move |error| PrivilegeError {
        what,
        source: error.into(),
    }
}

/// Keeps the permitted part of `wanted` and gives up the rest. Calls `leave` before that.
fn keep(
    wanted: CapabilitySet,
    leave: impl FnOnce(CapabilitySets) -> Result<(), PrivilegeError>,
) -> Result<Rights, PrivilegeError> {
    // Programs that this one might execute get no rights either.
    set_no_new_privs(true).map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    let now = capabilities(None).map_err(failed("capget"))?;
    let held = now.permitted.intersection(wanted);
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(wanted).iter() {
            match remove_capability_from_bounding_set(capability) {
                // This kernel does not know the capability.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(failed("PR_CAPBSET_DROP")(error)),
            }
        }
    }
    leave(now)?;
    match clear_ambient_capability_set() {
        // Linux before 4.3 has no ambient set.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(failed("PR_CAP_AMBIENT")(error)),
    }
    // The service's unit forbids capset, but gives no more than is wanted.
    if now.permitted != held || now.effective != held {
        let sets = CapabilitySets {
            effective: held,
            permitted: held,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).map_err(failed("capset"))?;
    }
    Ok(Rights::of(now))
}

#[cfg(test)]
mod tests {
    use super::caller;

    #[test]
    fn whoever_called_sudo_is_known_and_root_is_nobody() {
        let of = |user: &'static str, group: &'static str| {
            caller(move |name| match name {
                "SUDO_UID" => Some(user.to_owned()),
                "SUDO_GID" => Some(group.to_owned()),
                _ => None,
            })
        };
        assert_eq!(of("1000", "100"), Some((1000, 100)));
        for (user, group) in [("0", "0"), ("", "0"), ("-1", "5"), ("4294967295", "5")] {
            assert_eq!(of(user, group), None, "{user} {group}");
        }
        assert_eq!(caller(|_| None), None);
    }
}
