//! ICMP echo of targets that run no agent: CE routers, MSEEs, VPN gateways.
//!
//! By surge-ping, over raw sockets where the agent has the right to them, which show who
//! answers with an error, and else over ping sockets. Its times are taken by the program:
//! user stamps. Requests leave on their grid, whatever became of those before.

use crate::recorder::Batch;
use hopgap_net::clock::Clock;
use hopgap_net::echo;
use hopgap_net::raw::Family;
use hopgap_proto::plan::EchoPlan;
use hopgap_proto::record::{Echo, EchoError as Answered, Event, EventKind, Stamp, StampSource};
use hopgap_proto::time::Span;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};
use tokio::task::JoinSet;
use tracing::warn;

/// Types of an echo's reply (RFC 792, RFC 4443).
const ECHO_REPLY: (u8, u8) = (0, 129);

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

/// Sends echo requests to one target until it is dropped, from `source` where that is an
/// address of the target's family.
///
/// # Errors
/// When no ICMP socket can be had, or not at that address.
pub async fn watch(
    plan: EchoPlan,
    source: Option<IpAddr>,
    identifier: u16,
    records: SyncSender<Batch>,
) -> Result<(), EchoError> {
    let client =
        open(&plan, source).map_err(|source| EchoError::new(plan.name.to_string(), &source))?;
    let mut ticks = tokio::time::interval(std_duration(plan.interval));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut asked: JoinSet<Outcome> = JoinSet::new();
    let mut refused = false;
    let mut lost = LostEchoes::default();
    for seq in (0..=u16::MAX).cycle() {
        // What was asked is taken while the next request's time has not come.
        loop {
            tokio::select! {
                _ = ticks.tick() => break,
                Some(done) = asked.join_next() => {
                    if let Ok(outcome) = done {
                        refused |= outcome.tell(&plan, &records, refused, &mut lost);
                    }
                }
            }
        }
        let request = ask(
            client.clone(),
            plan.clone(),
            PingIdentifier(identifier),
            seq,
        );
        asked.spawn(request);
    }
    Ok(())
}

fn open(plan: &EchoPlan, source: Option<IpAddr>) -> std::io::Result<Client> {
    let (kind, family) = match plan.target {
        IpAddr::V4(_) => (ICMP::V4, Family::V4),
        IpAddr::V6(_) => (ICMP::V6, Family::V6),
    };
    let mut config = Config::builder().kind(kind).sock_type_hint(echo::RAW);
    if let Some(source) = source.filter(|s| s.is_ipv4() == plan.target.is_ipv4()) {
        config = config.bind(SocketAddr::new(source, 0));
    }
    let client = Client::new(&config.build())?;
    echo::only_final_answers(client.get_socket().get_native_sock(), family)?;
    Ok(client)
}

/// What became of one request.
struct Outcome {
    echo: Echo,
    /// Who answered with an error.
    error: Option<Answered>,
    /// Why it could not be sent.
    refused: Option<SurgeError>,
}

/// Sends one request and waits for its answer.
async fn ask(client: Client, plan: EchoPlan, identifier: PingIdentifier, seq: u16) -> Outcome {
    let mut pinger = client.pinger(plan.target, identifier).await;
    pinger.timeout(std_duration(plan.timeout));
    let sent = Stamp {
        at: Clock::now(),
        source: StampSource::User,
    };
    let (mut round_trip, mut error, mut refused) = (None, None, None);
    match pinger.ping(PingSequence(seq), &[0; 24]).await {
        // It is an error, too, that quotes the request.
        Ok((packet, took)) => match who_refuses(&packet) {
            None => round_trip = Some(Span::from(took)),
            Some((from, icmp_type, code)) => {
                error = Some(Answered {
                    target: plan.name,
                    seq,
                    from,
                    icmp_type,
                    code,
                });
            }
        },
        Err(SurgeError::Timeout { .. }) => {}
        Err(reason) => refused = Some(reason),
    }
    Outcome {
        echo: Echo {
            seq,
            sent,
            round_trip,
        },
        error,
        refused,
    }
}

/// Who sent an answer that is no reply, its type and its code.
fn who_refuses(packet: &IcmpPacket) -> Option<(IpAddr, u8, u8)> {
    let (from, icmp_type, code, reply) = match packet {
        IcmpPacket::V4(packet) => (
            packet.get_source().into(),
            packet.get_icmp_type().0,
            packet.get_icmp_code().0,
            ECHO_REPLY.0,
        ),
        IcmpPacket::V6(packet) => (
            packet.get_source().into(),
            packet.get_icmpv6_type().0,
            packet.get_icmpv6_code().0,
            ECHO_REPLY.1,
        ),
    };
    (icmp_type != reply).then_some((from, icmp_type, code))
}

impl Outcome {
    /// Hands over what is to be recorded. Returns whether the request was refused, which
    /// the log says where none was `before`.
    fn tell(
        self,
        plan: &EchoPlan,
        records: &SyncSender<Batch>,
        before: bool,
        lost: &mut LostEchoes,
    ) -> bool {
        if let (Some(reason), false) = (&self.refused, before) {
            // An unreachable target is silence to its record; the log says why once.
            warn!("echo to {} ({}): {reason}", plan.name, plan.target);
        }
        let at = Clock::now();
        let event = |kind| Event { at, kind };
        let error = self.error.map(EventKind::EchoError);
        let batch = Batch {
            echoes: vec![(plan.name.clone(), self.echo)],
            events: error.into_iter().chain(lost.event()).map(event).collect(),
            ..Batch::default()
        };
        match records.try_send(batch) {
            Ok(()) => lost.count = 0,
            Err(_) => {
                lost.count = lost.count.saturating_add(1);
                warn!(
                    "echo to {}: a record was dropped, the recorder is behind",
                    plan.name
                );
            }
        }
        self.refused.is_some()
    }
}

/// Records of echoes that the recorder had no room for, until it takes word of them.
#[derive(Debug, Default)]
struct LostEchoes {
    count: u32,
}

impl LostEchoes {
    fn event(&self) -> Option<EventKind> {
        (self.count > 0).then_some(EventKind::RecordsLost { blocks: self.count })
    }
}

fn std_duration(span: Span) -> Duration {
    span.to_std().unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::{EchoError, LostEchoes, Outcome};
    use crate::recorder::Batch;
    use hopgap_net::clock::Clock;
    use hopgap_proto::plan::EchoPlan;
    use hopgap_proto::record::{Echo, EventKind, Stamp, StampSource};
    use hopgap_proto::time::Span;
    use std::io::{Error, ErrorKind};
    use std::sync::mpsc::{Receiver, sync_channel};

    #[test]
    fn records_that_the_recorder_has_no_room_for_are_told_as_lost() {
        let plan = EchoPlan {
            name: "msee".parse().unwrap(),
            from: "a".parse().unwrap(),
            target: "192.0.2.1".parse().unwrap(),
            interval: Span::from_secs(1),
            timeout: Span::from_secs(1),
        };
        let (records, taken) = sync_channel(1);
        let mut lost = LostEchoes::default();
        let mut tell = || {
            let echo = Echo {
                seq: 0,
                sent: Stamp {
                    at: Clock::now(),
                    source: StampSource::User,
                },
                round_trip: None,
            };
            let outcome = Outcome {
                echo,
                error: None,
                refused: None,
            };
            outcome.tell(&plan, &records, false, &mut lost);
        };
        let events = |taken: &Receiver<Batch>| -> Vec<EventKind> {
            let batch = taken.try_recv().unwrap();
            batch.events.into_iter().map(|e| e.kind).collect()
        };
        // One waits, and two find no room.
        (0..3).for_each(|_| tell());
        assert_eq!(events(&taken), []);
        tell();
        assert_eq!(events(&taken), [EventKind::RecordsLost { blocks: 2 }]);
        tell();
        assert_eq!(events(&taken), []);
    }

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
