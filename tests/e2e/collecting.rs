//! The collector's programs on a store.

use crate::programs::program;
use crate::world::{sealed, wait_until};
use std::path::{Path, PathBuf};

fn collector() -> PathBuf {
    program("hopgap-collector")
}

#[test]
fn a_store_at_rest_is_read_without_the_right_to_write_there() {
    sealed(&[&collector], |world| {
        let here = world.host("here");
        let plan = world.file("plan.toml", "[collector]\nlisten = \"127.0.0.1:8620\"\n");
        let plan = plan.to_str().unwrap();
        let store = Path::new("/run/a store? 100%");
        let name = store.to_str().unwrap();
        let mut serving = here.start(&collector(), &["serve", "--plan", plan, "--store", name]);
        wait_until("the collector answers", || {
            serving.assert_runs();
            !here.run("ss", &["-Hltn", "sport = :8620"]).is_empty()
        });
        here.finish(&collector(), &["drill", "start", "night"])
            .success();
        let stopped = here.finish(&collector(), &["drill", "stop"]).success();
        assert!(
            stopped.ends_with("report 'night' --store '/run/a store? 100%'\n"),
            "{stopped}"
        );
        let served = serving.interrupt();
        assert!(served.stderr.contains("listening on"), "{served:?}");
        assert!(
            !served.stderr.contains('\u{1b}'),
            "colours in a file: {served:?}"
        );
        served.success();

        // The owner's, but without the capability that overrides the mode.
        std::fs::set_permissions(store, std::os::unix::fs::PermissionsExt::from_mode(0o555))
            .unwrap();
        let collector = collector();
        let report = [
            "--bounding-set=-all",
            "--inh-caps=-all",
            collector.to_str().unwrap(),
            "report",
            "--store",
            name,
        ];
        // The drill was found, and that it is empty.
        let report = here.finish(Path::new("setpriv"), &report).sentence();
        assert!(
            report
                .starts_with("hopgap-collector: the store /run/a store? 100% has no record from "),
            "{report}"
        );
    });
}
