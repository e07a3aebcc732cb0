//! What happens in a run, and when: the programs start, the scenario's events are carried
//! out in the order of time, the programs end.

use crate::campaign::clock::{HostClock, Proxies};
use crate::campaign::peers::{self, Peers};
use crate::campaign::program::{Act, Program};
use crate::campaign::record::{Down, NoRoute, Told};
use crate::campaign::scenario::{Announced, Host, Scenario};
use crate::campaign::wire::Wire;
use crate::campaign::world::{World, side_of};
use crate::drill::stage::{Process, both_deliver};
use crate::drill::wait_for;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use hopgap_net::clock::Clock;
use hopgap_proto::time::{Mono, Span};
use nix::sys::signal::Signal;
use std::time::Duration;

/// The run's name at the collector.
pub(super) const NAME: &str = "campaign";
/// What is measured before the program begins to run.
const BEFORE: Duration = Duration::from_millis(700);
/// The newest probes' timeout, and the delivery of the newest blocks.
const AFTER: Duration = Duration::from_millis(2_500);

/// The agents of both hosts, those that run.
type Agents = [Option<Process>; 2];

/// What is known after the measurement.
pub(super) struct Measured {
    pub(super) begin: Mono,
    pub(super) seen: Seen,
    pub(super) clock: Option<HostClock>,
}

/// What was done, and when that was.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) downs: Vec<Down>,
    pub(super) no_routes: Vec<NoRoute>,
    /// Start and stop of the drill.
    pub(super) asked: [Told; 2],
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
enum Deed {
    /// What a step of the program does to a host: its beginning, or its end.
    Act(Act, bool),
    StartDrill,
    StopDrill,
    /// Start what people use today, for the outage of this number that lasts so long.
    BeginPeers(usize, Span),
    EndPeers,
}

/// What is to be carried out.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) seed: u64,
    pub(super) program: &'a Program,
    /// Whether others measure, too.
    pub(super) peers: bool,
}

/// Starts the programs, carries the scenario out, and ends them.
pub(super) fn measure(
    sandbox: &Sandbox,
    run: Run<'_>,
    world: &World,
    wire: &Wire,
) -> Result<Measured> {
    let Run { scenario, seed, .. } = run;
    let drawn = scenario.clock.b.map(|c| c.draw(seed, Clock::pair()));
    let proxies = drawn.map(|(clock, _)| world.proxies(clock)).transpose()?;
    let collector = world.collector()?;
    wait_for(sandbox, "the collector", || {
        world.ask(&["drill", "list"]).map(drop)
    })?;
    let mut stage = Stage {
        world,
        agents: [None, None],
        begin: Clock::now(),
        downs: Vec::new(),
        no_routes: Vec::new(),
        peers: run.peers.then(|| Peers::start(world)).transpose()?,
        started: None,
        stopped: None,
    };
    if let Some(before) = scenario.drill.before_agents {
        stage.start_drill()?;
        sandbox.sleep(before.to_std().unwrap_or_default())?;
    }
    for side in 0..2 {
        stage.agents[side] = Some(world.agent(side)?);
    }
    wait_for(sandbox, "records of both agents", || {
        both_deliver(&world.ask(&["status", "--json"])?.stdout)
    })?;
    if scenario.drill.from.is_none() && stage.started.is_none() {
        stage.start_drill()?;
    }
    sandbox.sleep(BEFORE)?;
    stage.begin = Clock::now() + Span::from_millis(20);
    let begin = stage.begin;
    wire.begin(begin);
    let clock = stepped(drawn, proxies.as_ref(), begin);
    for (at, deed) in deeds(&run) {
        sleep_until(sandbox, begin + at)?;
        stage.carry_out(at, &deed)?;
    }
    sleep_until(sandbox, begin + scenario.lasts)?;
    if stage.stopped.is_none() {
        stage.stop_drill()?;
    }
    if let Some(peers) = stage.peers.take() {
        peers.finish()?;
    }
    sandbox.sleep(AFTER)?;
    for agent in std::mem::take(&mut stage.agents).into_iter().flatten() {
        agent.end(Duration::from_secs(15))?;
    }
    collector.end(Duration::from_secs(10))?;
    Ok(Measured {
        begin,
        seen: stage.seen(scenario)?,
        clock,
    })
}

/// Tells the proxies when the clock is stepped, which is said from the beginning.
fn stepped(
    drawn: Option<(HostClock, Option<Span>)>,
    proxies: Option<&Proxies>,
    begin: Mono,
) -> Option<HostClock> {
    let (mut clock, step) = drawn?;
    if let Some(step) = step {
        clock.step_at(begin + step);
    }
    if let Some(proxies) = proxies {
        proxies.set_clock(clock);
    }
    Some(clock)
}

fn sleep_until(sandbox: &Sandbox, at: Mono) -> Result<()> {
    let left = at.saturating_since(Clock::now());
    Ok(sandbox.sleep(left.to_std().unwrap_or_default())?)
}

/// What is done to hosts and at the collector while the scenario lasts, in the order of time.
fn deeds(run: &Run<'_>) -> Vec<(Span, Deed)> {
    let (scenario, seed, program) = (run.scenario, run.seed, run.program);
    // Not the program's numbers: its faults stay the same whatever is asked.
    let mut rng = fastrand::Rng::with_seed(seed.rotate_left(16) ^ 0xa5ed);
    let asked = [
        (scenario.drill.from, Deed::StartDrill),
        (scenario.drill.until, Deed::StopDrill),
    ];
    let asked = asked
        .into_iter()
        .filter_map(|(range, deed)| Some((range?.draw(&mut rng), deed)));
    let steps = program.steps.iter().filter(|s| s.act.is_at_a_host());
    let acts = steps.flat_map(|step| {
        let end = step.until.map(|until| (until, false));
        [Some((step.from, true)), end]
            .into_iter()
            .flatten()
            .map(|(at, begins)| (at, Deed::Act(step.act.clone(), begins)))
    });
    let cuts = if run.peers {
        peers::cuts(program)
    } else {
        Vec::new()
    };
    let beside = cuts.into_iter().enumerate().flat_map(|(number, cut)| {
        let begin = Deed::BeginPeers(number, cut.until - cut.from);
        [
            (cut.from - peers::LEAD, begin),
            (cut.until + peers::TAIL, Deed::EndPeers),
        ]
    });
    let mut deeds: Vec<(Span, Deed)> = asked.chain(acts).chain(beside).collect();
    // What is to end later does not end before the programs do.
    deeds.retain(|(at, _)| *at < scenario.lasts);
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

/// What runs, and what was done so far.
struct Stage<'a> {
    world: &'a World,
    agents: Agents,
    begin: Mono,
    downs: Vec<Down>,
    no_routes: Vec<NoRoute>,
    peers: Option<Peers>,
    started: Option<Told>,
    stopped: Option<Told>,
}

impl Stage<'_> {
    fn seen(self, scenario: &Scenario) -> Result<Seen> {
        let mut downs = self.downs;
        for down in downs.iter_mut().filter(|down| down.until == FOR_EVER) {
            down.until = scenario.lasts;
        }
        Ok(Seen {
            downs,
            no_routes: self.no_routes,
            asked: [
                self.started.context("the drill was never started")?,
                self.stopped.context("the drill was never stopped")?,
            ],
        })
    }

    fn carry_out(&mut self, at: Span, deed: &Deed) -> Result<()> {
        match deed {
            Deed::StartDrill => self.start_drill(),
            Deed::StopDrill => self.stop_drill(),
            Deed::Act(act, begins) => self.act(at, act, *begins),
            Deed::BeginPeers(number, lasts) => match &mut self.peers {
                Some(peers) => peers.begin(self.world, *number, *lasts),
                None => Ok(()),
            },
            Deed::EndPeers => {
                if let Some(peers) = &mut self.peers {
                    peers.end();
                }
                Ok(())
            }
        }
    }

    fn start_drill(&mut self) -> Result<()> {
        let told = self.tell(&["drill", "start", NAME])?;
        self.started = Some(told);
        Ok(())
    }

    fn stop_drill(&mut self) -> Result<()> {
        let told = self.tell(&["drill", "stop"])?;
        self.stopped = Some(told);
        Ok(())
    }

    fn tell(&self, arguments: &[&str]) -> Result<Told> {
        timed(|| self.world.ask(arguments).map(drop))
    }

    fn act(&mut self, at: Span, act: &Act, begins: bool) -> Result<()> {
        match *act {
            Act::Stop(host) => {
                let signal = if begins {
                    Signal::SIGSTOP
                } else {
                    Signal::SIGCONT
                };
                if let Some(agent) = self.agents.get(side_of(host)).and_then(Option::as_ref) {
                    agent.signal(signal);
                }
            }
            Act::Restart(host) | Act::Kill(host) if begins => {
                self.downs.push(Down {
                    from: at,
                    until: FOR_EVER,
                    killed: matches!(act, Act::Kill(_)),
                    side: Some(side_of(host)),
                });
                let agent = self.agents[side_of(host)]
                    .take()
                    .context("no agent to end")?;
                if matches!(act, Act::Restart(_)) {
                    agent.end(Duration::from_secs(15))?;
                }
                // A process that is dropped is killed.
            }
            Act::Restart(host) | Act::Kill(host) => {
                let (now, side) = (Clock::now() - self.begin, side_of(host));
                let down = self.downs.iter_mut().rfind(|d| d.side == Some(side));
                if let Some(down) = down {
                    down.until = now;
                }
                self.agents[side] = Some(self.world.agent(side)?);
            }
            Act::NoRoute(host) => self.set_route(host, !begins)?,
            Act::Mark(kind) if begins => {
                let kind = match kind {
                    Announced::Failover => "--failover",
                    Announced::Failback => "--failback",
                };
                self.tell(&["drill", "mark", kind, "said by the scenario"])?;
            }
            _ => {}
        }
        Ok(())
    }

    fn set_route(&mut self, host: Host, there: bool) -> Result<()> {
        let side = side_of(host);
        let told = timed(|| self.world.set_route(host, there))?;
        let mut open = self.no_routes.iter_mut();
        match open.rfind(|gap| gap.side == side && gap.until.is_none()) {
            Some(gap) if there => gap.until = Some(told),
            _ => self.no_routes.push(NoRoute {
                side,
                from: told,
                until: None,
            }),
        }
        Ok(())
    }
}

/// An agent that is not started again is down to the end of the scenario.
const FOR_EVER: Span = Span::from_nanos(i64::MAX);

/// Does it, and says between which readings of the clock it was done.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Told> {
    let earliest_ns = Clock::now().as_nanos();
    work()?;
    Ok(Told {
        earliest_ns,
        latest_ns: Clock::now().as_nanos(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Deed, Run, deeds};
    use crate::campaign::program::{Act, Program};
    use crate::campaign::scenario::{Host, Scenario};

    #[test]
    fn what_is_asked_does_not_change_what_happens() {
        let events = "[[event]]\nat = \"1s..2s\"\nfor = \"1s..9s\"\nwhat = { kill = \"b\" }\n";
        let of = |drill: &str| {
            let text = format!("about = \"x\"\nlasts = \"3s\"\n{drill}{events}");
            let scenario = Scenario::parse("x", &text).expect("right");
            let program = Program::draw(&scenario, 7);
            let run = Run {
                scenario: &scenario,
                seed: 7,
                program: &program,
                peers: false,
            };
            (deeds(&run), program)
        };
        let (plain, program) = of("");
        let (asked, same) = of("[drill]\nfrom = \"0.5s\"\nuntil = \"2.5s..2.9s\"\n");
        assert_eq!(program, same);
        let is_start = |(_, deed): &(_, Deed)| *deed == Deed::StartDrill;
        assert!(!plain.iter().any(is_start));
        assert!(asked.first().is_some_and(is_start), "{asked:?}");
        assert!(asked.iter().any(|(_, deed)| *deed == Deed::StopDrill));
        let begun = Deed::Act(Act::Kill(Host::B), true);
        assert!(plain.iter().any(|(_, deed)| *deed == begun));
        // It ends after the scenario, so nobody starts the agent again.
        assert_eq!(plain.len(), 1, "{plain:?}");
    }
}
