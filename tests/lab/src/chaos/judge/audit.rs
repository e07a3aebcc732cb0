//! What `hopgap-collector audit` says, without what an agent that turned claims of itself.
//!
//! The agent that turned numbers blocks that it never sends, and sends frames that nobody
//! can read: the audit tells both, as it must, and nothing was lost by it. That agent's own
//! numbers and frames are left out. All else counts: every other agent, every block that was
//! stored, be it of the agent that turned, every sealed file and every spool.

use anyhow::{Context, Result};
use serde_json::Value;
use std::process::Output;

/// What an audit came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Audit {
    /// The audit's own verdict, for people.
    pub(super) verdict: String,
    /// What is wrong, beside what the agent that turned claims.
    pub(super) faults: Vec<String>,
    /// What that agent claims, where one has turned.
    pub(super) claimed: Option<Claimed>,
    /// Frames that wait in spools.
    pub(super) waiting: u64,
}

/// What is told of the agent that turned, and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claimed {
    /// Blocks that it numbered and did not send.
    pub(super) missing: u64,
    /// Frames of it that could not be used.
    pub(super) kept_aside: u64,
}

/// What is wrong with an agent's own numbers and frames.
const OWN: [&str; 5] = [
    "missing",
    "kept_aside",
    "probes_twice",
    "probes_missing",
    "probes_unjudged",
];

impl Audit {
    /// Reads what the audit printed; `turned` is the agent that turned, where one has.
    ///
    /// # Errors
    /// When the audit failed, or said something that is none.
    pub(super) fn read(output: &Output, turned: Option<&str>) -> Result<Self> {
        let said: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "the audit failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })?;
        let mut audit = Self::of(&said, turned)?;
        // Whoever has turned, the program and its JSON must say the same.
        if output.status.success() != (said["whole"] == true) {
            audit
                .faults
                .push(format!("it ended with {}", output.status));
        }
        Ok(audit)
    }

    fn of(said: &Value, turned: Option<&str>) -> Result<Self> {
        let mut audit = Self {
            verdict: text(&said["verdict"])?.to_owned(),
            ..Self::default()
        };
        for agent in list(&said["agents"])? {
            let name = text(&agent["agent"])?;
            let has_turned = turned == Some(name);
            if has_turned {
                audit.claimed = Some(Claimed {
                    missing: number(&agent["missing"])?,
                    kept_aside: number(&agent["kept_aside"])?,
                });
            }
            let own = OWN.iter().filter(|_| !has_turned);
            for what in own.chain(&["damaged"]) {
                audit.note(&format!("{name}, {what}"), number(&agent[*what])?);
            }
        }
        let files = list(&said["sealed_file_faults"])?.len();
        audit.note("sealed files that are not right", u64::try_from(files)?);
        for spool in list(&said["spools"])? {
            audit.waiting += number(&spool["waiting"])?;
            for what in ["missing", "different"] {
                let frames = u64::try_from(list(&spool[what])?.len())?;
                audit.note(&format!("{}, {what}", spool["spool"]), frames);
            }
        }
        // A fault that is of none of these kinds is one, too.
        let whole = said["whole"].as_bool().context("no `whole`")?;
        let left_out = audit.claimed.is_some_and(|c| c != Claimed::default());
        if !whole && audit.faults.is_empty() && !left_out {
            audit.faults.push(audit.verdict.clone());
        }
        Ok(audit)
    }

    fn note(&mut self, what: &str, n: u64) {
        if n > 0 {
            self.faults.push(format!("{what}: {n}"));
        }
    }
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("the audit lacks a list")
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("the audit lacks a text")
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().context("the audit lacks a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// An audit of agents `a` and `m` in which nothing is wrong.
    fn whole() -> Value {
        let agent = |name: &str| {
            json!({
                "agent": name, "missing": 0, "kept_aside": 0, "damaged": 0,
                "probes_twice": 0, "probes_missing": 0, "probes_unjudged": 0,
            })
        };
        let spool = json!({"spool": "/s", "waiting": 0, "missing": [], "different": []});
        json!({
            "whole": true,
            "verdict": "whole",
            "agents": [agent("a"), agent("m")],
            "sealed_file_faults": [],
            "spools": [spool],
        })
    }

    /// What is wrong where this place of the audit has this value.
    fn faults(place: &str, value: Value, turned: Option<&str>) -> Vec<String> {
        let mut said = whole();
        said["whole"] = false.into();
        *said.pointer_mut(place).unwrap() = value;
        Audit::of(&said, turned).unwrap().faults
    }

    #[test]
    fn only_what_the_agent_that_turned_claims_is_left_out() {
        let turned = Some("m");
        assert_eq!(Audit::of(&whole(), turned).unwrap().faults, [""; 0]);
        for own in ["missing", "kept_aside"] {
            let [of_a, of_m] = [0, 1].map(|i| format!("/agents/{i}/{own}"));
            assert_eq!(faults(&of_m, 7.into(), turned), [""; 0], "{own}");
            assert_eq!(faults(&of_m, 7.into(), None).len(), 1, "{own}");
            assert_eq!(faults(&of_a, 7.into(), turned), [format!("a, {own}: 7")]);
        }
        // What was stored of it is to be as it was stored.
        assert_eq!(
            faults("/agents/1/damaged", 1.into(), turned),
            ["m, damaged: 1"]
        );
        let key = json!([{"agent": "a", "run": 1, "number": 1}]);
        for place in ["/spools/0/missing", "/spools/0/different"] {
            assert_eq!(faults(place, key.clone(), turned).len(), 1, "{place}");
        }
        assert_eq!(faults("/sealed_file_faults", key, turned).len(), 1);
    }

    #[test]
    fn a_fault_that_is_none_of_the_known_ones_is_one() {
        assert_eq!(faults("/verdict", "odd".into(), Some("m")), ["odd"]);
        assert_eq!(faults("/verdict", "odd".into(), None), ["odd"]);
    }

    #[test]
    fn an_audit_that_lacks_something_is_none() {
        let mut said = whole();
        said["agents"][0]["missing"] = Value::Null;
        assert!(Audit::of(&said, None).is_err());
    }
}
