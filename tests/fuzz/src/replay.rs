//! Runs the committed corpus of a target, so that what fuzzing once found stays found
//! without a nightly compiler. The crates' own tests include this file.

use std::path::{Path, PathBuf};

/// Runs every file in `corpus/TARGET`, whole and cut short: at about `cuts` places, or
/// behind every byte.
pub(crate) fn replay(target: &str, cuts: Option<usize>, run: fn(&[u8])) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("tests/fuzz/corpus").join(target))
        .find(|dir| dir.is_dir())
        .ok_or_else(|| std::io::Error::other(format!("there is no corpus of {target}")))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    assert!(files.len() >= 5, "{} has lost its seeds", folder.display());
    for file in files {
        let bytes = std::fs::read(&file)?;
        let step = cuts.map_or(1, |cuts| (bytes.len() / cuts).max(1));
        for len in (0..bytes.len()).step_by(step) {
            run(&bytes[..len]);
        }
        run(&bytes);
    }
    Ok(())
}
