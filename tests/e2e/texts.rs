//! What the programs print of themselves.

use crate::programs::program;
use std::path::PathBuf;
use std::process::Command;

fn said(program: &PathBuf, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        // As wide as clap wraps where it knows no terminal.
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The help of a program and of all its subcommands, one after the other.
fn help(program: &PathBuf) -> String {
    let mut all = String::new();
    let mut waiting = vec![Vec::new()];
    while let Some(command) = waiting.pop() {
        let text = said(program, &[&command[..], &["--help"]].concat());
        for name in subcommands(&text).into_iter().rev() {
            let mut command = command.clone();
            command.push(&*name.leak());
            waiting.push(command);
        }
        all.push_str(&format!(
            "$ {}\n{text}\n",
            [&command[..], &["--help"]].concat().join(" ")
        ));
    }
    all
}

fn subcommands(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_agents_help_is_as_it_was_reviewed() {
    insta::assert_snapshot!(help(&program("hopgap-agent")));
}

#[test]
fn the_collectors_help_is_as_it_was_reviewed() {
    insta::assert_snapshot!(help(&program("hopgap-collector")));
}

#[test]
fn every_shell_completes_every_subcommand() {
    for name in ["hopgap-agent", "hopgap-collector"] {
        let program = program(name);
        let known = subcommands(&said(&program, &["--help"]));
        assert!(known.len() > 5, "{known:?}");
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = said(&program, &["completions", shell]);
            for subcommand in &known {
                assert!(script.contains(subcommand), "{name} {shell} {subcommand}");
            }
        }
        // The script must be one: bash reads it without running anything.
        let script = said(&program, &["completions", "bash"]);
        let checked = Command::new("bash")
            .args(["-n", "-c", &script])
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn the_manual_page_names_the_program_its_version_and_every_subcommand() {
    for name in ["hopgap-agent", "hopgap-collector"] {
        let program = program(name);
        let page = said(&program, &["man"]);
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        let version = said(&program, &["--version"]);
        assert_eq!(version, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        assert!(page.contains(env!("CARGO_PKG_VERSION")), "{page}");
        for subcommand in subcommands(&said(&program, &["--help"])) {
            let listed = format!("{name}-{subcommand}(1)").replace('-', "\\-");
            assert!(page.contains(&listed), "{listed} in {page}");
        }
    }
}
