//! `token …`: lets agents join.

use super::identity::{IdentityArgs, with_head};
use super::{Failure, print, show};
use crate::clock;
use crate::identity::{AgentRow, TokenState, open};
use crate::plan::CollectorPlan;
use clap::{Args, Subcommand};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Span;
use hopgap_proto::uplink::TokenId;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token with which one agent may join, once, and print it
    Create(CreateArgs),
    /// List all tokens, the newest first, without their secrets
    List {
        #[command(flatten)]
        identity: IdentityArgs,
    },
    /// Revoke a token that was not used
    Revoke {
        /// The token's number, as in the list
        id: TokenId,
        #[command(flatten)]
        identity: IdentityArgs,
    },
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The agent that may join, by its name in the plan
    #[arg(long, value_name = "NAME")]
    agent: AgentName,
    /// How long the token is good (1s to 168h)
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: Span,
    /// Write the token into a new file, which only its owner may read, instead
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
}

pub(super) fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create(&args),
        TokenCommand::List { identity } => {
            let (_, catalogue) = open(&identity.store()?)?;
            let tokens = catalogue.tokens(clock::now())?;
            if tokens.is_empty() {
                return print(
                    "no token yet; make one with: hopgap-collector token create --agent NAME\n",
                );
            }
            let rows = tokens.iter().map(|token| {
                let state = match token.state {
                    TokenState::Waits => "waits".to_owned(),
                    TokenState::Used(at) => format!("used {}", show::wall(at)),
                    TokenState::Revoked(at) => format!("revoked {}", show::wall(at)),
                    TokenState::Expired => "expired".to_owned(),
                };
                vec![
                    token.id.to_string(),
                    token.agent.to_string(),
                    show::wall(token.made),
                    show::wall(token.expires),
                    state,
                ]
            });
            print(&with_head(
                &["TOKEN", "AGENT", "MADE", "EXPIRES", "STATE"],
                rows,
            ))
        }
        TokenCommand::Revoke { id, identity } => {
            let (_, mut catalogue) = open(&identity.store()?)?;
            catalogue.revoke_token(id, clock::now())?;
            print(&format!("token {id} is revoked\n"))
        }
    }
}

fn create(args: &CreateArgs) -> Result<(), Failure> {
    let life = args.expires;
    if !(Span::from_secs(1)..=Span::from_secs(7 * 86_400)).contains(&life) {
        return Err(Failure::Usage(format!(
            "--expires is {}, but must be 1s to 168h",
            life.to_config_text()
        )));
    }
    // Detects a mistyped name here, not at the agent's host.
    if let Some(file) = args.identity.plan_file() {
        let plan = CollectorPlan::load(file)?;
        if plan.plan.agent(&args.agent).is_none() {
            return Err(Failure::Usage(format!(
                "the plan {} has no agent `{}`; correct the name or add it",
                file.display(),
                args.agent
            )));
        }
    }
    // Opened before the token is made: a token that nobody sees must not stay valid.
    let file = args.output.as_ref().map(|path| {
        let options = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        options.map_err(|source| Failure::File {
            path: path.clone(),
            source,
        })
    });
    let (authority, mut catalogue) = open(&args.identity.store()?)?;
    let now = clock::now();
    let valid = |row: &AgentRow| row.name == args.agent && row.valid > 0;
    if catalogue.agents(now)?.iter().any(valid) {
        let _ = writeln!(
            std::io::stderr(),
            "note: a host has joined as `{0}` already; whichever host uses this token becomes `{0}`, and that one is no longer let in",
            args.agent
        );
    }
    let token = catalogue.create_token(&authority, &args.agent, now, life)?;
    let text = token.to_text() + "\n";
    match (file.transpose()?, &args.output) {
        (Some(mut file), Some(path)) => {
            file.write_all(text.as_bytes())
                .map_err(|source| Failure::File {
                    path: path.clone(),
                    source,
                })?;
            print(&format!(
                "token {} for agent `{}`, good once within {}, is in {}\n",
                token.id,
                args.agent,
                life.to_config_text(),
                path.display()
            ))
        }
        _ => print(&text),
    }
}
