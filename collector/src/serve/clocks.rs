//! Receives agents' reports of their clocks.

use super::App;
use crate::clock;
use axum::http::HeaderMap;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{ClockExchange, EXCHANGE_HEADER};

/// Longest time since the hello that a report refers to; an older report does not fit this
/// request.
const AGO: Span = Span::from_secs(120);
/// Longest exchange that is used; a longer one bounds the offset too loosely.
const TOOK: Span = Span::from_secs(10);
/// Clocks that differ by more are logged.
const APART: Span = Span::from_secs(1);

/// Stores what a plan request reports of the agent's clocks; ignores impossible reports. The
/// agent gets its plan also when storing fails.
pub(super) async fn note(app: &App, agent: &AgentName, headers: &HeaderMap) {
    let now = clock::now();
    let said = headers
        .get(EXCHANGE_HEADER)
        .and_then(|value| value.to_str().ok());
    let Some(exchange) = said.and_then(|text| text.parse::<ClockExchange>().ok()) else {
        return;
    };
    if !is_possible(&exchange, now) {
        tracing::warn!("agent `{agent}` says of its clocks what cannot be; it is left out");
        return;
    }
    let (least, most) = exchange.ahead();
    if least > APART {
        tracing::warn!(
            "the clock of agent `{agent}` is {least} ahead of this host's; synchronise the two clocks (NTP)"
        );
    } else if most < -APART {
        tracing::warn!(
            "the clock of agent `{agent}` is {} behind this host's; synchronise the two clocks (NTP)",
            -most
        );
    }
    let name = agent.clone();
    let stored = app
        .writer
        .run(move |store| store.clock(&name, &exchange, now))
        .await;
    if let Ok(Err(error)) = stored {
        tracing::warn!("what agent `{agent}` says of its clocks cannot be stored: {error}");
    }
}

/// Whether the report fits an answer that this collector can have sent a moment ago.
fn is_possible(exchange: &ClockExchange, now: Wall) -> bool {
    let ago = now - exchange.collector;
    let took = exchange.received.mono - exchange.sent;
    !ago.is_negative() && ago <= AGO && took <= TOOK
}

#[cfg(test)]
mod tests {
    use super::is_possible;
    use hopgap_proto::time::{Span, Wall};
    use hopgap_proto::uplink::ClockExchange;

    #[test]
    fn what_this_collector_cannot_have_answered_is_left_out() {
        let exchange: ClockExchange = "1 1000 5000000000 2000 7".parse().unwrap();
        let at = |seconds| Wall::from_nanos(5_000_000_000) + Span::from_secs(seconds);
        assert!(is_possible(&exchange, at(0)));
        assert!(is_possible(&exchange, at(119)));
        assert!(!is_possible(&exchange, at(121)));
        assert!(!is_possible(&exchange, at(-1)));
        let slow: ClockExchange = "1 1000 5000000000 10000001001 7".parse().unwrap();
        assert!(!is_possible(&slow, at(0)));
    }
}
