//! The spool against a model, through crashes that lose what was not flushed.

use super::{Folder, block, payloads};
use crate::spool::{Spool, SpoolOptions};
use hopgap_proto::time::Mono;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug)]
enum Step {
    Append,
    Sync,
    /// Deliver a batch; the collector takes this share of it.
    Deliver {
        max: usize,
        taken: prop::sample::Index,
    },
    /// Lose power: this share of what was not flushed is gone, and what is gone
    /// was perhaps written as zeros; perhaps the cursor is an old one.
    Crash {
        kept: prop::sample::Index,
        zeros: bool,
        old_cursor: bool,
    },
    /// End in order and start again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Append),
        2 => Just(Step::Sync),
        4 => (1usize..400, any::<prop::sample::Index>())
            .prop_map(|(max, taken)| Step::Deliver { max, taken }),
        1 => (any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
            .prop_map(|(kept, zeros, old_cursor)| Step::Crash { kept, zeros, old_cursor }),
        1 => Just(Step::Restart),
    ]
}

/// What must hold of the spool, in numbers of blocks.
#[derive(Default)]
struct Model {
    /// The blocks that are to come, in order; a crash takes numbers out at the end.
    pending: Vec<u32>,
    appended: u32,
    /// How many of the pending ones are on the disk for certain.
    durable: usize,
    /// What was acknowledged and may come again after a crash, oldest first.
    acknowledged: Vec<u32>,
}

fn options() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 200,
        ..SpoolOptions::default()
    }
}

fn lengths(folder: &Folder) -> BTreeMap<PathBuf, u64> {
    let entries = std::fs::read_dir(&folder.0).unwrap().map(Result::unwrap);
    entries
        .filter(|e| e.path().extension() == Some("seg".as_ref()))
        .map(|e| (e.path(), e.metadata().unwrap().len()))
        .collect()
}

fn numbers(payloads: Vec<Vec<u8>>) -> Vec<u32> {
    payloads
        .iter()
        .map(|p| u32::from_le_bytes(p[..4].try_into().unwrap()))
        .collect()
}

fn deliver(
    spool: &mut Spool,
    max: usize,
    taken: Option<prop::sample::Index>,
) -> Option<(Vec<u32>, usize)> {
    let batch = spool.next_batch(max).unwrap()?;
    let bytes = match taken {
        Some(taken) => taken.index(batch.bytes.len() + 1),
        None => batch.bytes.len(),
    };
    spool.acknowledge(batch.cursor_after(bytes as u64)).unwrap();
    Some((numbers(payloads(&batch)), bytes / 60))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_durable_is_lost_and_nothing_comes_out_of_order(steps in prop::collection::vec(step(), 1..80)) {
        let folder = Folder::new();
        let mut spool = folder.open(options());
        let mut model = Model::default();
        let mut flushed = lengths(&folder);
        let mut cursors: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            match step {
                Step::Append => {
                    spool.append(&block(model.appended), Mono::ZERO).unwrap();
                    model.pending.push(model.appended);
                    model.appended += 1;
                }
                Step::Sync => spool.sync().unwrap(),
                Step::Deliver { max, taken } => match deliver(&mut spool, max, Some(taken)) {
                    None => prop_assert!(model.pending.is_empty()),
                    Some((got, taken)) => {
                        prop_assert_eq!(&got[..], &model.pending[..got.len()]);
                        let gone: Vec<u32> = model.pending.drain(..taken).collect();
                        model.acknowledged.extend(gone);
                        model.durable = model.durable.saturating_sub(taken);
                        cursors.extend(std::fs::read(folder.0.join("cursor")));
                    }
                },
                Step::Restart => {
                    drop(spool);
                    spool = folder.open(options());
                    prop_assert_eq!(spool.take_lost(), 0);
                }
                Step::Crash { kept, zeros, old_cursor } => {
                    drop(spool);
                    for (path, length) in lengths(&folder) {
                        let safe = flushed.get(&path).copied().unwrap_or(0);
                        let open = usize::try_from(length - safe).unwrap();
                        let keep = safe + kept.index(open + 1) as u64;
                        let file = std::fs::File::options().write(true).open(&path).unwrap();
                        file.set_len(keep).unwrap();
                        if zeros {
                            file.set_len(length).unwrap();
                        }
                    }
                    if old_cursor && !cursors.is_empty() {
                        let old = &cursors[kept.index(cursors.len())];
                        std::fs::write(folder.0.join("cursor"), old).unwrap();
                    }
                    spool = folder.open(options());
                    spool.take_lost();
                    // What comes now: perhaps some that were acknowledged, then all
                    // that are durable, then perhaps some that were not flushed.
                    let mut got = Vec::new();
                    while let Some((numbers, _)) = deliver(&mut spool, 1 << 20, None) {
                        got.extend(numbers);
                    }
                    let all: Vec<u32> = model.acknowledged.iter().chain(&model.pending).copied().collect();
                    let start = got.first().and_then(|f| all.iter().position(|n| n == f));
                    let start = start.unwrap_or(model.acknowledged.len());
                    prop_assert!(old_cursor || start >= model.acknowledged.len());
                    prop_assert_eq!(&got[..], &all[start..start + got.len()]);
                    // What was acknowledged before it was flushed need not be here any more.
                    if model.durable > 0 {
                        prop_assert!(start + got.len() >= model.acknowledged.len() + model.durable);
                    }
                    model.acknowledged = got;
                    model.pending.clear();
                    model.durable = 0;
                    cursors.clear();
                }
            }
            if spool.unsynced_since.is_none() {
                flushed = lengths(&folder);
                model.durable = model.pending.len();
            } else {
                // A segment that was left is flushed whole.
                let newest = spool.newest().path(&folder.0);
                for (path, length) in lengths(&folder) {
                    if path != newest {
                        flushed.insert(path, length);
                    }
                }
            }
        }
        let mut rest = Vec::new();
        while let Some((numbers, _)) = deliver(&mut spool, 100, None) {
            rest.extend(numbers);
        }
        prop_assert_eq!(rest, model.pending);
    }
}
