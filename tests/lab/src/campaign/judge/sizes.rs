//! The path MTU of each pair of paths.

use super::Judgement;
use super::report::{PathMtu, Report};
use crate::campaign::scenario::{PathSpec, Scenario};

/// What the hosts' own interfaces carry.
const INTERFACE: u16 = 1500;

impl Judgement {
    /// What is reported of pairs of paths that are named for certain, and that
    /// anything is where a search was to be made.
    pub(super) fn compare_sizes(&mut self, scenario: &Scenario, report: &Report) {
        if scenario.path_mtu_interval.as_nanos() == 0 {
            return;
        }
        for session in &report.findings.sessions {
            for said in &session.path_mtu {
                let spec = |name: &Option<String>| {
                    let name = name.as_deref()?;
                    scenario.paths.iter().find(|path| path.name == name)
                };
                let (Some(out), Some(back)) = (spec(&said.forward), spec(&said.reverse)) else {
                    continue;
                };
                self.compare_size(&session.session, said, [out, back]);
            }
            // The symmetric pair of every path that the scenario stays on.
            for path in &scenario.paths {
                let has = session.path_mtu.iter().any(|said| {
                    [&said.forward, &said.reverse]
                        .iter()
                        .all(|name| name.as_deref() == Some(path.name.as_str()))
                });
                self.sizes.count(has);
                if !has {
                    let what = format!("no path MTU of {} is reported", path.name);
                    self.wrong(&session.session, what);
                }
            }
        }
    }

    fn compare_size(&mut self, label: &str, said: &PathMtu, [out, back]: [&PathSpec; 2]) {
        let bytes = out.mtu.min(back.mtu).min(INTERFACE);
        // A router on the way back tells the reflector's host, not the sender.
        let limit = match bytes {
            INTERFACE => "interface",
            _ if out.mtu == bytes && !out.black_hole => "router",
            _ => "silent",
        };
        let right = said.bytes == bytes && said.limit == limit;
        self.sizes.count(right);
        if !right {
            let what = format!(
                "the path MTU by {} and back by {} is reported as {} ({}); truly it is {bytes} ({limit})",
                out.name, back.name, said.bytes, said.limit
            );
            self.wrong(label, what);
        }
    }
}
