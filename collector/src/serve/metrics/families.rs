//! The metrics by name: the name, help text and value of each.

use super::Snapshot;
use crate::serve::TimeText;
use crate::serve::api::AgentBody;
use hopgap_proto::time::Wall;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;
use std::fmt;

const BYTES: Option<Unit> = Some(Unit::Bytes);
const SECONDS: Option<Unit> = Some(Unit::Seconds);

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.collector(&mut families)?;
        self.heard_of(&mut families)?;
        self.taken(&mut families)?;
        self.refused_of(&mut families)?;
        self.stored(&mut families)?;
        self.spools(&mut families)
    }
}

impl Snapshot {
    /// Writes metrics of the collector as a whole.
    fn collector(&self, families: &mut Families<'_>) -> fmt::Result {
        families.info(
            "collector",
            "The collector's program.",
            [("version", env!("CARGO_PKG_VERSION"))],
        )?;
        families.gauges(
            "start_time",
            "When the collector was started, since 1970.",
            SECONDS,
            [([], seconds_since_1970(self.started))],
        )?;
        families.gauges(
            "plan_in_force",
            "Whether the plan file as it is now is in force.",
            None,
            [([], u64::from(self.plan_is_in_force))],
        )?;
        families.gauges(
            "drill_running",
            "Whether a drill is running.",
            None,
            [([], u64::from(self.drill_runs))],
        )?;
        let refused = &self.refused;
        families.counters(
            "refused_requests",
            "Requests and connections that were refused, by cause.",
            None,
            [
                ([("cause", "rate")], refused.rate),
                ([("cause", "body")], refused.body),
                ([("cause", "connections")], refused.connections),
                ([("cause", "time")], refused.time),
                ([("cause", "token")], refused.token),
                ([("cause", "cross_site")], refused.cross_site),
            ],
        )?;
        if let Some(tls) = &self.tls {
            families.counters(
                "tls_handshakes",
                "TLS connections of agents, by what became of their handshakes.",
                None,
                [
                    ([("outcome", "accepted")], tls.accepted),
                    ([("outcome", "failed")], tls.failed),
                    ([("outcome", "timed_out")], tls.timed_out),
                    ([("outcome", "over_limit")], tls.over_limit),
                ],
            )?;
            families.counters(
                "unknown_join_tokens",
                "Attempts to join with a token that this collector did not make.",
                None,
                [([], tls.unknown_tokens)],
            )?;
        }
        self.store(families)
    }

    /// Writes metrics of the store and its disk.
    fn store(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "store_jobs",
            "Jobs that the thread of the store has done.",
            None,
            [([], self.writer.jobs)],
        )?;
        families.counters(
            "store_busy",
            "How long the thread of the store has worked.",
            SECONDS,
            [([], seconds(self.writer.busy_ns))],
        )?;
        families.gauges(
            "store_jobs_waiting",
            "Jobs that wait for the thread of the store.",
            None,
            [([], self.writer.waiting)],
        )?;
        families.counters(
            "store_failed_writes",
            "Writes that the store's disk refused.",
            None,
            [([], self.disk.error.as_ref().map_or(0, |e| e.count))],
        )?;
        let sizes = [
            (
                "disk_free",
                "Bytes free on the store's disk.",
                self.disk.free,
            ),
            ("disk_size", "Bytes of the store's disk.", self.disk.total),
        ];
        for (name, help, value) in sizes {
            families.gauges(name, help, BYTES, value.map(|v| ([], v)))?;
        }
        Ok(())
    }

    /// Writes when agents were last heard of.
    fn heard_of(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauges(
            "agent_planned",
            "Whether the plan has this agent.",
            None,
            self.of_agents(|a| Some(u64::from(a.planned))),
        )?;
        let time = |at: Option<TimeText>| at.map(|TimeText(at)| seconds_since_1970(at));
        families.gauges(
            "agent_last_seen_timestamp",
            "When the agent was last heard of, since 1970, on the collector's clock.",
            SECONDS,
            self.of_agents(|a| time(a.last_seen)),
        )?;
        families.gauges(
            "agent_newest_block_timestamp",
            "When the newest block of the agent here was closed, since 1970, on its own clock.",
            SECONDS,
            self.of_agents(|a| time(a.newest)),
        )
    }

    /// Writes what agents delivered since the start.
    fn taken(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "agent_deliveries",
            "Bodies of frames that were taken of the agent.",
            None,
            self.of_agents(|a| Some(a.taken.deliveries)),
        )?;
        families.counters(
            "agent_delivered",
            "Bytes of bodies that were taken of the agent.",
            BYTES,
            self.of_agents(|a| Some(a.taken.bytes)),
        )?;
        families.counters(
            "agent_delivered_frames",
            "Frames that were taken of the agent.",
            None,
            self.of_agents(|a| Some(a.taken.frames)),
        )?;
        families.counters(
            "agent_delivered_rows",
            "Rows that the agent's blocks said they have.",
            None,
            self.of_agents(|a| Some(a.taken.rows)),
        )?;
        families.counters(
            "agent_held_back",
            "How long deliveries of the agent waited because it had asked for more than one agent may.",
            SECONDS,
            self.of_agents(|a| Some(seconds(a.taken.held_ms.saturating_mul(1_000_000)))),
        )
    }

    /// Writes what was refused of agents since the start.
    fn refused_of(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "agent_refused_requests",
            "Requests of the agent that were refused because it had asked for more than one agent may.",
            None,
            self.of_agents(|a| Some(a.taken.too_much)),
        )?;
        let frames = self.agents.iter().flat_map(|agent| {
            let causes = agent.taken.by_cause();
            causes.map(|(cause, n)| ([("agent", agent.name.as_str()), ("cause", cause)], n))
        });
        families.counters(
            "agent_refused_frames",
            "Frames of the agent that were not stored, by cause.",
            None,
            frames,
        )
    }

    /// Writes what is in the store; the counts of a moved or restored store begin anew.
    fn stored(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "agent_stored_blocks",
            "Blocks of the agent that were stored.",
            None,
            self.of_agents(|a| Some(a.blocks)),
        )?;
        families.counters(
            "agent_stored_records",
            "Records in those blocks.",
            None,
            self.of_agents(|a| Some(a.records)),
        )?;
        families.counters(
            "agent_duplicate_blocks",
            "Blocks that came once more, and were stored once.",
            None,
            self.of_agents(|a| Some(a.duplicates)),
        )
    }

    /// Writes what waits on agents' disks, by their last reports.
    fn spools(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauges(
            "agent_spool_waiting",
            "Bytes that wait with the agent to be delivered.",
            BYTES,
            self.of_agents(|a| a.spool.map(|s| s.waiting)),
        )?;
        families.gauges(
            "agent_spool_in_memory",
            "Bytes of them in memory only, because the agent's disk takes nothing.",
            BYTES,
            self.of_agents(|a| a.spool.map(|s| s.in_memory)),
        )?;
        families.gauges(
            "agent_spool_limit",
            "Bytes that may wait with the agent at most.",
            BYTES,
            self.of_agents(|a| a.spool.map(|s| s.most)),
        )?;
        families.gauges(
            "agent_spool_free",
            "Bytes free on the disk of the agent's spool.",
            BYTES,
            self.of_agents(|a| a.spool.and_then(|s| s.free)),
        )
    }

    /// Returns a labelled value for each agent that has one.
    fn of_agents<'a, V>(
        &'a self,
        value: impl Fn(&AgentBody) -> Option<V> + 'a,
    ) -> impl Iterator<Item = ([Label<'a>; 1], V)> + 'a {
        let agents = self.agents.iter();
        agents.filter_map(move |a| Some(([("agent", a.name.as_str())], value(a)?)))
    }
}

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters<'a, V, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = ([Label<'a>; N], V)>,
    ) -> fmt::Result
    where
        ConstCounter<V>: EncodeMetric,
    {
        let rows = rows.into_iter().map(|(l, v)| (l, ConstCounter::new(v)));
        self.family(name, help, unit, MetricType::Counter, rows)
    }

    fn gauges<'a, V, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = ([Label<'a>; N], V)>,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let rows = rows.into_iter().map(|(l, v)| (l, ConstGauge::new(v)));
        self.family(name, help, unit, MetricType::Gauge, rows)
    }

    fn info<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Label<'static>; N],
    ) -> fmt::Result {
        let rows = [([], Info::new(labels))];
        self.family(name, help, None, MetricType::Info, rows)
    }

    fn family<'a, M: EncodeMetric, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        rows: impl IntoIterator<Item = ([Label<'a>; N], M)>,
    ) -> fmt::Result {
        let unit = unit.as_ref();
        let mut family: MetricEncoder<'_> = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                // A family without labels has only this row.
                return value.encode(family);
            }
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Converts nanoseconds to seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits are as exact as a metric is"
)]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "to within a quarter of a microsecond"
)]
fn seconds_since_1970(at: Wall) -> f64 {
    at.as_nanos() as f64 / 1e9
}
