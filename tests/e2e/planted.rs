//! Links that somebody planted where a report is to be written as root.

use crate::programs::program;
use crate::sealed_hours::{SESSIONS, STORE, bounds, deliver, minute, serve, then};
use crate::world::sealed;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn collector() -> PathBuf {
    program("hopgap-collector")
}

/// Where planted links lead.
const VICTIM: &str = "/run/scratch/victim";

#[test]
fn a_report_follows_no_planted_link() {
    sealed(&[&collector], |world| {
        let [server, _] = world.row(["server", "other"]);
        let begin = then();
        let serving = serve(world, &server);
        for block in minute(SESSIONS[0], begin) {
            deliver(&server, &block);
        }
        serving.interrupt().success();
        let [from, to] = bounds(&server, begin);
        let report = |more: &[&str]| {
            let asked = ["report", "--store", STORE, "--from", &from, "--to", &to];
            let report = server.finish(&collector(), &[&asked[..], more].concat());
            assert_eq!(report.code, Some(0), "{report:?}");
            assert_eq!(std::fs::read_to_string(VICTIM).unwrap(), "mine");
        };
        world.file("victim", "mine");
        let out = Path::new("/run/scratch/out");
        std::fs::create_dir(out).unwrap();
        let files = ["report.html", "report.txt", "report.json"];
        for name in files {
            // Under the name itself, and under all names that a new file might have first.
            symlink(VICTIM, out.join(name)).unwrap();
            symlink(VICTIM, out.join(format!(".{name}.new"))).unwrap();
            for pid in 1..2_000 {
                let new = out.join(format!(".{name}.{pid}-0.new"));
                symlink(VICTIM, new).unwrap();
            }
        }
        report(&["--out", "/run/scratch/out"]);
        for name in files {
            let file = std::fs::symlink_metadata(out.join(name)).unwrap();
            assert!(file.file_type().is_file() && file.len() > 100, "{name}");
        }
        // A single file.
        symlink(VICTIM, "/run/scratch/single.json").unwrap();
        report(&["--format", "json", "--out", "/run/scratch/single.json"]);
    });
}
