//! Drills and the notes that people make during them.

use super::{CommandTicket, Reader, Store, StoreError};
use hopgap_proto::printable::is_plain;
use hopgap_proto::time::Wall;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

/// A stretch of time with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Its name, unique in the store.
    pub name: String,
    /// When it began, on the collector's clock.
    pub started: Wall,
    /// When it ended; `None` while it runs.
    pub stopped: Option<Wall>,
}

/// A note about one point in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// When, on the collector's clock.
    pub at: Wall,
    /// What it announces.
    pub kind: MarkerKind,
    /// Its text.
    pub text: String,
}

/// What a marker announces.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// Traffic is now moved away from the primary path.
    Failover,
    /// Traffic is now moved back to the primary path.
    Failback,
    /// Anything else.
    #[default]
    Note,
}

impl MarkerKind {
    /// Its name in the store, in the API and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::Note => "note",
        }
    }

    fn of(name: &str) -> Self {
        match name {
            "failover" => Self::Failover,
            "failback" => Self::Failback,
            _ => Self::Note,
        }
    }
}

impl Store {
    /// Starts a drill.
    ///
    /// # Errors
    ///
    /// [`StoreError::Drill`] when one is running, when there was one of that name, or when
    /// the name cannot be one.
    pub fn start_drill(&mut self, name: &str, at: Wall) -> Result<Drill, StoreError> {
        self.start_drill_once(CommandTicket::without_deadline(at), name, at)
    }

    /// Starts a drill, once for each command id.
    ///
    /// # Errors
    ///
    /// As [`Store::start_drill`], and when the id was another command's, or when it is too late.
    pub fn start_drill_once(
        &mut self,
        asked: CommandTicket<'_>,
        name: &str,
        at: Wall,
    ) -> Result<Drill, StoreError> {
        check_name(name)?;
        self.once(asked, &format!("start {name}"), |tx| start(tx, name, at))
    }

    /// Stops the drill that is running.
    ///
    /// # Errors
    ///
    /// [`StoreError::Drill`] when none is running, or when `at` is before its start.
    pub fn stop_drill(&mut self, at: Wall) -> Result<Drill, StoreError> {
        self.stop_drill_once(CommandTicket::without_deadline(at), at)
    }

    /// Stops the running drill, once for each command id.
    ///
    /// # Errors
    ///
    /// As [`Store::stop_drill`], and when the id was another command's, or when it is too late.
    pub fn stop_drill_once(
        &mut self,
        asked: CommandTicket<'_>,
        at: Wall,
    ) -> Result<Drill, StoreError> {
        self.once(asked, "stop", |tx| stop(tx, at))
    }

    /// Stores a note about one point in time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Drill`] when the text is empty or too long, or when no drill ran at
    /// that instant.
    pub fn mark(&mut self, marker: &Marker) -> Result<(), StoreError> {
        self.mark_once(CommandTicket::without_deadline(marker.at), marker)
            .map(drop)
    }

    /// Stores a note, once for each command id, and returns it.
    ///
    /// # Errors
    ///
    /// As [`Store::mark`], and when the id was another command's, or when it is too late.
    pub fn mark_once(
        &mut self,
        asked: CommandTicket<'_>,
        marker: &Marker,
    ) -> Result<Marker, StoreError> {
        check_text("a marker's text", &marker.text)?;
        let what = format!("mark {} {}", marker.kind.name(), marker.text);
        self.once(asked, &what, |tx| mark(tx, marker).map(|()| marker.clone()))
    }
}

fn start(tx: &Transaction<'_>, name: &str, at: Wall) -> Result<Drill, StoreError> {
    if let Some(running) = running(tx)? {
        return Err(StoreError::Drill(format!(
            "the drill `{}` is running; stop it first with `hopgap-collector drill stop`",
            running.name
        )));
    }
    if drill(tx, name)?.is_some() {
        return Err(StoreError::Drill(format!(
            "there was a drill `{name}` before; choose another name"
        )));
    }
    tx.execute(
        "INSERT INTO drill (name, started) VALUES (?1, ?2)",
        params![name, at.as_nanos()],
    )?;
    Ok(Drill {
        name: name.to_owned(),
        started: at,
        stopped: None,
    })
}

fn stop(tx: &Transaction<'_>, at: Wall) -> Result<Drill, StoreError> {
    let Some(mut drill) = running(tx)? else {
        return Err(StoreError::Drill(
            "no drill is running; start one with `hopgap-collector drill start NAME`".to_owned(),
        ));
    };
    if at < drill.started {
        return Err(StoreError::Drill(format!(
            "the drill `{}` started after the time given; give a later one",
            drill.name
        )));
    }
    tx.execute(
        "UPDATE drill SET stopped = ?2 WHERE name = ?1",
        params![drill.name, at.as_nanos()],
    )?;
    drill.stopped = Some(at);
    Ok(drill)
}

fn mark(tx: &Transaction<'_>, marker: &Marker) -> Result<(), StoreError> {
    let at = marker.at.as_nanos();
    // A drill that is over still takes notes.
    let within: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM drill
         WHERE started <= ?1 AND (stopped IS NULL OR stopped >= ?1))",
        [at],
        |row| row.get(0),
    )?;
    if !within {
        return Err(StoreError::Drill(match running(tx)? {
            Some(drill) => format!(
                "the drill `{}` started after the time given, so nothing was noted; give a later one",
                drill.name
            ),
            None => "no drill is running, so nothing was noted; start one with `hopgap-collector drill start NAME`, or give with --at a time within one that is over"
                .to_owned(),
        }));
    }
    tx.execute(
        "INSERT INTO marker (at, kind, text) VALUES (?1, ?2, ?3)",
        params![at, marker.kind.name(), marker.text],
    )?;
    Ok(())
}

impl Reader {
    /// All drills, the newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn drills(&self) -> Result<Vec<Drill>, StoreError> {
        let mut statement = self
            .db
            .prepare("SELECT name, started, stopped FROM drill ORDER BY started DESC, id DESC")?;
        let drills = statement.query_map([], drill_of)?;
        Ok(drills.collect::<Result<_, _>>()?)
    }

    /// The drill of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Drill`] when there is none.
    pub fn drill(&self, name: &str) -> Result<Drill, StoreError> {
        drill(&self.db, name)?.ok_or_else(|| {
            StoreError::Drill(format!(
                "there is no drill `{name}`; `hopgap-collector drill list` names those there are"
            ))
        })
    }

    /// Returns the notes from `from` to `to`, ordered by time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn markers(&self, from: Wall, to: Wall) -> Result<Vec<Marker>, StoreError> {
        let mut statement = self.db.prepare(
            "SELECT at, kind, text FROM marker WHERE at BETWEEN ?1 AND ?2 ORDER BY at, id",
        )?;
        let markers = statement.query_map(params![from.as_nanos(), to.as_nanos()], |row| {
            Ok(Marker {
                at: Wall::from_nanos(row.get(0)?),
                kind: MarkerKind::of(&row.get::<_, String>(1)?),
                text: row.get(2)?,
            })
        })?;
        Ok(markers.collect::<Result<_, _>>()?)
    }
}

fn running(db: &Connection) -> Result<Option<Drill>, StoreError> {
    let sql = "SELECT name, started, stopped FROM drill WHERE stopped IS NULL";
    Ok(db.query_row(sql, [], drill_of).optional()?)
}

fn drill(db: &Connection, name: &str) -> Result<Option<Drill>, StoreError> {
    let sql = "SELECT name, started, stopped FROM drill WHERE name = ?1";
    Ok(db.query_row(sql, [name], drill_of).optional()?)
}

fn drill_of(row: &Row<'_>) -> rusqlite::Result<Drill> {
    Ok(Drill {
        name: row.get(0)?,
        started: Wall::from_nanos(row.get(1)?),
        stopped: row.get::<_, Option<i64>>(2)?.map(Wall::from_nanos),
    })
}

/// Checks a drill's name, which is used on command lines and as the report's directory.
fn check_name(name: &str) -> Result<(), StoreError> {
    check_text("a drill's name", name)?;
    let bad = name.contains(['/', '\\']) || name.starts_with(['-', '.']) || name.trim() != name;
    if bad || name.chars().count() > 100 {
        return Err(StoreError::Drill(format!(
            "`{name}` cannot be a drill's name; use at most 100 characters without `/` and `\\`, and begin with neither `-`, `.` nor a blank, such as CHG0042"
        )));
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), StoreError> {
    if text.trim().is_empty() {
        return Err(StoreError::Drill(format!(
            "{what} is empty; write a few words"
        )));
    }
    if !text.chars().all(is_plain) {
        return Err(StoreError::Drill(format!(
            "{what} holds a line break, another control character or an invisible one; write it as one line of plain text"
        )));
    }
    if text.chars().count() > 500 {
        return Err(StoreError::Drill(format!(
            "{what} must be one line of at most 500 characters; shorten it"
        )));
    }
    Ok(())
}
