//! ICMP echo of targets that run no agent: CE routers, MSEEs, VPN gateways.
//!
//! By surge-ping, over ping sockets where the kernel allows them to this user
//! and raw sockets otherwise. Its times are taken by the program: user stamps.

use crate::recorder::Batch;
use hopgap_net::clock::Clock;
use hopgap_proto::plan::EchoPlan;
use hopgap_proto::record::{Echo, Stamp, StampSource};
use hopgap_proto::time::Span;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tracing::warn;

/// Why a target cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot open an ICMP socket for the echo target `{target}`: {cause}; allow it with `sudo sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"` or `sudo setcap cap_net_raw+p` on hopgap-agent"
)]
pub struct EchoError {
    target: String,
    cause: String,
}

impl EchoError {
    fn new(target: String, source: &std::io::Error) -> Self {
        // surge-ping gives advice of its own in several lines, and the cause in the last.
        let said = source.to_string();
        let last = said.lines().last().unwrap_or_default();
        let cause = last.strip_prefix("Original error: ").unwrap_or(last);
        Self {
            target,
            cause: cause.to_owned(),
        }
    }
}

/// Sends echo requests to one target until it is dropped.
///
/// # Errors
/// When no ICMP socket can be had.
pub async fn watch(
    plan: EchoPlan,
    identifier: u16,
    records: SyncSender<Batch>,
) -> Result<(), EchoError> {
    let kind = match plan.target {
        IpAddr::V4(_) => ICMP::V4,
        IpAddr::V6(_) => ICMP::V6,
    };
    let client = Client::new(&Config::builder().kind(kind).build())
        .map_err(|source| EchoError::new(plan.name.to_string(), &source))?;
    let mut pinger = client.pinger(plan.target, PingIdentifier(identifier)).await;
    pinger.timeout(std_duration(plan.timeout));
    let mut ticks = tokio::time::interval(std_duration(plan.interval));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut refused = false;
    for seq in (0..=u16::MAX).cycle() {
        ticks.tick().await;
        let sent = Stamp {
            at: Clock::now(),
            source: StampSource::User,
        };
        let round_trip = match pinger.ping(PingSequence(seq), &[0; 24]).await {
            Ok((_, took)) => Some(Span::from(took)),
            Err(SurgeError::Timeout { .. }) => None,
            Err(error) => {
                // An unreachable target is silence to its record; the log says why once.
                if !refused {
                    warn!("echo to {} ({}): {error}", plan.name, plan.target);
                }
                refused = true;
                None
            }
        };
        let batch = Batch {
            echoes: vec![(
                plan.name.clone(),
                Echo {
                    seq,
                    sent,
                    round_trip,
                },
            )],
            ..Batch::default()
        };
        if records.try_send(batch).is_err() {
            warn!(
                "echo to {}: a record was dropped, the recorder is behind",
                plan.name
            );
        }
    }
    Ok(())
}

fn std_duration(span: Span) -> Duration {
    span.to_std().unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::EchoError;
    use std::io::{Error, ErrorKind};

    #[test]
    fn the_cause_is_told_in_one_line() {
        let advice = "Permission denied creating ICMP socket. You may need to:\n1. this\n\
                      Original error: Permission denied (os error 13)";
        let said = |text: &str| {
            let source = Error::new(ErrorKind::PermissionDenied, text.to_owned());
            EchoError::new("msee".to_owned(), &source).to_string()
        };
        let start = "cannot open an ICMP socket for the echo target `msee`: ";
        let rest = said(advice);
        let rest = rest.strip_prefix(start).unwrap();
        assert!(
            rest.starts_with("Permission denied (os error 13); allow it with"),
            "{rest}"
        );
        assert!(!rest.contains('\n'));
        assert!(said("no such protocol").contains("`msee`: no such protocol; allow"));
    }
}
