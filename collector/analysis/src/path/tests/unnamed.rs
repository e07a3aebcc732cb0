//! Lines of a plan for routes without a name.

use super::{forward, reverse};
use crate::findings::{Direction, Findings};
use crate::input::Input;
use crate::scenario::{PRIMARY, SECONDARY, VPN, World, line, world};
use hopgap_proto::plan::{PathPlan, PathRole};

/// Five seconds over the circuit, then over the VPN, traced each second.
fn moved() -> World {
    let hops = format!("{}{}", "5".repeat(500), "3".repeat(500));
    let mut world = world(&[line(&".".repeat(1000)).forward(&hops).reverse(&hops)]);
    for slot in (50..1000).step_by(100) {
        let hops = if slot < 500 { &PRIMARY[..] } else { &VPN[..] };
        world = world.trace(0, slot, hops);
    }
    world
}

fn without_paths(world: &World) -> Input {
    let mut input = world.input();
    input.plan.paths.clear();
    input
}

fn lines(found: &Findings) -> Vec<&str> {
    found
        .unnamed_routes
        .iter()
        .map(|r| r.plan_lines.as_deref().unwrap())
        .collect()
}

/// The paths of such lines, as a plan's reader takes them.
fn declared(lines: &[&str]) -> Vec<PathPlan> {
    lines
        .iter()
        .map(|lines| {
            let value = |key: &str| {
                let line = lines.lines().find(|l| l.starts_with(key))?;
                let value = line.split(" = ").nth(1)?.split(" #").next()?;
                Some(value.trim_matches(['"', '[', ']']).to_owned())
            };
            assert!(lines.starts_with("[[path]]\n"), "{lines}");
            PathPlan {
                name: value("name").unwrap().parse().unwrap(),
                role: match value("role").unwrap().as_str() {
                    "primary" => PathRole::Primary,
                    _ => PathRole::Backup,
                },
                passes: value("passes").iter().map(|a| a.parse().unwrap()).collect(),
                target_at_hop: value("target_at_hop").map(|h| h.parse().unwrap()),
            }
        })
        .collect()
}

#[test]
fn the_lines_that_are_offered_name_the_routes() {
    let mut input = without_paths(&moved());
    let found = crate::analyse(&input);
    assert_eq!(
        lines(&found),
        [
            "[[path]]\nname = \"path-1\"\nrole = \"primary\" # or \"backup\"\npasses = [\"192.168.11.0\"]\ntarget_at_hop = 5\n",
            "[[path]]\nname = \"path-2\"\nrole = \"backup\" # or \"primary\"\ntarget_at_hop = 3\n",
        ]
    );
    let route = &found.unnamed_routes[0];
    assert_eq!(
        (route.direction, &route.flows[..]),
        (Direction::Forward, &[0][..])
    );
    assert_eq!(
        (route.from.as_str(), route.to.as_str()),
        ("onprem", "azure")
    );
    assert_eq!(route.hops.len(), 5);

    input.plan.paths = declared(&lines(&found));
    let named = crate::analyse(&input);
    assert!(
        named.unnamed_routes.is_empty(),
        "{:?}",
        named.unnamed_routes
    );
    let names: Vec<_> = forward(&named)
        .iter()
        .map(|e| e.0.unwrap().to_owned())
        .collect();
    assert_eq!(names, ["path-1", "path-2"]);
    let back: Vec<_> = reverse(&named)
        .iter()
        .map(|e| e.0.unwrap().to_owned())
        .collect();
    assert_eq!(back, ["path-1", "path-2"]);
}

#[test]
fn two_routes_of_one_length_are_told_apart_by_an_address() {
    let mut world = world(&[line(&".".repeat(1000)), line(&".".repeat(1000))]);
    for slot in (50..1000).step_by(100) {
        world = world
            .trace(0, slot, &PRIMARY)
            .trace(1, slot + 1, &SECONDARY);
    }
    let mut input = without_paths(&world);
    let found = crate::analyse(&input);
    let passes: Vec<&str> = lines(&found)
        .iter()
        .map(|l| l.lines().nth(3).unwrap())
        .collect();
    assert_eq!(
        passes,
        ["passes = [\"192.168.11.0\"]", "passes = [\"192.168.11.4\"]"]
    );
    input.plan.paths = declared(&lines(&found));
    let named = crate::analyse(&input);
    let name = |flow: usize| named.sessions[0].flows[flow].forward_paths[0].path.clone();
    assert_eq!(
        (name(0), name(1)),
        (Some("path-1".to_owned()), Some("path-2".to_owned()))
    );
}

#[test]
fn where_every_route_has_a_name_nothing_is_offered() {
    assert!(moved().analyse().unnamed_routes.is_empty());
}

#[test]
fn a_loop_for_a_moment_is_no_path() {
    let hops = format!("{}{}{}", "5".repeat(500), "7".repeat(20), "5".repeat(500));
    let found = world(&[line(&".".repeat(1020)).forward(&hops)]).analyse();
    assert_eq!(forward(&found).len(), 3);
    assert!(
        found.unnamed_routes.is_empty(),
        "{:?}",
        found.unnamed_routes
    );
}

#[test]
fn only_what_is_not_declared_is_offered_and_under_a_new_name() {
    let mut input = moved().input();
    input.plan.paths.truncate(2);
    input.plan.paths[0].name = "path-1".parse().unwrap();
    let found = crate::analyse(&input);
    let [offered] = lines(&found)[..] else {
        panic!("{:?}", found.unnamed_routes)
    };
    assert!(offered.contains("name = \"path-2\""), "{offered}");
    assert!(offered.contains("target_at_hop = 3"), "{offered}");
    assert!(!offered.contains("passes"), "{offered}");
}
