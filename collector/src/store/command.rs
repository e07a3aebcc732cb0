//! Executes a command once, however often it is sent.
//!
//! A client that got no answer cannot know whether its command was executed. So a command
//! carries an id; sent again under the same id, it is not executed again and returns its
//! first result.

use super::{Store, StoreError};
use core::fmt;
use core::str::FromStr;
use hopgap_proto::time::{Span, Wall};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// How long a command is remembered: far longer than any client retries.
const REMEMBERED: Span = Span::from_secs(86_400);

/// Identifies a command: 1 to 64 letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CommandId(String);

/// The text is no command id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a command's `id` is 1 to 64 letters, digits and `-`; a random one will do")]
pub struct CommandIdError;

impl CommandId {
    /// Makes an id from random bits.
    pub fn of_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

impl FromStr for CommandId {
    type Err = CommandIdError;

    fn from_str(text: &str) -> Result<Self, CommandIdError> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        good.then(|| Self(text.to_owned())).ok_or(CommandIdError)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for CommandId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The id and deadline of a command, and the present time.
#[derive(Clone, Copy, Debug)]
pub struct CommandTicket<'a> {
    /// Its id; a command without one is executed each time.
    pub id: Option<&'a CommandId>,
    /// The deadline: after it the command is not executed.
    pub until: Wall,
    /// The present time.
    pub now: Wall,
}

impl CommandTicket<'_> {
    /// Makes one without an id and without a deadline.
    pub(super) fn without_deadline(now: Wall) -> Self {
        Self {
            id: None,
            until: Wall::MAX,
            now,
        }
    }
}

/// Creates the table of commands where it is missing. It does not change the store's
/// version: programs that do not know the table work without it.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS command (
  id TEXT NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL,
  what TEXT NOT NULL,
  gave TEXT NOT NULL
);
";

impl Store {
    /// Runs `work` and returns its result. Where a command with this id and `what` ran before,
    /// returns that result instead. One transaction holds the work and the stored result.
    ///
    /// # Errors
    ///
    /// The error of `work`; [`StoreError::TooLate`]; [`StoreError::Drill`] when the id was
    /// another command's; when the database fails. Then nothing was done.
    pub(super) fn once<T: Serialize + DeserializeOwned>(
        &mut self,
        CommandTicket { id, until, now }: CommandTicket<'_>,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Checked after the look-up: a command repeated too late may have run in time.
        let too_late = || (now > until).then_some(StoreError::TooLate { until, now });
        let tx = self.db.transaction()?;
        let Some(id) = id else {
            if let Some(error) = too_late() {
                return Err(error);
            }
            let gave = work(&tx)?;
            tx.commit()?;
            return Ok(gave);
        };
        let sql = "SELECT what, gave FROM command WHERE id = ?1";
        let known: Option<(String, String)> = tx
            .query_row(sql, [&id.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match known {
            Some((before, gave)) if before == what => return Ok(serde_json::from_str(&gave)?),
            Some((before, _)) => {
                return Err(StoreError::Drill(format!(
                    "the id `{id}` was of another command (`{before}`); give each command an id of its own"
                )));
            }
            None => {
                if let Some(error) = too_late() {
                    return Err(error);
                }
            }
        }
        let gave = work(&tx)?;
        tx.execute(
            "DELETE FROM command WHERE at < ?1",
            [(now - REMEMBERED).as_nanos()],
        )?;
        tx.execute(
            "INSERT INTO command (id, at, what, gave) VALUES (?1, ?2, ?3, ?4)",
            params![id.0, now.as_nanos(), what, serde_json::to_string(&gave)?],
        )?;
        tx.commit()?;
        Ok(gave)
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandId, CommandTicket};
    use crate::store::tests::{Dir, TWO};
    use crate::store::{Marker, MarkerKind, Reader, Store, StoreError};
    use hopgap_proto::time::Span;

    fn id(text: &str) -> CommandId {
        text.parse().unwrap()
    }

    fn asked(id: &CommandId, seconds: i64) -> CommandTicket<'_> {
        CommandTicket {
            id: Some(id),
            until: TWO + Span::from_secs(10),
            now: TWO + Span::from_secs(seconds),
        }
    }

    #[test]
    fn a_command_that_is_asked_for_again_is_done_once_and_gives_the_same() {
        let dir = Dir::new();
        let second = Span::from_secs(1);
        let (one, two) = (id("a-1"), id("a-2"));
        let mut store = Store::open(&dir.0).unwrap();
        let started = store
            .start_drill_once(asked(&one, 0), "night", TWO)
            .unwrap();
        // Later, when it would be too late, and after a restart.
        drop(store);
        let mut store = Store::open(&dir.0).unwrap();
        let again = store.start_drill_once(asked(&one, 60), "night", TWO + second);
        assert_eq!(again.unwrap(), started);
        assert_eq!(started.started, TWO);
        let said = |error: StoreError| error.to_string();
        let other = store.start_drill_once(asked(&one, 1), "day", TWO + second);
        assert!(said(other.unwrap_err()).contains("was of another command (`start night`)"));
        // Under another id it is another command.
        let other = store.start_drill_once(asked(&two, 1), "night", TWO + second);
        assert!(said(other.unwrap_err()).contains("is running"));

        let marker = Marker {
            at: TWO + second,
            kind: MarkerKind::Failover,
            text: "off".to_owned(),
        };
        for _ in 0..3 {
            let noted = store.mark_once(asked(&id("m"), 1), &marker);
            assert_eq!(noted.unwrap(), marker);
        }
        let markers = Reader::open(&dir.0).unwrap().markers(TWO, TWO + second);
        assert_eq!(markers.unwrap(), [marker]);

        let end = TWO + second * 9;
        let stopped = store.stop_drill_once(asked(&id("s"), 9), end).unwrap();
        assert_eq!(stopped.stopped, Some(end));
        let again = store.stop_drill_once(asked(&id("s"), 90), end + second);
        assert_eq!(again.unwrap(), stopped);
        // What was refused may be asked for again: nothing was done.
        let refused = store.stop_drill_once(asked(&id("t"), 9), end + second);
        assert!(said(refused.unwrap_err()).contains("no drill is running"));
    }

    #[test]
    fn a_command_that_comes_too_late_is_never_done() {
        let dir = Dir::new();
        let mut store = Store::open(&dir.0).unwrap();
        let late = id("late");
        for asked in [
            asked(&late, 11),
            CommandTicket {
                id: None,
                ..asked(&late, 11)
            },
        ] {
            let refused = store.start_drill_once(asked, "night", TWO).unwrap_err();
            assert!(matches!(refused, StoreError::TooLate { .. }), "{refused}");
        }
        assert_eq!(Reader::open(&dir.0).unwrap().drills().unwrap(), []);
    }

    #[test]
    fn an_id_is_short_and_plain() {
        assert_eq!(CommandId::of_random(255).to_string().len(), 32);
        for bad in ["", "a b", "ü", &"a".repeat(65)] {
            assert!(bad.parse::<CommandId>().is_err(), "{bad}");
        }
    }
}
