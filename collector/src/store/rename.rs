//! Renames an agent that has records.

use super::{Store, StoreError};
use hopgap_proto::plan::{Destination, Plan};
use hopgap_proto::record::AgentName;
use rusqlite::{OptionalExtension, Transaction, params};

impl Store {
    /// Moves the records of `old` to `new`, also in past plans, so that a report on the past
    /// finds them under the new name. All or nothing; a repetition changes nothing. Sealed
    /// files stay as they are: readers identify the agent of their rows by the run.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing was changed.
    pub fn rename_agent(&mut self, old: &AgentName, new: &AgentName) -> Result<(), StoreError> {
        let tx = self.db.transaction()?;
        if let Some(from) = id_of(&tx, old)? {
            match id_of(&tx, new)? {
                // Records have already come under the new name.
                Some(into) => merge(&tx, from, into)?,
                None => {
                    tx.execute(
                        "UPDATE agent SET name = ?2 WHERE id = ?1",
                        params![from, new.as_str()],
                    )?;
                }
            }
        }
        rename_in_plans(&tx, old, new)?;
        tx.commit()?;
        self.ids = super::Ids::default();
        Ok(())
    }
}

fn id_of(tx: &Transaction<'_>, agent: &AgentName) -> Result<Option<i64>, StoreError> {
    Ok(tx
        .query_row(
            "SELECT id FROM agent WHERE name = ?1",
            [agent.as_str()],
            |row| row.get(0),
        )
        .optional()?)
}

fn merge(tx: &Transaction<'_>, from: i64, into: i64) -> Result<(), StoreError> {
    // The run delivered under both names. Its expired blocks are not missing under the new
    // name either.
    for table in ["block", "expired"] {
        tx.execute(
            &format!(
                "UPDATE OR IGNORE {table} SET run = (
                   SELECT b.id FROM run AS a JOIN run AS b ON b.started = a.started AND b.agent = ?2
                   WHERE a.id = {table}.run)
                 WHERE run IN (
                   SELECT a.id FROM run AS a JOIN run AS b ON b.started = a.started AND b.agent = ?2
                   WHERE a.agent = ?1)"
            ),
            params![from, into],
        )?;
    }
    tx.execute(
        "DELETE FROM payload WHERE block IN (
           SELECT block.id FROM block JOIN run AS a ON a.id = block.run AND a.agent = ?1
           JOIN run AS b ON b.started = a.started AND b.agent = ?2)",
        params![from, into],
    )?;
    tx.execute(
        "DELETE FROM block WHERE run IN (
           SELECT a.id FROM run AS a JOIN run AS b ON b.started = a.started AND b.agent = ?2
           WHERE a.agent = ?1)",
        params![from, into],
    )?;
    tx.execute(
        "DELETE FROM run WHERE agent = ?1 AND started IN (SELECT started FROM run WHERE agent = ?2)",
        params![from, into],
    )?;
    for table in ["run", "refused"] {
        tx.execute(
            &format!("UPDATE {table} SET agent = ?2 WHERE agent = ?1"),
            params![from, into],
        )?;
    }
    tx.execute(
        "UPDATE agent SET
           first_seen = min(first_seen, (SELECT first_seen FROM agent WHERE id = ?1)),
           newest = (SELECT newest FROM agent AS one WHERE one.id IN (?1, ?2)
             AND one.newest IS NOT NULL ORDER BY one.last_seen DESC LIMIT 1),
           blocks = blocks + (SELECT blocks FROM agent WHERE id = ?1),
           duplicates = duplicates + (SELECT duplicates FROM agent WHERE id = ?1),
           records = records + (SELECT records FROM agent WHERE id = ?1),
           refused = refused + (SELECT refused FROM agent WHERE id = ?1)
         WHERE id = ?2",
        params![from, into],
    )?;
    tx.execute(
        "UPDATE OR IGNORE clock SET agent = ?2 WHERE agent = ?1",
        params![from, into],
    )?;
    tx.execute("DELETE FROM agent WHERE id = ?1", [from])?;
    Ok(())
}

fn rename_in_plans(
    tx: &Transaction<'_>,
    old: &AgentName,
    new: &AgentName,
) -> Result<(), StoreError> {
    let mut statement = tx.prepare("SELECT id, json FROM plan")?;
    let plans = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, String)>, _>>()?;
    for (id, json) in plans {
        let mut plan: Plan = serde_json::from_str(&json)?;
        // A plan with both names had two agents.
        if plan.agent(new).is_some() {
            continue;
        }
        let rename = |name: &mut AgentName| {
            if name == old {
                *name = new.clone();
            }
        };
        plan.agents.iter_mut().for_each(|a| rename(&mut a.name));
        plan.echoes.iter_mut().for_each(|e| rename(&mut e.from));
        for session in &mut plan.sessions {
            rename(&mut session.from);
            if let Destination::Agent(to) = &mut session.to {
                rename(to);
            }
        }
        tx.execute(
            "UPDATE plan SET json = ?2 WHERE id = ?1",
            params![id, serde_json::to_string(&plan)?],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
