//! A host whose clocks are not the machine's.
//!
//! All hosts of a campaign share the machine's clocks, which nobody may change. So
//! what the agents recorded is rewritten on its way to the collector ([`proxy`]) as it
//! would have been recorded by a host with other clocks ([`rewrite`]): `b`'s clocks run
//! faster or slower, its wall clock is ahead or behind, and it is stepped, and stepped back.
//!
//! That is what such a host would have recorded, because agents read their clocks and
//! do nothing else with them: the send times are on `b`'s own grid, and what `a` knows of
//! `b`'s clock are the stamps in its replies, which are rewritten too. It leaves out that
//! `b`'s interval and its timeouts would be longer or shorter by the skew (half a
//! microsecond in 10 ms), and the number of `b`'s run, which is no time to anybody.

mod proxy;
mod rewrite;

pub(super) use proxy::Proxies;

use super::scenario::Range;
use anyhow::{Result, ensure};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use serde::{Deserialize, Serialize};

/// One part in this many of a skew's unit.
const BILLION: i128 = 1_000_000_000;

/// What a scenario says of the hosts' clocks.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ClocksSpec {
    /// The clocks of `b`; without it they are those of `a`.
    pub(crate) b: Option<ClockSpec>,
}

/// What a scenario says of one host's clocks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ClockSpec {
    /// The wall clock is ahead by this many seconds; negative: behind.
    #[serde(default = "nothing")]
    offset_s: Range<f64>,
    /// Both clocks run faster by this many parts in a million; negative: slower.
    #[serde(default = "nothing")]
    skew_ppm: Range<f64>,
    /// The wall clock is stepped forward by this many seconds; negative: back.
    #[serde(default = "nothing")]
    step_s: Range<f64>,
    /// When it is stepped, from the beginning of the measurement.
    step_at: Option<Range<Span>>,
    /// How long after that it is stepped back by as much; without it, never.
    step_back_after: Option<Range<Span>>,
}

const fn nothing() -> Range<f64> {
    Range { from: 0.0, to: 0.0 }
}

impl ClockSpec {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn check(&self) -> Result<()> {
        let steps = self.step_s.from != 0.0 || self.step_s.to != 0.0;
        ensure!(
            steps == self.step_at.is_some(),
            "`step-s` and `step-at` stand together"
        );
        ensure!(
            steps || self.step_back_after.is_none(),
            "`step-back-after` needs a step"
        );
        ensure!(
            self.skew_ppm.from >= -100.0 && self.skew_ppm.to <= 100.0,
            "`skew-ppm` is beyond what a clock does, 100"
        );
        Ok(())
    }

    /// Draws what is left open. The clocks begin to run apart at `zero`; when the step
    /// is, is said from a beginning that comes later.
    pub(crate) fn draw(&self, seed: u64, zero: ClockPair) -> (HostClock, Option<Span>) {
        // Not the program's numbers: a scenario's faults stay the same with other clocks.
        let mut rng = fastrand::Rng::with_seed(seed.rotate_left(32) ^ 0xc10c);
        let seconds = |seconds: f64| Span::from_nanos(whole(seconds * 1e9));
        let mut clock = HostClock {
            zero_mono_ns: zero.mono.as_nanos(),
            zero_wall_ns: zero.wall.as_nanos(),
            offset_ns: seconds(self.offset_s.draw(&mut rng)).as_nanos(),
            skew_ppb: whole(self.skew_ppm.draw(&mut rng) * 1e3),
            step_ns: seconds(self.step_s.draw(&mut rng)).as_nanos(),
            step_at_ns: None,
            step_lasts_ns: None,
        };
        let step_at = self.step_at.map(|at| at.draw(&mut rng));
        let lasts = self.step_back_after.map(|lasts| lasts.draw(&mut rng));
        clock.step_lasts_ns = lasts.map(Span::as_nanos);
        (clock, step_at)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a scenario's seconds are far from the bounds of i64 in nanoseconds"
)]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

/// How one host's clocks differ from the machine's, all numbers decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostClock {
    zero_mono_ns: i64,
    zero_wall_ns: i64,
    offset_ns: i64,
    skew_ppb: i64,
    step_ns: i64,
    /// When the wall clock is stepped, on the machine's monotonic clock; `None`: not yet.
    step_at_ns: Option<i64>,
    /// How long after that it is stepped back; `None`: never.
    #[serde(default)]
    step_lasts_ns: Option<i64>,
}

impl HostClock {
    /// Has the wall clock stepped at this instant of the machine's monotonic clock.
    pub(super) fn step_at(&mut self, at: Mono) {
        self.step_at_ns = Some(at.as_nanos());
    }

    /// When it is stepped, on the machine's clock, and by how much.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Mono, Span)> + use<> {
        let by = Span::from_nanos(self.step_ns);
        let there = self.step_at_ns.map(|at| (Mono::from_nanos(at), by));
        let back = self.back_at().map(|at| (Mono::from_nanos(at), -by));
        there.into_iter().chain(back)
    }

    fn back_at(&self) -> Option<i64> {
        Some(self.step_at_ns?.saturating_add(self.step_lasts_ns?))
    }

    /// The machine's span, as the host's clocks measure it.
    pub(super) fn span(&self, span: Span) -> Span {
        Span::from_nanos(self.stretched(span.as_nanos()))
    }

    /// The host's span, as the machine's clocks measure it.
    pub(super) fn true_span(&self, span: Span) -> Span {
        let nanos = i128::from(span.as_nanos()) * BILLION;
        Span::from_nanos(narrow(rounded(nanos, BILLION + i128::from(self.skew_ppb))))
    }

    /// What the host's monotonic clock shows when the machine's shows this.
    pub(super) fn mono(&self, at: Mono) -> Mono {
        let elapsed = at.as_nanos().saturating_sub(self.zero_mono_ns);
        Mono::from_nanos(self.zero_mono_ns.saturating_add(self.stretched(elapsed)))
    }

    /// What the host's wall clock shows when the machine's shows this.
    pub(super) fn wall(&self, at: Wall) -> Wall {
        let elapsed = at.as_nanos().saturating_sub(self.zero_wall_ns);
        let mono = self.zero_mono_ns.saturating_add(elapsed);
        let stepped = self.step_at_ns.is_some_and(|step| mono >= step)
            && self.back_at().is_none_or(|back| mono < back);
        let nanos = self
            .zero_wall_ns
            .saturating_add(self.stretched(elapsed))
            .saturating_add(self.offset_ns)
            .saturating_add(if stepped { self.step_ns } else { 0 });
        Wall::from_nanos(nanos)
    }

    /// Both.
    pub(super) fn pair(&self, pair: ClockPair) -> ClockPair {
        ClockPair {
            mono: self.mono(pair.mono),
            wall: self.wall(pair.wall),
        }
    }

    fn stretched(&self, nanos: i64) -> i64 {
        let more = rounded(i128::from(nanos) * i128::from(self.skew_ppb), BILLION);
        nanos.saturating_add(narrow(more))
    }
}

/// To the nearest, so that what was in order stays so.
fn rounded(number: i128, by: i128) -> i128 {
    (number + by / 2).div_euclid(by)
}

fn narrow(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
