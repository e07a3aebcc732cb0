//! Ending in order on SIGINT, SIGTERM and SIGHUP.

use hopgap_process::hang_up;
use tokio::signal::unix::{SignalKind, signal};

/// Done at the first SIGTERM or SIGINT, or SIGHUP, which comes when the terminal or the ssh
/// session dies. Where SIGHUP was ignored at the start, as `nohup` makes it, it stays so.
///
/// # Errors
/// When a handler cannot be had.
pub(crate) fn asked_to_end() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = match hang_up::is_ignored() {
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
