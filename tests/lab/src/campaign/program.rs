//! What a seed makes of a scenario: when exactly what happens.

use super::scenario::{Announced, EventSpec, Host, Scenario, Way, What};
use hopgap_proto::time::Span;
use serde::{Deserialize, Serialize};

/// The timeline of one run, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Everything that happens.
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens, with its beginning and its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// From the beginning of the measurement.
    pub(crate) from: Span,
    /// The same; `None` for ever.
    pub(crate) until: Option<Span>,
    /// Which way.
    pub(crate) way: Way,
    /// Only this flow.
    pub(crate) flow: Option<u8>,
    /// What.
    pub(crate) act: Act,
}

/// What happens, with all numbers decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Act {
    Drop,
    Loss(f64),
    Gilbert { begins: f64, ends: f64, loss: f64 },
    Police { rate: f64, burst: u32 },
    Queue { rate: f64, holds: u32 },
    Hold,
    IcmpLimit { rate: f64, burst: u32 },
    Duplicate(f64),
    Reorder { share: f64, by: Span },
    Path(usize),
    Loop(u8),
    Nat,
    Stop(Host),
    Restart(Host),
    Kill(Host),
    NoRoute(Host),
    Mark(Announced),
}

impl Act {
    /// Whether it happens to a host, or at the collector, and not to the network.
    pub(crate) fn is_at_a_host(&self) -> bool {
        matches!(
            self,
            Self::Stop(_) | Self::Restart(_) | Self::Kill(_) | Self::NoRoute(_) | Self::Mark(_)
        )
    }
}

impl Step {
    /// Whether it is in force at this time from the beginning.
    pub(crate) fn is_on(&self, at: Span) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

impl Program {
    /// Draws everything that the scenario leaves open.
    pub(crate) fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut steps = Vec::new();
        for event in &scenario.events {
            let mut from = event.at.draw(&mut rng);
            for _ in 0..event.repeat.draw(&mut rng) {
                let lasts = event.lasts.map(|lasts| lasts.draw(&mut rng));
                steps.push(Step {
                    from,
                    until: lasts.map(|lasts| from + lasts),
                    way: event.direction,
                    flow: event.flow,
                    act: act(event, scenario, &mut rng),
                });
                if let Some(every) = event.every {
                    from += every.draw(&mut rng);
                }
            }
        }
        steps.sort_by_key(|step| step.from);
        Self { steps }
    }

    /// The path of what enters from this side at this time.
    pub(crate) fn path(&self, side: usize, at: Span) -> usize {
        self.steps
            .iter()
            .rev()
            .filter(|step| step.way.is_from(side) && step.is_on(at))
            .find_map(|step| match step.act {
                Act::Path(path) => Some(path),
                _ => None,
            })
            .unwrap_or(0)
    }

    /// When the path of what enters from this side may change.
    pub(crate) fn path_changes(&self, side: usize) -> Vec<Span> {
        self.steps
            .iter()
            .filter(|s| s.way.is_from(side) && matches!(s.act, Act::Path(_) | Act::Loop(_)))
            .flat_map(|step| [Some(step.from), step.until])
            .flatten()
            .collect()
    }
}

fn act(event: &EventSpec, scenario: &Scenario, rng: &mut fastrand::Rng) -> Act {
    let share = |percent: f64| percent / 100.0;
    match &event.what {
        What::Drop => Act::Drop,
        What::Loss(percent) => Act::Loss(share(percent.draw(rng))),
        What::Gilbert { begins, ends, loss } => Act::Gilbert {
            begins: share(begins.draw(rng)),
            ends: share(ends.draw(rng)),
            loss: share(loss.draw(rng)),
        },
        What::Police { rate, burst } => Act::Police {
            rate: rate.draw(rng),
            burst: burst.draw(rng),
        },
        What::Queue { rate, holds } => Act::Queue {
            rate: rate.draw(rng),
            holds: holds.draw(rng),
        },
        What::Hold => Act::Hold,
        What::IcmpLimit { rate, burst } => Act::IcmpLimit {
            rate: rate.draw(rng),
            burst: burst.draw(rng),
        },
        What::Duplicate(percent) => Act::Duplicate(share(percent.draw(rng))),
        What::Reorder { percent, by } => Act::Reorder {
            share: share(percent.draw(rng)),
            by: by.draw(rng),
        },
        What::Path(name) => Act::Path(scenario.path(name).unwrap_or(0)),
        What::Loop(hops) => Act::Loop(u8::try_from(hops.draw(rng)).unwrap_or(u8::MAX)),
        What::Nat => Act::Nat,
        What::Stop(host) => Act::Stop(*host),
        What::Restart(host) => Act::Restart(*host),
        What::Kill(host) => Act::Kill(*host),
        What::NoRoute(host) => Act::NoRoute(*host),
        What::Mark(kind) => Act::Mark(*kind),
    }
}

/// One number for a run, from which all of it follows.
pub(crate) fn seed_of(seed: u64, scenario: &str, run: u32) -> u64 {
    // FNV-1a, which is the same everywhere and for ever.
    let bytes = seed.to_be_bytes().into_iter();
    let bytes = bytes.chain(scenario.bytes()).chain(run.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{Program, Scenario, seed_of};

    #[test]
    fn a_seed_always_makes_the_same_and_another_seed_another() {
        let text =
            "about = \"x\"\n[[event]]\nat = \"1s..2s\"\nfor = \"0.3s..2s\"\nwhat = \"drop\"\n";
        let scenario = Scenario::parse("x", text).expect("right");
        let draw = |run| Program::draw(&scenario, seed_of(7, "x", run));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(seed_of(7, "x", 1), seed_of(8, "x", 1));
        assert_ne!(seed_of(7, "x", 1), seed_of(7, "y", 1));
    }
}
