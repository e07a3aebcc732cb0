//! Runs the committed corpus of the fuzz targets, so that what fuzzing once found
//! stays found without a nightly compiler.

#[path = "../../tests/fuzz/src/targets.rs"]
mod targets;

use std::path::{Path, PathBuf};

fn replay(target: &str, run: fn(&[u8])) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    assert!(files.len() >= 5, "{} has lost its seeds", folder.display());
    for file in files {
        #[expect(
            clippy::disallowed_methods,
            reason = "the crate does no I/O; its corpus is files"
        )]
        let bytes = std::fs::read(&file)?;
        // Cut short anywhere, too.
        for len in 0..=bytes.len() {
            run(&bytes[..len]);
        }
    }
    Ok(())
}

#[test]
fn stamp_sender() -> std::io::Result<()> {
    replay("stamp_sender", targets::stamp_sender)
}

#[test]
fn stamp_reflector() -> std::io::Result<()> {
    replay("stamp_reflector", targets::stamp_reflector)
}

#[test]
fn tlv() -> std::io::Result<()> {
    replay("tlv", targets::tlv)
}

#[test]
fn icmp_quote() -> std::io::Result<()> {
    replay("icmp_quote", targets::icmp_quote)
}
