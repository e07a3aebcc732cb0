//! Checks the spool on a simulated disk against a model, through all faults of the disk.

use super::simulated::{Crash, EIO, ENOSPC, EROFS, Faults, SimulatedDisk};
use super::{block, lost, payloads};
use crate::spool::disk::Disk as _;
use crate::spool::{Spool, SpoolOptions};
use hopgap_proto::time::{Mono, Span};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Append,
    /// A second passes.
    Tick,
    Sync,
    /// Deliver a batch; the collector takes this share of it.
    Deliver {
        max: usize,
        taken: prop::sample::Index,
    },
    Crash(Crash),
    /// End in order and start again.
    Restart,
    Fault(Faults),
    Heal,
    /// A bit changes in the payload of some frame on the disk.
    Flip {
        segment: prop::sample::Index,
        frame: prop::sample::Index,
        bit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Append),
        3 => Just(Step::Tick),
        2 => Just(Step::Sync),
        5 => (1usize..400, any::<prop::sample::Index>())
            .prop_map(|(max, taken)| Step::Deliver { max, taken }),
        1 => Just(Step::Restart),
        2 => fault().prop_map(Step::Fault),
        2 => Just(Step::Heal),
    ]
}

fn crash() -> impl Strategy<Value = Step> {
    (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(kept, zeros, old_names)| {
        Step::Crash(Crash {
            kept,
            zeros,
            old_names,
        })
    })
}

fn flip() -> impl Strategy<Value = Step> {
    (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0usize..320,
    )
        .prop_map(|(segment, frame, bit)| Step::Flip {
            segment,
            frame,
            bit,
        })
}

fn fault() -> impl Strategy<Value = Faults> {
    let none = Faults::default();
    prop_oneof![
        prop_oneof![Just(EIO), Just(ENOSPC), Just(EROFS)].prop_map(move |errno| Faults {
            refuses: Some(errno),
            ..none
        }),
        (0u64..300).prop_map(move |room| Faults {
            room: Some(room),
            ..none
        }),
        Just(Faults {
            flush: Some(EIO),
            ..none
        }),
        Just(Faults {
            read: Some(EIO),
            ..none
        }),
        Just(Faults {
            refuses: Some(EROFS),
            flush: Some(EIO),
            ..none
        }),
    ]
}

fn options(sync_every: Span) -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 200,
        sync_every,
        ..SpoolOptions::default()
    }
}

/// What must hold for the spool, in numbers of blocks.
struct Model {
    disk: SimulatedDisk,
    options: SpoolOptions,
    spool: Spool,
    now: Mono,
    appended: u32,
    /// Blocks below this survive a loss of power.
    durable: u32,
    delivered: BTreeSet<u32>,
    /// The last block that was acknowledged since the spool was opened.
    acknowledged: Option<u32>,
    /// Blocks that a loss of power, or an end without a disk, may have taken.
    excused: BTreeSet<u32>,
    /// What the spool counted.
    counted: u32,
    flips: usize,
    /// Nothing was wrong with the disk so far.
    sound: bool,
    /// It was opened once only.
    one_life: bool,
}

impl Model {
    fn new(options: SpoolOptions) -> Self {
        let disk = SimulatedDisk::new();
        let spool = Spool::open_on(Box::new(disk.clone()), options.clone()).unwrap();
        Self {
            disk,
            options,
            spool,
            now: Mono::ZERO,
            appended: 0,
            durable: 0,
            delivered: BTreeSet::new(),
            acknowledged: None,
            excused: BTreeSet::new(),
            counted: 0,
            flips: 0,
            sound: true,
            one_life: true,
        }
    }

    fn append(&mut self) {
        self.now += Span::from_millis(1);
        self.spool.append(&block(self.appended), self.now).unwrap();
        self.appended += 1;
    }

    fn tick(&mut self) {
        self.now += Span::from_secs(1);
        self.disk.pass(Duration::from_secs(1));
        self.spool.sync_due(self.now);
    }

    /// Delivers one batch; false when there is none.
    fn deliver(&mut self, max: usize, taken: Option<prop::sample::Index>) -> bool {
        let batch = match self.spool.next_batch(max) {
            Ok(Some(batch)) => batch,
            Ok(None) => return false,
            Err(_) => {
                // Reading failed; the disk recovers.
                self.disk.set(Faults::default());
                return true;
            }
        };
        assert!(batch.bytes.len() <= max || batch.frames() == 1);
        let numbers: Vec<u32> = payloads(&batch)
            .iter()
            .map(|payload| {
                let number = u32::from_le_bytes(payload[..4].try_into().unwrap());
                assert_eq!(*payload, block(number), "delivered as it was appended");
                number
            })
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        if self.sound {
            assert!(self.acknowledged < numbers.first().copied(), "{numbers:?}");
        }
        let bytes = taken.map_or(batch.bytes.len(), |t| t.index(batch.bytes.len() + 1));
        self.spool.acknowledge(batch.cursor_after(bytes as u64));
        let taken = &numbers[..bytes / 60];
        self.delivered.extend(taken);
        self.acknowledged = taken.last().copied().or(self.acknowledged);
        true
    }

    fn open(&mut self) {
        self.one_life = false;
        self.acknowledged = None;
        self.counted += lost(&mut self.spool);
        for _ in 0..2 {
            match Spool::open_on(Box::new(self.disk.clone()), self.options.clone()) {
                Ok(spool) => {
                    self.spool = spool;
                    self.now += Span::from_secs(1);
                    return;
                }
                Err(_) => self.disk.set(Faults::default()),
            }
        }
        panic!("a sound disk is opened");
    }

    fn may_lose_what_is_not_durable(&mut self) {
        self.excused.extend(self.durable..self.appended);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append => self.append(),
            Step::Tick => self.tick(),
            Step::Sync => drop(self.spool.sync()),
            Step::Deliver { max, taken } => drop(self.deliver(max, Some(taken))),
            Step::Restart => {
                if !self.spool.sync_at_end() {
                    self.may_lose_what_is_not_durable();
                }
                self.open();
            }
            Step::Crash(crash) => {
                self.sound = false;
                self.may_lose_what_is_not_durable();
                self.disk.crash(crash);
                self.open();
            }
            Step::Fault(faults) => {
                self.sound = false;
                self.disk.set(faults);
            }
            Step::Heal => self.disk.set(Faults::default()),
            Step::Flip {
                segment,
                frame,
                bit,
            } => self.flip(segment, frame, bit),
        }
        let in_memory = self.spool.writer.is_none();
        if self.spool.unflushed_since.is_none() && !in_memory {
            self.durable = self.appended;
        }
        assert!(
            in_memory || self.options.sync_every > Span::ZERO || self.durable == self.appended,
            "each block is flushed at once"
        );
        self.counted += lost(&mut self.spool);
    }

    fn flip(&mut self, segment: prop::sample::Index, frame: prop::sample::Index, bit: usize) {
        let mut names = self.disk.names();
        names.retain(|name| name.ends_with(".seg"));
        if names.is_empty() {
            return;
        }
        let name = &names[segment.index(names.len())];
        let frames = self.disk.bytes(name).len() / 60;
        if frames == 0 {
            return;
        }
        self.sound = false;
        self.flips += 1;
        let at = frame.index(frames) * 60 + 20 + bit / 8;
        self.disk.tamper(name, |bytes| bytes[at] ^= 1 << (bit % 8));
    }

    /// The disk is sound again: all must come out that can, and new blocks go in.
    fn end(&mut self) {
        self.disk.set(Faults::default());
        for _ in 0..3 {
            self.tick();
        }
        assert!(self.spool.writer.is_some(), "the disk is used again");
        for _ in 0..3 {
            self.append();
        }
        while self.deliver(100, None) {}
        self.counted += lost(&mut self.spool);
        assert_eq!(self.spool.only_in_memory(), 0);
        assert!(self.delivered.contains(&(self.appended - 1)));
        let segments = self.disk.list("").unwrap();
        let segments = segments.iter().filter(|e| e.name.ends_with(".seg"));
        assert_eq!(segments.count(), 1, "what is delivered is removed");
    }

    /// Returns the missing blocks that nothing excuses.
    fn missing(&self) -> Vec<u32> {
        let gone = |n: &u32| !self.delivered.contains(n) && !self.excused.contains(n);
        (0..self.appended).filter(gone).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Within its bounds, whatever the disk refuses, tears, forgets or fails to flush:
    /// what was flushed comes out; what was not is missing after a loss of power only.
    #[test]
    fn nothing_durable_is_lost(
        steps in prop::collection::vec(prop_oneof![15 => step(), 1 => crash()], 1..120),
        at_once in any::<bool>(),
    ) {
        let every = if at_once { Span::ZERO } else { Span::from_secs(1) };
        let mut model = Model::new(options(every));
        for step in steps {
            model.step(step);
        }
        model.end();
        prop_assert_eq!(model.missing(), Vec::<u32>::new());
        if model.one_life {
            prop_assert_eq!(model.counted, 0);
        }
    }

    /// Bits that change cost the frames that they hit, each is counted, and no damaged
    /// frame is ever delivered.
    #[test]
    fn damage_costs_what_it_hits_and_is_counted(
        steps in prop::collection::vec(
            prop_oneof![15 => step(), 1 => crash(), 1 => flip()], 1..120),
    ) {
        let mut model = Model::new(options(Span::from_secs(1)));
        for step in steps {
            model.step(step);
        }
        model.end();
        let missing = model.missing().len();
        prop_assert!(missing <= model.flips, "{:?} of {}", model.missing(), model.flips);
        prop_assert!(missing <= model.counted as usize, "{missing} > {}", model.counted);
    }

    /// Beyond its bounds, on the disk and in memory, everything is delivered or counted:
    /// exactly, while the spool is not opened anew.
    #[test]
    fn what_is_dropped_is_counted(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut model = Model::new(SpoolOptions {
            max_bytes: 900,
            max_memory: 400,
            ..options(Span::from_secs(1))
        });
        for step in steps {
            // The count of a dropped segment that cannot be read is unknown.
            if matches!(step, Step::Fault(Faults { read: Some(_), .. })) {
                continue;
            }
            model.step(step);
            prop_assert!(model.spool.bytes() <= 900 + 200);
            prop_assert!(model.spool.only_in_memory() <= 400 + 200);
        }
        model.end();
        let missing = model.missing().len();
        if model.one_life {
            prop_assert_eq!(missing, model.counted as usize);
        } else {
            prop_assert!(missing <= model.counted as usize, "{missing} > {}", model.counted);
        }
    }
}
