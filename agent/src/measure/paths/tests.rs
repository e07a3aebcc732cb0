use super::{plan, without_hop};
use crate::cli::PathOption;
use hopgap_proto::plan::{PathRole, Plan};

fn options(given: &[&str]) -> Vec<PathOption> {
    given.iter().map(|o| o.parse().unwrap()).collect()
}

#[test]
fn both_conditions_of_one_name_are_one_path() {
    let given = options(&[
        "expressroute=192.168.11.18",
        "vpn=hop:3",
        "expressroute=hop:5",
        "expressroute=192.168.11.22",
        "inet=10.0.0.1",
    ]);
    let paths = plan(&given).unwrap();
    let told: Vec<_> = paths
        .iter()
        .map(|p| (p.name.as_str(), p.role, p.passes.len(), p.target_at_hop))
        .collect();
    assert_eq!(
        told,
        [
            ("expressroute", PathRole::Primary, 2, Some(5)),
            ("vpn", PathRole::Backup, 0, Some(3)),
            ("inet", PathRole::Backup, 1, None),
        ]
    );
    let plan = Plan {
        paths,
        ..Plan::default()
    };
    let without: Vec<_> = without_hop(&plan).iter().map(|n| n.to_string()).collect();
    assert_eq!(without, ["inet"]);
}

#[test]
fn two_lengths_of_one_path_are_refused() {
    let error = plan(&options(&["vpn=hop:3", "vpn=hop:3", "vpn=hop:4"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the path `vpn` is given hop 3 and hop 4; give it one of them"
    );
}
