//! What each target of the collector's own files does with its bytes.

use hopgap_collector::plan::{CollectorPlan, PlanFileError};
use hopgap_collector::store::{Incoming, Kind, Reader, Store};
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::time::{Span, Wall};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The plan as its author wrote it.
pub(crate) fn collector_plan(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    match CollectorPlan::parse(text, Path::new("plan.toml")) {
        Ok(plan) => {
            // The agents check it again and must find the same.
            assert_eq!(plan.plan.clone().checked().as_ref(), Ok(&plan.plan));
            let _ = plan.may_listen_at(plan.settings.listen);
            assert_eq!(plan.server_names().len(), plan.settings.names.len());
        }
        Err(error) => {
            assert!(error.to_string().contains("plan.toml"), "{error}");
            if let PlanFileError::Value {
                line: Some(line), ..
            } = error
            {
                assert!((1..=text.matches('\n').count() + 1).contains(&line));
            }
        }
    }
}

/// A store whose sealed files anything can have happened to.
struct Sealed {
    dir: PathBuf,
    files: Vec<PathBuf>,
    reader: Reader,
}

impl Sealed {
    fn new() -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("hopgap-fuzz-store-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let mut store = Store::open(&dir).ok()?;
        let stretch = Synthetic::new(3, 2, Span::from_millis(10)).ok()?.stretch(6);
        let blocks = [stretch.probes, stretch.receptions]
            .iter()
            .map(|block| Incoming::read(&block.encode(Span::from_nanos(100)).ok()?).ok())
            .collect::<Option<Vec<_>>>()?;
        let at = blocks.first()?.header.closed.wall;
        store.append(&blocks, at).ok()?;
        let later = at + Span::from_secs(7_200);
        let files = store.seal(later, Span::from_secs(60)).ok()?;
        let reader = Reader::open(&dir).ok()?;
        Some(Self { dir, files, reader })
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

thread_local! {
    static SEALED: OnceCell<Sealed> = const { OnceCell::new() };
}

/// A sealed file of the store. A panic of the crate `parquet` is a damaged file to the store,
/// which catches it; the fuzzer would end at it. Any other stays what it is.
pub(crate) fn segment(bytes: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic
                .location()
                .is_some_and(|at| at.file().contains("/parquet-"))
            {
                before(panic);
            }
        }));
    });
    SEALED.with(|sealed| {
        let sealed = sealed.get_or_init(|| match Sealed::new() {
            Some(sealed) => sealed,
            None => unreachable!("the store takes and seals two blocks"),
        });
        assert_eq!(sealed.files.len(), 2);
        for file in &sealed.files {
            let written = std::fs::write(file, bytes);
            assert!(written.is_ok(), "{written:?}");
        }
        let Ok(session) = "synthetic".parse() else {
            unreachable!("it is a name");
        };
        for kind in [Kind::Probes, Kind::Receptions] {
            let _ = sealed
                .reader
                .records(&session, &[kind], Wall::MIN, Wall::MAX);
        }
    });
}
