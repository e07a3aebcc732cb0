//! What can go wrong in the lab.

use crate::topology::Node;
use hopgap_net::NetError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the lab could not do something. Each message is one sentence: what, where,
/// and where it is known what to do.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program could not be started.
    #[error("cannot start {program}: {source}; `cargo lab setup` installs what the lab needs")]
    Start {
        /// Its name.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program failed.
    #[error("{at}: `{command}` failed: {output}")]
    Command {
        /// The node, or where else.
        at: String,
        /// The command line.
        command: String,
        /// Its status and what it printed to standard error.
        output: String,
    },
    /// A file or a system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A socket of a wire.
    #[error("wire {wire}: {source}")]
    Wire {
        /// The wire's name.
        wire: &'static str,
        /// The reason.
        source: NetError,
    },
    /// The process is not where it should be.
    #[error("the lab refuses to start: {0}")]
    NotIsolated(String),
    /// Namespaces could not be made.
    #[error(
        "cannot make the lab's namespaces ({reason}): run as root, or allow user namespaces \
         (`sudo sysctl -w user.max_user_namespaces=15000`; on Ubuntu also \
         `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`)"
    )]
    NoNamespaces {
        /// What unshare said.
        reason: String,
    },
    /// Ctrl-C, SIGTERM, `cargo lab down`, or the end of the parent.
    #[error("stopped")]
    Interrupted,
    /// Something did not come about in time.
    #[error("waited {}s in vain for {what}; the logs are in {}", after.as_secs(), logs.display())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// Where the daemons' logs are.
        logs: PathBuf,
    },
    /// A daemon of the lab came to its end too early.
    #[error("a daemon (process {pid}) ended with {status}; the *.err and *.log files in {} say why", logs.display())]
    DaemonEnded {
        /// Its process, inside.
        pid: u32,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Where its log is.
        logs: PathBuf,
    },
    /// No such daemon in the lab.
    #[error("{node} has no routing daemon")]
    NoDaemon {
        /// The node.
        node: Node,
    },
    /// A log of the lab cannot be read.
    #[error("{}, line {line}: {what}", file.display())]
    Log {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// No lab is running, or not here.
    #[error("no lab is running in {}: start one with `cargo lab up`", dir.display())]
    NotRunning {
        /// Where its control socket would be.
        dir: PathBuf,
    },
    /// A lab is running already.
    #[error("a lab is already running in {}: end it with `cargo lab down`, or give another --dir", dir.display())]
    Running {
        /// Where its control socket is.
        dir: PathBuf,
    },
    /// The running lab refused a request.
    #[error("{0}")]
    Refused(String),
}

impl LabError {
    /// For `map_err`: what was to be done when the system failed.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
