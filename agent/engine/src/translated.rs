//! Addresses other than the plan's that a session's packets come from, because something on
//! the way translates them.

use core::net::IpAddr;
use hopgap_proto::record::{Event, EventKind};
use hopgap_proto::time::{Mono, Span};

/// Most addresses known for one session; a new one replaces the one silent for longest.
pub(crate) const MOST_ADDRESSES: usize = 8;
/// How often an address that stays in use is reported again.
const TELL_AGAIN: Span = Span::from_secs(10);

/// The addresses other than the plan's that a session's packets come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aliases(Vec<Alias>);

#[derive(Clone, Copy, Debug)]
struct Alias {
    address: IpAddr,
    /// When the first unreported packet came, and how many are unreported.
    untold: Option<(Mono, u32)>,
    last: Mono,
    due: Mono,
}

impl Aliases {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().map(|a| a.address)
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|a| a.address == address)
    }

    /// Notes an authentic packet from `address` at `now`. Returns whether the address is new.
    pub(crate) fn came_from(&mut self, address: IpAddr, now: Mono) -> bool {
        if let Some(alias) = self.0.iter_mut().find(|a| a.address == address) {
            let (since, count) = alias.untold.unwrap_or((now, 0));
            alias.untold = Some((since.min(now), count.saturating_add(1)));
            alias.last = alias.last.max(now);
            return false;
        }
        if self.0.len() >= MOST_ADDRESSES {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, a)| a.last);
            if let Some(place) = oldest.map(|(place, _)| place) {
                self.0.swap_remove(place);
            }
        }
        self.0.push(Alias {
            address,
            untold: Some((now, 1)),
            last: now,
            due: now,
        });
        true
    }

    /// Returns the events to report at `now`; `all`: also those not due yet.
    pub(crate) fn told(&mut self, now: Mono, all: bool) -> impl Iterator<Item = Event> {
        self.0.iter_mut().filter_map(move |alias| {
            if !all && now < alias.due {
                return None;
            }
            let (since, count) = alias.untold.take()?;
            alias.due = now + TELL_AGAIN;
            Some(Event {
                at: alias.last,
                kind: EventKind::AddressTranslated {
                    address: alias.address,
                    since,
                    count,
                },
            })
        })
    }

    /// Forgets addresses silent for longer than `idle`. Returns whether there were any.
    pub(crate) fn forget(&mut self, now: Mono, idle: Span) -> bool {
        let before = self.0.len();
        self.0.retain(|a| now - a.last <= idle);
        self.0.len() < before
    }
}
