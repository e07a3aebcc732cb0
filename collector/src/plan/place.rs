//! Where in a plan file something stands, for messages.

use hopgap_proto::plan::PlanError;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Something in a plan file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// A key of the `[collector]` table.
    Collector(&'a str),
    /// A key of one of the `[[agent]]`, `[[session]]`, `[[echo]]` or `[[path]]` tables.
    Entry {
        /// Which of them.
        kind: &'a str,
        /// The entry's name.
        name: &'a str,
        /// The key; the entry itself where it lacks the key.
        key: &'a str,
        /// The last entry of that name, not the first.
        last: bool,
    },
    /// Nowhere in particular.
    Unknown,
}

/// Line and column, both from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

/// The line, from 1, of an item.
pub(super) fn of(text: &str, item: Item<'_>) -> Option<usize> {
    let span = span(text, item)?;
    Some(position(text, span.start).0)
}

/// What a plan error is about.
pub(super) fn of_plan_error(error: &PlanError) -> Item<'_> {
    let session = |name, key| Item::Entry {
        kind: "session",
        name,
        key,
        last: false,
    };
    match error {
        PlanError::Duplicate { kind, name } => Item::Entry {
            kind,
            name,
            key: "name",
            last: true,
        },
        PlanError::Range {
            session: s, key, ..
        } => session(s.as_str(), key),
        PlanError::SendsFromReflector { session: s, .. } => session(s.as_str(), "source_port"),
        PlanError::Value { of, key, .. } => phrase(of, key),
        PlanError::MixedFamilies { session: s, .. } => session(s.as_str(), "to"),
        PlanError::EchoFamilies { echo, .. } => Item::Entry {
            kind: "echo",
            name: echo.as_str(),
            key: "target",
            last: false,
        },
        PlanError::NoSession => Item::Unknown,
        PlanError::ToItself(s) => session(s.as_str(), "to"),
        PlanError::Overlap { second, key, .. } => session(second.as_str(), key),
        PlanError::SameKey { second, .. } => session(second.as_str(), "key"),
        PlanError::PathWithoutCondition(name) => Item::Entry {
            kind: "path",
            name,
            key: "name",
            last: false,
        },
        PlanError::UnknownAgent { user, agent } => phrase(user, agent.as_str()),
    }
}

/// An entry by a phrase such as "session `out`".
fn phrase<'a>(phrase: &'a str, key: &'a str) -> Item<'a> {
    match phrase.split_once(" `") {
        Some((kind, name)) => Item::Entry {
            kind,
            name: name.trim_end_matches('`'),
            key,
            last: false,
        },
        None => Item::Unknown,
    }
}

fn span(text: &str, item: Item<'_>) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    match item {
        Item::Unknown => None,
        Item::Collector(key) => {
            let table = document.get_ref().get("collector")?;
            Some(key_span(table.get_ref().as_table()?, key).unwrap_or(table.span()))
        }
        Item::Entry {
            kind,
            name,
            key,
            last,
        } => {
            let entries = document.get_ref().get(kind)?.get_ref().as_array()?;
            let mut named = entries.iter().filter(|entry| {
                let entry = entry.get_ref().as_table();
                entry
                    .and_then(|t| t.get("name"))
                    .and_then(|n| n.get_ref().as_str())
                    == Some(name)
            });
            let entry = if last {
                named.next_back()
            } else {
                named.next()
            }?;
            let table = entry.get_ref().as_table()?;
            let found = key_span(table, key).or_else(|| value_span(table, key));
            Some(found.unwrap_or(entry.span()))
        }
    }
}

fn key_span(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    table.get_key_value(key).map(|(k, _)| k.span())
}

/// Where an entry refers to an agent, the name is a value, not a key.
fn value_span(table: &DeTable<'_>, value: &str) -> Option<Range<usize>> {
    table.iter().find_map(|(_, v)| match v.get_ref() {
        DeValue::String(text) if text == value => Some(v.span()),
        _ => None,
    })
}
