//! The faults of a run, as the seed draws them.

use super::hostile::{Attack, Beside};
use super::proxy::Way;
use super::world::{AGENTS, Program, World};
use crate::drill::stage::{Process, both_deliver};
use crate::drill::wait_for;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use hopgap_net::clock::Clock;
use hopgap_proto::time::Wall;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most that is waited at the end for what the agents have not delivered.
const DELIVERY: Duration = Duration::from_secs(60);
/// Fewer bytes than an agent has on their way at any time.
const LITTLE: u64 = 20_000;

/// What was done.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Kills of each program.
    pub(super) kills: BTreeMap<Program, u64>,
    /// When each program was killed, or ended by itself, on the wall clock.
    pub(super) ends: Vec<(Program, Wall)>,
    /// Times that a program ended by itself, and was started again.
    pub(super) ended: BTreeMap<Program, u64>,
    /// Cuts of the way to the collector, by kind.
    pub(super) cuts: [u64; 4],
    /// Times that a disk was full.
    pub(super) full: BTreeMap<Program, u64>,
    /// When each disk was full, on the wall clock.
    pub(super) fulls: Vec<(Program, Wall, Wall)>,
    /// Bits flipped.
    pub(super) flips: u64,
    /// Bytes that agents could not deliver at the end.
    pub(super) undelivered: u64,
    /// What others had beside an agent that turned.
    pub(super) beside: Option<Beside>,
}

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) lasts: Duration,
    /// Whether bits are flipped.
    pub(super) flips: bool,
    /// Whether an agent has turned.
    pub(super) hostile: bool,
}

struct Run<'a> {
    sandbox: &'a Sandbox,
    world: &'a World,
    rng: fastrand::Rng,
    running: BTreeMap<Program, Process>,
    /// When programs that do not run are started again.
    starts: BTreeMap<Program, Instant>,
    /// When the way is open again.
    way: Option<Instant>,
    /// When disks have room again.
    disks: BTreeMap<Program, Instant>,
    counts: Counts,
}

/// Makes faults for `lasts`, then ends them and waits until all is delivered and every
/// program has ended in order.
pub(super) fn carry_out(sandbox: &Sandbox, world: &World, plan: Plan) -> Result<Counts> {
    let mut run = Run {
        sandbox,
        world,
        rng: fastrand::Rng::with_seed(plan.seed),
        running: BTreeMap::new(),
        starts: BTreeMap::new(),
        way: None,
        disks: BTreeMap::new(),
        counts: Counts::default(),
    };
    for program in [Program::Collector, Program::Agent(0), Program::Agent(1)] {
        run.start(program)?;
    }
    wait_for(sandbox, "records of both agents", || {
        both_deliver(&world.status()?)
    })?;
    let attack = match plan.hostile {
        true => Some(Attack::begin(world, plan.seed)?),
        false => None,
    };
    let end = Instant::now() + plan.lasts;
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_millis(run.rng.u64(100..900));
        while Instant::now() < next {
            run.tend()?;
            sandbox.sleep(Duration::from_millis(10))?;
        }
        run.fault(plan.flips)?;
    }
    run.counts.beside = attack.map(Attack::end);
    run.settle()
}

impl Run<'_> {
    fn start(&mut self, program: Program) -> Result<()> {
        self.starts.remove(&program);
        let process = self.world.start(program)?;
        self.running.insert(program, process);
        Ok(())
    }

    fn filler(&self, program: Program) -> PathBuf {
        self.world.disk(program).join("filler")
    }

    /// Ends faults whose time is over and starts programs that do not run.
    fn tend(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.way.is_some_and(|until| until <= now) {
            self.way = None;
            self.world.proxy.set(Way::Open);
        }
        for program in Program::ALL {
            if self.disks.get(&program).is_some_and(|until| *until <= now) {
                self.free(program)?;
            }
            let process = self.running.get_mut(&program);
            if process.is_some_and(|process| process.has_ended()) {
                self.running.remove(&program);
                *self.counts.ended.entry(program).or_default() += 1;
                self.counts.ends.push((program, Clock::pair().wall));
                self.starts
                    .insert(program, now + Duration::from_millis(200));
            }
            if self.starts.get(&program).is_some_and(|at| *at <= now) {
                self.start(program)?;
            }
        }
        Ok(())
    }

    fn fault(&mut self, flips: bool) -> Result<()> {
        let lasts = Duration::from_millis(self.rng.u64(200..3_000));
        match self.rng.u8(0..100) {
            0..28 => self.kill(Program::Agent(0)),
            28..56 => self.kill(Program::Agent(1)),
            56..72 => self.kill(Program::Collector),
            72..86 if self.way.is_none() => {
                let which = self.rng.usize(0..Way::CUTS.len());
                self.counts.cuts[which] += 1;
                self.world.proxy.set(Way::CUTS[which]);
                self.way = Some(Instant::now() + lasts);
            }
            86..93 => {
                let program = Program::ALL[self.rng.usize(0..Program::ALL.len())];
                if !self.disks.contains_key(&program) {
                    self.fill(program)?;
                    self.disks.insert(program, Instant::now() + lasts);
                }
            }
            93..100 if flips => {
                let side = self.rng.usize(0..AGENTS.len());
                if self.world.truth.flip(side, &mut self.rng)? {
                    self.counts.flips += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn kill(&mut self, program: Program) {
        // A process that is dropped is killed.
        if self.running.remove(&program).is_some() {
            *self.counts.kills.entry(program).or_default() += 1;
            self.counts.ends.push((program, Clock::pair().wall));
            let pause = Duration::from_millis(self.rng.u64(0..300));
            self.starts.insert(program, Instant::now() + pause);
        }
    }

    /// Takes all room that a disk has left.
    fn fill(&mut self, program: Program) -> Result<()> {
        let begun = Clock::pair().wall;
        let path = self.filler(program);
        let mut file = std::fs::File::create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let mut piece = vec![0; 1 << 20];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    let half = piece.len() / 2;
                    piece.truncate(if half < 1024 { 0 } else { half });
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot fill {}", path.display()));
                }
            }
        }
        *self.counts.full.entry(program).or_default() += 1;
        let now = Clock::pair().wall;
        self.counts.fulls.push((program, begun, now));
        Ok(())
    }

    fn free(&mut self, program: Program) -> Result<()> {
        self.disks.remove(&program);
        let newest = self.counts.fulls.iter_mut().rev();
        if let Some(full) = newest.into_iter().find(|full| full.0 == program) {
            full.2 = Clock::pair().wall;
        }
        let path = self.filler(program);
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Ends all faults, waits for what is to be delivered, and ends the programs.
    fn settle(mut self) -> Result<Counts> {
        self.world.proxy.set(Way::Open);
        for program in self.disks.keys().copied().collect::<Vec<_>>() {
            self.free(program)?;
        }
        for program in Program::ALL {
            if !self.running.contains_key(&program) {
                self.start(program)?;
            }
        }
        let begin = Instant::now();
        let waiting = |world: &World| -> u64 {
            (0..AGENTS.len())
                .map(|side| world.truth.waiting(side))
                .sum()
        };
        while waiting(self.world) > LITTLE && begin.elapsed() < DELIVERY {
            self.tend()?;
            self.sandbox.sleep(Duration::from_millis(100))?;
        }
        // What agents told of losses is delivered, too.
        let told = Instant::now() + Duration::from_secs(3);
        while Instant::now() < told {
            self.tend()?;
            self.sandbox.sleep(Duration::from_millis(100))?;
        }
        for side in 0..AGENTS.len() {
            let agent = self.running.remove(&Program::Agent(side));
            // In order: it delivers what it has.
            agent
                .context("an agent does not run")?
                .end(Duration::from_secs(30))?;
        }
        self.counts.undelivered = waiting(self.world);
        let collector = self.running.remove(&Program::Collector);
        collector
            .context("the collector does not run")?
            .end(Duration::from_secs(15))?;
        ensure!(self.running.is_empty(), "a program runs on");
        Ok(self.counts)
    }
}
