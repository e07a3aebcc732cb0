//! `drill …`: the person at the collector says what happens.

use super::{Failure, ServerArgs, Time, print, show};
use crate::plan::DEFAULT_STORE;
use crate::serve::{DrillBody, DrillRequest, MarkerRequest, StopRequest, TimeText};
use crate::store::MarkerKind;
use clap::{Args, Subcommand};
use hopgap_analysis::schema::Utc;
use hopgap_analysis::text;
use hopgap_proto::time::Span;

#[derive(Debug, Subcommand)]
pub(super) enum DrillCommand {
    /// Start a drill
    Start {
        /// Its name, for the report
        name: String,
        #[command(flatten)]
        when: WhenArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Note what is being done, for the report
    Mark {
        /// What is being done, such as "primary peering disabled"
        text: String,
        /// Traffic is now moved away from the primary path
        #[arg(long, conflicts_with = "failback")]
        failover: bool,
        /// Traffic is now moved back to the primary path
        #[arg(long)]
        failback: bool,
        #[command(flatten)]
        when: WhenArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Stop the drill that is running
    Stop {
        #[command(flatten)]
        when: WhenArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List all drills, the newest first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// When something happened.
#[derive(Debug, Args)]
pub(super) struct WhenArgs {
    /// When it was, instead of now: 2026-11-23T02:00:00Z, or a time ago such as -90s
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<Time>,
}

impl WhenArgs {
    fn text(&self) -> Option<TimeText> {
        self.at.map(|t| TimeText(t.0))
    }
}

/// Returns the shell command that shows the report of a drill.
fn report_command(drill: &str, store: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut command = format!("hopgap-collector report {}", quoted(drill));
    if store != DEFAULT_STORE {
        command.push_str(" --store ");
        command.push_str(&quoted(store));
    }
    command
}

/// Usual time from a drill's end until the records of both ends have arrived. Blocks are
/// closed every 10 s, a probe's fate is certain after its timeout, and that an agent
/// received nothing is certain with its next block.
const RECORDS_IN: Span = Span::from_secs(30);

/// Returns the text for a stopped drill: its report, and when that is final.
fn stopped(drill: &DrillBody, store: &str) -> String {
    let command = report_command(&drill.name, store);
    let end = drill.stopped.as_ref().map(|at| Utc(at.0 + RECORDS_IN));
    let when = end.map_or_else(String::new, |at| {
        format!(" (by about {} UTC)", text::strftime(at, "%H:%M:%S"))
    });
    format!(
        "drill `{}` stopped\n\
         the final report, when the records of both ends are in{when}: {command} --wait\n\
         at once, PRELIMINARY until then: {command}\n",
        drill.name
    )
}

pub(super) fn run(command: DrillCommand) -> Result<(), Failure> {
    match command {
        DrillCommand::Start { name, when, server } => {
            let request = DrillRequest {
                name,
                at: when.text(),
                id: None,
                until: None,
            };
            let drill = server.client()?.start(&request)?;
            print(&format!(
                "drill `{}` started at {}\n",
                drill.name,
                show::time(drill.started)
            ))
        }
        DrillCommand::Mark {
            text,
            failover,
            failback,
            when,
            server,
        } => {
            let kind = match (failover, failback) {
                (true, _) => MarkerKind::Failover,
                (_, true) => MarkerKind::Failback,
                _ => MarkerKind::Note,
            };
            let request = MarkerRequest {
                text,
                kind,
                at: when.text(),
                id: None,
                until: None,
            };
            let marker = server.client()?.mark(&request)?;
            let at = marker.at.map_or_else(|| "now".to_owned(), show::time);
            print(&format!(
                "{} at {at}: {}\n",
                marker.kind.name(),
                marker.text
            ))
        }
        DrillCommand::Stop { when, server } => {
            let client = server.client()?;
            let drill = client.stop(&StopRequest {
                at: when.text(),
                ..StopRequest::default()
            })?;
            // The drill stays stopped also where this request fails.
            let store = client
                .status()
                .map_or_else(|_| DEFAULT_STORE.to_owned(), |s| s.store);
            print(&stopped(&drill, &store))
        }
        DrillCommand::List { json, server } => {
            let drills = server.client()?.drills()?;
            print(&if json {
                serde_json::to_string_pretty(&drills)? + "\n"
            } else {
                show::drills(&drills)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::report_command;

    #[test]
    fn the_hint_after_a_drill_can_be_pasted() {
        assert_eq!(
            report_command("CHG0042", "/var/lib/hopgap"),
            "hopgap-collector report 'CHG0042'"
        );
        assert_eq!(
            report_command("Bob's", "/srv/my store"),
            r"hopgap-collector report 'Bob'\''s' --store '/srv/my store'"
        );
    }
}
