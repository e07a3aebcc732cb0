//! Ending in order on SIGINT and SIGTERM.

use crate::session::Stop;

/// Requests the stop at the first SIGINT or SIGTERM. The second one ends the
/// process at once, as the default does: whoever presses Ctrl-C twice means it.
///
/// # Errors
/// When the handler's thread or runtime cannot be had.
pub fn stop_on_interrupt(stop: &Stop) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    let stop = stop.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let mut asked = false;
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if asked {
                        std::process::exit(130);
                    }
                    asked = true;
                    stop.request();
                }
            });
        })?;
    Ok(())
}
