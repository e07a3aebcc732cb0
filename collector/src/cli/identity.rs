//! `agent …`: the agents that have joined; and code shared with `token …`.

use super::{Failure, print, show};
use crate::clock;
use crate::identity::{Catalogue, open};
use crate::plan::CollectorPlan;
use crate::store::{Reader, Store, StoreError};
use clap::{Args, Subcommand};
use hopgap_proto::record::AgentName;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// List the agents that have joined, with their newest certificate
    List {
        #[command(flatten)]
        identity: IdentityArgs,
    },
    /// Refuse all certificates of an agent from its next request on
    Revoke {
        /// The agent
        name: AgentName,
        #[command(flatten)]
        identity: IdentityArgs,
    },
    /// Give an agent another name; it keeps its certificate, and its records move along
    Rename {
        /// Its name now
        old: AgentName,
        /// Its name from now on
        new: AgentName,
        #[command(flatten)]
        identity: IdentityArgs,
    },
}

/// Which collector's agents and tokens.
#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    /// The plan file, which names the store
    #[arg(
        short,
        long,
        default_value = "/etc/hopgap/plan.toml",
        value_name = "FILE"
    )]
    plan: PathBuf,
    /// The store's directory, instead of the one in the plan
    #[arg(short, long, value_name = "DIR", conflicts_with = "plan")]
    store: Option<PathBuf>,
}

impl IdentityArgs {
    /// The store's directory.
    pub(super) fn store(&self) -> Result<PathBuf, Failure> {
        match &self.store {
            Some(store) => Ok(store.clone()),
            None => Ok(CollectorPlan::load(&self.plan)?.settings.store),
        }
    }

    /// The plan, unless the store was named without it.
    pub(super) fn plan_file(&self) -> Option<&Path> {
        self.store.is_none().then_some(self.plan.as_path())
    }
}

pub(super) fn run(command: AgentCommand) -> Result<(), Failure> {
    match command {
        AgentCommand::List { identity } => list(&identity.store()?),
        AgentCommand::Revoke { name, identity } => {
            let (_, mut catalogue) = open(&identity.store()?)?;
            let revoked = catalogue.revoke_agent(&name, clock::now())?;
            print(&format!(
                "agent `{name}` is revoked ({revoked} valid certificate{}); to let it in again: hopgap-collector token create --agent {name}\n",
                if revoked == 1 { "" } else { "s" }
            ))
        }
        AgentCommand::Rename { old, new, identity } => rename(&identity.store()?, &old, &new),
    }
}

fn list(store: &Path) -> Result<(), Failure> {
    let (_, catalogue) = open(store)?;
    let now = clock::now();
    let agents = catalogue.agents(now)?;
    if agents.is_empty() {
        return print(
            "no agent has joined; let one join with: hopgap-collector token create --agent NAME\n",
        );
    }
    let heard = match Reader::open(store) {
        Ok(reader) => reader.agents()?,
        // There is no store before the collector's first start.
        Err(StoreError::Missing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let rows = agents.iter().map(|agent| {
        let seen = heard.iter().find(|a| a.agent == agent.name);
        let certificate = &agent.certificate;
        let state = match certificate.revoked {
            Some(at) => format!("revoked {}", show::wall(at)),
            None if agent.valid == 0 => "expired".to_owned(),
            None => "valid".to_owned(),
        };
        vec![
            agent.name.to_string(),
            certificate.serial.clone(),
            show::wall(certificate.expires),
            state,
            seen.map_or_else(|| "never".to_owned(), |a| show::wall(a.last_seen)),
        ]
    });
    print(&with_head(
        &["AGENT", "SERIAL", "EXPIRES", "STATE", "LAST SEEN"],
        rows,
    ))
}

fn rename(store: &Path, old: &AgentName, new: &AgentName) -> Result<(), Failure> {
    let (_, mut catalogue) = open(store)?;
    catalogue.rename(old, new, clock::now())?;
    let moved = move_records(store, &mut catalogue)?;
    let records = if moved {
        "its records are, too"
    } else {
        "the running collector renames its records within seconds"
    };
    print(&format!(
        "agent `{old}` is `{new}`; {records}, so that new reports on past drills show `{new}` (reports already written stay as they are)\n\
         now write `{new}` for `{old}` into the plan, and `name = \"{new}\"` into the agent's configuration, and restart the agent\n"
    ))
}

/// Renames the records of renamed agents; returns false where a running collector does it.
fn move_records(store: &Path, catalogue: &mut Catalogue) -> Result<bool, Failure> {
    match Store::open(store) {
        Ok(mut records) => {
            for renaming in catalogue.renamings()? {
                records.rename_agent(&renaming.old, &renaming.new)?;
                catalogue.renamed(&renaming)?;
            }
            Ok(true)
        }
        Err(StoreError::InUse { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns a table with a header row.
pub(super) fn with_head(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    show::table(&all)
}
