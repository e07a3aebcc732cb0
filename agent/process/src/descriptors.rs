//! The limit on files and sockets that this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Returns the soft limit now in force; `None` where there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the soft limit of open files to the hard one. The soft limit is low for programs
/// that use `select(2)` (by default 1024), which these are not.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        let most = limit
            .current
            .map_or_else(|| "any number of".to_owned(), |n| n.to_string());
        warn!(
            "this process may open {most} files only, and the limit cannot be raised: {error}; set LimitNOFILE in its unit"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let low = Rlimit {
            current: Some(200),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        assert_eq!(limit(), Some(200));
        raise_limit();
        assert_eq!(limit(), hard);
    }
}
