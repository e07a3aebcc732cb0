//! Scenarios: one network and what happens to it, each a TOML file.
//!
//! What is written `"0.3s..2s"` is drawn anew for each run.

mod range;

pub(crate) use range::Range;

use super::clock::ClocksSpec;
use anyhow::{Context, Result, bail, ensure};
use hopgap_proto::time::Span;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where the scenarios that come with the lab are.
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenario {
    /// Its file's name without the ending.
    #[serde(skip)]
    pub(crate) name: String,
    /// Where it was read.
    #[serde(skip)]
    pub(crate) file: PathBuf,
    /// Its text.
    #[serde(skip)]
    pub(crate) text: String,
    /// One sentence for the reader.
    pub(crate) about: String,
    /// Whether each of its runs must have an outage: a fault that did not bite shows nothing.
    #[serde(default)]
    pub(crate) outages: bool,
    /// How long is measured.
    #[serde(default = "eight_seconds")]
    pub(crate) lasts: Span,
    /// Takes minutes: runs once where others run four times, and not with `--quick`.
    #[serde(default)]
    pub(crate) seldom: bool,
    /// Time between two probes of a flow.
    #[serde(default = "ten_milliseconds")]
    pub(crate) interval: Span,
    /// Flows of a session.
    #[serde(default = "four")]
    pub(crate) flows: u8,
    /// Whether `b` measures too.
    #[serde(default = "yes")]
    pub(crate) both: bool,
    /// Time between two traceroutes of a flow.
    #[serde(default = "half_a_second")]
    pub(crate) trace_interval: Span,
    /// Time between two searches of the path MTU; `0s` for none.
    #[serde(default)]
    pub(crate) path_mtu_interval: Span,
    /// Whether the sessions have keys. Not where a host has clocks of its own: those
    /// rewrite what packets say of time.
    #[serde(default)]
    pub(crate) authenticated: bool,
    /// What the plan's objective is; without it the plan's default.
    pub(crate) objective: Option<Span>,
    /// The question that is asked, where it is not all of the measurement.
    #[serde(default)]
    pub(crate) drill: DrillSpec,
    /// The transitions that the report must show, and no others, in the order of time;
    /// without it they are not judged.
    pub(crate) transitions: Option<Vec<String>>,
    /// The paths; both directions begin on the first.
    #[serde(default = "article", rename = "path")]
    pub(crate) paths: Vec<PathSpec>,
    /// Hosts whose clocks are not the machine's.
    #[serde(default)]
    pub(crate) clock: ClocksSpec,
    /// What happens.
    #[serde(default, rename = "event")]
    pub(crate) events: Vec<EventSpec>,
}

/// One emulated path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PathSpec {
    /// Its name, in the plan too.
    pub(crate) name: String,
    /// Routers on it.
    pub(crate) routers: u8,
    /// One way.
    pub(crate) delay: Span,
    /// More than `delay` by up to this much, without reordering.
    #[serde(default)]
    pub(crate) jitter: Span,
    /// The largest IP packet.
    #[serde(default = "ethernet")]
    pub(crate) mtu: u16,
    /// Larger packets vanish without a word.
    #[serde(default)]
    pub(crate) black_hole: bool,
    /// Routers that never answer, the first being 1.
    #[serde(default)]
    pub(crate) silent: Vec<u8>,
    /// The address of `a` is translated on this path in what `a` begins.
    #[serde(default)]
    pub(crate) translates: bool,
    /// The last router of this path sets the TTL to this, whatever it was.
    pub(crate) sets_ttl: Option<u8>,
}

/// When the drill is started and stopped, from the beginning of the measurement.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DrillSpec {
    /// It is started so much later.
    pub(crate) from: Option<Range<Span>>,
    /// It is stopped then, before the end of the measurement.
    pub(crate) until: Option<Range<Span>>,
    /// It is started so long before the agents are: nobody measured then.
    pub(crate) before_agents: Option<Span>,
}

/// What happens once, or again and again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EventSpec {
    /// When, from the beginning of the measurement.
    pub(crate) at: Range<Span>,
    /// For how long; without it to the end.
    #[serde(rename = "for")]
    pub(crate) lasts: Option<Range<Span>>,
    /// Which way.
    #[serde(default)]
    pub(crate) direction: Way,
    /// Only this flow of each session.
    pub(crate) flow: Option<u8>,
    /// How often.
    #[serde(default = "once")]
    pub(crate) repeat: Range<u32>,
    /// From one beginning to the next.
    pub(crate) every: Option<Range<Span>>,
    /// What.
    pub(crate) what: What,
}

/// Directions of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// Both.
    #[default]
    Both,
    /// From `a` to `b`.
    Forward,
    /// From `b` to `a`.
    Reverse,
}

impl Way {
    /// Whether what came from side 0 (`a`) or 1 (`b`) goes this way.
    pub(crate) fn is_from(self, side: usize) -> bool {
        match self {
            Self::Both => true,
            Self::Forward => side == 0,
            Self::Reverse => side == 1,
        }
    }
}

/// Something that happens to the network or to a host.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum What {
    /// Everything is lost.
    Drop,
    /// This share of packets, in per cent, is lost, each by its own chance.
    Loss(Range<f64>),
    /// Gilbert–Elliott.
    Gilbert {
        /// Per cent of packets at which the bad state begins.
        begins: Range<f64>,
        /// Per cent of packets at which it ends.
        ends: Range<f64>,
        /// Per cent lost in it.
        loss: Range<f64>,
    },
    /// A token bucket.
    Police {
        /// Packets a second.
        rate: Range<f64>,
        /// Packets at once.
        burst: Range<u32>,
    },
    /// A queue before a slow link: packets wait, and are lost where there is no room.
    Queue {
        /// Packets a second that leave it.
        rate: Range<f64>,
        /// Packets that it holds.
        holds: Range<u32>,
    },
    /// Everything waits until the end, then comes at once.
    Hold,
    /// Routers answer no more than this, all together, to each side: ICMP errors have a
    /// token bucket of their own in every router.
    IcmpLimit {
        /// Answers a second.
        rate: Range<f64>,
        /// Answers at once.
        burst: Range<u32>,
    },
    /// This share arrives twice, in per cent.
    Duplicate(Range<f64>),
    /// Some are held back, so that later ones overtake them.
    Reorder {
        /// How many, in per cent.
        percent: Range<f64>,
        /// By how long.
        by: Range<Span>,
    },
    /// Packets take the path of this name.
    Path(String),
    /// This many more routers are passed: a micro-loop.
    Loop(Range<u32>),
    /// The probes' source ports are translated on the way to `b`.
    Nat,
    /// The agent of this host is stopped (SIGSTOP), then continued.
    Stop(Host),
    /// The agent of this host ends in order; another one starts after `for`.
    Restart(Host),
    /// The agent of this host is killed; another one starts after `for`.
    Kill(Host),
    /// This host has no route to the other.
    NoRoute(Host),
    /// A person says that traffic is now moved away from the primary path, or back.
    Mark(Announced),
}

/// What a person says at the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Announced {
    /// Away from the primary path.
    Failover,
    /// Back to it.
    Failback,
}

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Host {
    /// The first.
    A,
    /// The second.
    B,
}

const fn eight_seconds() -> Span {
    Span::from_secs(8)
}
const fn ten_milliseconds() -> Span {
    Span::from_millis(10)
}
const fn half_a_second() -> Span {
    Span::from_millis(500)
}
const fn four() -> u8 {
    4
}
const fn yes() -> bool {
    true
}
const fn ethernet() -> u16 {
    1500
}
const fn once() -> Range<u32> {
    Range::only(1)
}

/// What the article has, in small: ExpressRoute and the VPN tunnel.
fn article() -> Vec<PathSpec> {
    let path = |name: &str, routers, delay, mtu| PathSpec {
        name: name.to_owned(),
        routers,
        delay: Span::from_millis(delay),
        jitter: Span::ZERO,
        mtu,
        black_hole: false,
        silent: Vec::new(),
        translates: false,
        sets_ttl: None,
    };
    vec![path("er", 4, 5, 1500), path("vpn", 2, 8, 1450)]
}

/// Where scenarios are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// Those that a campaign runs.
    Campaign,
    /// Those in which others measure, too.
    Peers,
    /// Those whose truth is known and that the programs do not tell rightly yet: run by
    /// their names only.
    Waiting,
}

impl Folder {
    const ALL: [Self; 3] = [Self::Campaign, Self::Peers, Self::Waiting];

    fn path(self) -> PathBuf {
        Path::new(HERE).join(match self {
            Self::Campaign => "",
            Self::Peers => "peers",
            Self::Waiting => "waiting",
        })
    }
}

impl Scenario {
    /// Reads a file, or the scenario of this name that comes with the lab.
    ///
    /// # Errors
    /// The file's name, the line, and what is wrong there.
    pub(crate) fn read(file_or_name: &str) -> Result<Self> {
        let mut path = PathBuf::from(file_or_name);
        if !path.exists() && !file_or_name.contains('/') {
            let file = format!("{file_or_name}.toml");
            let mut places = Folder::ALL.into_iter().map(|f| f.path().join(&file));
            path = places
                .find(|place| place.exists())
                .unwrap_or_else(|| Folder::Campaign.path().join(&file));
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the scenario {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let scenario =
            Self::parse(&name, &text).with_context(|| format!("in {}", path.display()))?;
        Ok(Self {
            file: path,
            ..scenario
        })
    }

    /// Every scenario that comes with the lab, by name, of this folder.
    ///
    /// # Errors
    /// As for [`Scenario::read`].
    pub(crate) fn all(folder: Folder) -> Result<Vec<Self>> {
        let here = folder.path();
        let entries = std::fs::read_dir(&here);
        let entries = entries.with_context(|| format!("cannot list {}", here.display()))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "toml"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|path| Self::read(&path.display().to_string()))
            .collect()
    }

    /// Reads the text of a scenario.
    ///
    /// # Errors
    /// The line, and what is wrong there.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut scenario: Self = toml::from_str(text)?;
        name.clone_into(&mut scenario.name);
        text.clone_into(&mut scenario.text);
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.paths.is_empty(), "there is no path");
        ensure!(self.flows > 0, "there is no flow");
        for path in &self.paths {
            ensure!(path.routers > 0, "path `{}` has no router", path.name);
        }
        if let Some(clock) = &self.clock.b {
            clock.check()?;
            ensure!(
                !self.authenticated,
                "clocks of `b` rewrite packets, which `authenticated` forbids"
            );
        }
        for (number, event) in self.events.iter().enumerate() {
            let number = number + 1;
            match &event.what {
                What::Path(name) if self.path(name).is_none() => {
                    bail!("event {number} names the path `{name}`, which there is not");
                }
                What::Stop(_)
                | What::Restart(_)
                | What::Kill(_)
                | What::NoRoute(_)
                | What::Hold
                    if event.lasts.is_none() =>
                {
                    bail!("event {number} must have an end; give it `for`");
                }
                _ => {}
            }
            ensure!(
                event.repeat.to <= 1 || event.every.is_some(),
                "event {number} is repeated; give it `every`"
            );
        }
        Ok(())
    }

    /// The place of the path of this name.
    pub(crate) fn path(&self, name: &str) -> Option<usize> {
        self.paths.iter().position(|path| path.name == name)
    }
}

#[cfg(test)]
mod tests;
