//! What each target of the agent's own files does with its bytes.

use hopgap_agent::config::{Config, ConfigError};
use hopgap_agent::spool::{Spool, SpoolOptions};
use hopgap_proto::frame::{FrameError, FrameReader};
use std::path::Path;

/// The configuration file.
pub(crate) fn agent_config(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    match Config::parse(text, Path::new("agent.toml")) {
        Ok(config) => {
            assert!(config.collector.starts_with("http"));
            assert!(config.spool.max_bytes > 0);
        }
        Err(error) => {
            assert!(error.to_string().starts_with("agent.toml"));
            if let ConfigError::Parse { line, column, .. } = error {
                assert!((1..=text.matches('\n').count() + 1).contains(&line));
                assert!((1..=text.len() + 1).contains(&column));
            }
        }
    }
}

/// The spool's directory after anything happened to it: one byte says how many bytes
/// of the rest are the cursor's file, and the others are a segment.
pub(crate) fn spool(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else {
        return;
    };
    let Some((cursor, segment)) = rest.split_at_checked(usize::from(*length)) else {
        return;
    };
    let dir = std::env::temp_dir().join(format!("hopgap-fuzz-spool-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let written = std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(dir.join("0000000000000001.seg"), segment))
        .and_then(|()| match cursor {
            [] => Ok(()),
            _ => std::fs::write(dir.join("cursor"), cursor),
        });
    assert!(written.is_ok(), "{written:?}");
    let delivered = deliver(&dir);
    if cursor.is_empty() {
        // Every whole frame is delivered, in order and once.
        let whole: Vec<u8> = FrameReader::new(segment)
            .filter_map(|frame| match frame {
                Ok(frame) => Some(frame.raw),
                Err(
                    FrameError::NewerVersion { offset, length, .. }
                    | FrameError::UnknownKind { offset, length, .. },
                ) => segment.get(offset..offset + length),
                Err(_) => None,
            })
            .flatten()
            .copied()
            .collect();
        assert!(delivered.starts_with(&whole));
    }
    assert!(delivered.len() <= segment.len());
    // What was acknowledged is not delivered again.
    assert!(deliver(&dir).is_empty());
    let _ = std::fs::remove_dir_all(&dir);
}

fn deliver(dir: &Path) -> Vec<u8> {
    let mut spool = match Spool::open(dir, SpoolOptions::default()) {
        Ok(spool) => spool,
        Err(error) => unreachable!("a damaged spool must open: {error}"),
    };
    let mut delivered = Vec::new();
    loop {
        match spool.next_batch(512) {
            Ok(Some(batch)) => {
                assert!(batch.frames() > 0);
                delivered.extend_from_slice(&batch.bytes);
                spool.acknowledge(batch.cursor_after(u64::MAX));
            }
            Ok(None) => break,
            Err(error) => unreachable!("a damaged spool must be read: {error}"),
        }
    }
    let _ = spool.take_lost();
    delivered
}
