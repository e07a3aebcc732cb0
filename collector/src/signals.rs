//! Ending in order on SIGINT, SIGTERM and SIGHUP.

use tokio::signal::unix::{SignalKind, signal};

/// Done at the first SIGTERM or SIGINT, or SIGHUP, which comes when the terminal or the ssh
/// session dies. Where SIGHUP was ignored at the start, as `nohup` makes it, it stays so.
///
/// # Errors
/// When a handler cannot be had.
pub(crate) fn asked_to_end() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = match hang_up_is_ignored() {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    Ok(async move {
        let hung_up = async {
            match &mut hang_up {
                Some(hang_up) => drop(hang_up.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = hung_up => {}
        }
        tracing::info!("stopping");
    })
}

/// Whether the process was started with SIGHUP ignored, by proc(5). Where the kernel does
/// not say, it was not: to end in order is right then.
fn hang_up_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status))
}

/// What a `/proc/PID/status` says of SIGHUP: the lowest bit of the mask of ignored signals.
fn ignores_hang_up(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::ignores_hang_up;

    #[test]
    fn whether_sighup_is_ignored_stands_in_the_status() {
        let status = |mask: &str| format!("Name:\ta\nSigBlk:\t0001\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        // As under nohup, and with SIGPIPE, which Rust ignores.
        assert!(ignores_hang_up(&status("0000000000001001")));
        assert!(!ignores_hang_up(&status("0000000000001000")));
    }
}
