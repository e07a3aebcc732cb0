//! The paths that `--path` names.

use crate::cli::{PathCondition, PathOption};
use hopgap_proto::plan::{PathPlan, PathRole, Plan};
use hopgap_proto::record::PathName;

/// Why the options name no paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathsError {
    /// A path has one length.
    #[error("the path `{name}` is given hop {first} and hop {second}; give it one of them")]
    TwoHops {
        /// Its name.
        name: PathName,
        /// The hop given first.
        first: u8,
        /// The hop given then.
        second: u8,
    },
}

/// Returns the named paths, in the order in which their names were first given. Merges the
/// conditions of one name. The first path is where traffic belongs.
pub(super) fn plan(options: &[PathOption]) -> Result<Vec<PathPlan>, PathsError> {
    let mut paths: Vec<PathPlan> = Vec::new();
    for option in options {
        let role = if paths.is_empty() {
            PathRole::Primary
        } else {
            PathRole::Backup
        };
        let at = match paths.iter().position(|p| p.name == option.name) {
            Some(at) => at,
            None => {
                paths.push(PathPlan {
                    name: option.name.clone(),
                    role,
                    passes: Vec::new(),
                    target_at_hop: None,
                });
                paths.len() - 1
            }
        };
        let Some(path) = paths.get_mut(at) else {
            continue;
        };
        match (option.condition, path.target_at_hop) {
            (PathCondition::Passes(address), _) => path.passes.push(address),
            (PathCondition::TargetAtHop(second), Some(first)) if first != second => {
                return Err(PathsError::TwoHops {
                    name: option.name.clone(),
                    first,
                    second,
                });
            }
            (PathCondition::TargetAtHop(hop), _) => path.target_at_hop = Some(hop),
        }
    }
    Ok(paths)
}

/// Returns the paths without a hop, which cannot name the way back.
pub(super) fn without_hop(plan: &Plan) -> Vec<PathName> {
    let without = plan.paths.iter().filter(|p| p.target_at_hop.is_none());
    without.map(|p| p.name.clone()).collect()
}

#[cfg(test)]
mod tests;
