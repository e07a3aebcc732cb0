//! `drill …`: the person at the collector says what happens.

use super::{Failure, ServerArgs, Time, print, show};
use crate::client::Client;
use crate::serve::{DrillRequest, MarkerRequest, StopRequest, TimeText};
use crate::store::MarkerKind;
use clap::{Args, Subcommand};

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

pub(super) fn run(command: DrillCommand) -> Result<(), Failure> {
    match command {
        DrillCommand::Start { name, when, server } => {
            let request = DrillRequest {
                name,
                at: when.text(),
            };
            let drill = Client::new(&server.url).start(&request)?;
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
            };
            let marker = Client::new(&server.url).mark(&request)?;
            let at = marker.at.map_or_else(|| "now".to_owned(), show::time);
            print(&format!(
                "{} at {at}: {}\n",
                marker.kind.name(),
                marker.text
            ))
        }
        DrillCommand::Stop { when, server } => {
            let drill = Client::new(&server.url).stop(&StopRequest { at: when.text() })?;
            print(&format!(
                "drill `{}` stopped; read it with: hopgap-collector report '{}'\n",
                drill.name, drill.name
            ))
        }
        DrillCommand::List { json, server } => {
            let drills = Client::new(&server.url).drills()?;
            print(&if json {
                serde_json::to_string_pretty(&drills)? + "\n"
            } else {
                show::drills(&drills)
            })
        }
    }
}
