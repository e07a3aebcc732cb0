//! The tokens of the API: who has one may ask from elsewhere.

use super::Settings;
use super::secret::{self, COLLECTORS_FILE, Secret, Wanted};
use hopgap_proto::record::AgentName;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Least length of a token in bytes.
const LEAST: usize = 32;

/// The tokens that the plan names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Who shows this one may look: status and the list of drills.
    pub read: Option<Secret>,
    /// Who shows this one may also start, mark and stop drills.
    pub operate: Option<Secret>,
}

impl Tokens {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.read.is_some() || self.operate.is_some()
    }
}

/// Reads the tokens of `[collector]` and notes their files. Relative names start from
/// `folder`. What is wrong is the key that it is about, and one sentence.
pub(super) fn read_all(
    settings: &Settings,
    folder: &Path,
    secrets: &BTreeMap<AgentName, Secret>,
    files: &mut Vec<PathBuf>,
) -> Result<Tokens, (&'static str, String)> {
    if settings.token_required && settings.operate_token_file.is_none() {
        return Err((
            "token_required",
            "token_required is true, but nobody could start a drill without `operate_token_file`; add it".to_owned(),
        ));
    }
    let mut one = |key: &'static str, what: &str, file: &Option<PathBuf>| {
        let Some(file) = file else {
            return Ok(None);
        };
        let file = folder.join(file);
        let wanted = Wanted {
            what,
            key,
            least: LEAST,
            if_denied: COLLECTORS_FILE,
        };
        let token = secret::read(&file, wanted).map_err(|message| (key, message))?;
        if let Some((agent, _)) = secrets.iter().find(|(_, secret)| **secret == token) {
            return Err((
                key,
                format!(
                    "{what} is the secret of agent `{agent}`, too, so the agent's host could use it; write one of its own with `openssl rand -hex 32`"
                ),
            ));
        }
        files.push(file);
        Ok(Some(token))
    };
    let read = one(
        "read_token_file",
        "the token for reading",
        &settings.read_token_file,
    )?;
    let operate = one(
        "operate_token_file",
        "the token for operating",
        &settings.operate_token_file,
    )?;
    if read.is_some() && read == operate {
        return Err((
            "operate_token_file",
            "the tokens for reading and for operating are the same, so who may look could start drills; write each its own with `openssl rand -hex 32`".to_owned(),
        ));
    }
    Ok(Tokens { read, operate })
}

/// Reads the token that the command line is to show; what is wrong is one sentence.
pub(crate) fn read_token(file: &Path) -> Result<Secret, String> {
    let wanted = Wanted {
        what: "the token",
        key: "--token-file",
        least: LEAST,
        if_denied: "use a copy of your own, or run the command as the file's owner",
    };
    secret::read(file, wanted)
}
