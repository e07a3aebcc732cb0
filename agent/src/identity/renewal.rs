//! Renewing the certificate in time, while probes flow.

use super::{Identity, IdentityError, IdentityStore, Look, NewKey};
use crate::jitter::spread;
use crate::session::Stop;
use crate::uplink::{Client, UplinkError};
use hopgap_analysis::schema::Utc;
use hopgap_net::clock::Clock;
use hopgap_proto::time::{Span, Wall};
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{error, info, warn};

/// How often the clock and the file are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// When to renew a certificate. Time comes in with every question.
///
/// The first try is at two thirds of the certificate's life, later by up to a twelfth, so
/// that agents that joined together do not come back together; a try that failed is
/// followed by another after a fiftieth, at most an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalSchedule {
    due: Wall,
    again: Span,
    expires: Wall,
}

impl RenewalSchedule {
    /// For a certificate that is valid from `made` to `expires`; `seed` decides the jitter.
    pub fn new(made: Wall, expires: Wall, seed: u64) -> Self {
        let life = (expires - made).max(Span::ZERO);
        let share = i64::try_from(spread(seed) >> 54).unwrap_or(0);
        Self {
            due: made + life * 2 / 3 + life / 12 / 1024 * share,
            again: (life / 50).clamp(Span::from_millis(500), Span::from_secs(3600)),
            expires,
        }
    }

    /// When the next try is due.
    pub fn due(&self) -> Wall {
        self.due
    }

    /// Whether it is time to try.
    pub fn is_due(&self, now: Wall) -> bool {
        now >= self.due
    }

    /// A try failed.
    pub fn failed(&mut self, now: Wall) {
        self.due = now + self.again;
    }

    /// Whether the certificate has expired: no try can succeed.
    pub fn is_over(&self, now: Wall) -> bool {
        now >= self.expires
    }
}

/// Why a renewal came to nothing.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The host joined again meanwhile: that identity counts.
    #[error("`hopgap-agent join` wrote a new identity during the renewal; that one is used")]
    Overtaken,
}

/// Starts the thread that renews the identity in time, with a new key each time, and takes
/// up one that `hopgap-agent join --again` wrote. `client` uses the new one from its next
/// request on; what is under way goes on with the old one, which stays valid.
///
/// # Errors
/// When no thread can be had.
pub fn keep_renewed(
    client: Client,
    store: IdentityStore,
    identity: &Identity,
    stop: Stop,
) -> io::Result<JoinHandle<()>> {
    let mut keeper = Keeper::new(client, store, identity);
    std::thread::Builder::new()
        .name("identity".to_owned())
        .spawn(move || {
            while !stop.requested() {
                std::thread::sleep(LOOK);
                keeper.turn(Clock::pair().wall);
            }
        })
}

/// Keeps one identity fresh.
struct Keeper {
    client: Client,
    store: IdentityStore,
    next: RenewalSchedule,
    /// What the file looked like when its identity was taken into use.
    seen: Look,
    /// Why a new identity is not taken up and why the one in use is not renewed, as it was
    /// said last: it would be said again at every look.
    not_taken_up: Option<String>,
    not_renewed: Option<String>,
}

impl Keeper {
    /// Of an identity that was loaded from the store and is in use.
    fn new(client: Client, store: IdentityStore, identity: &Identity) -> Self {
        Self {
            next: schedule(&client, identity),
            seen: store.look(),
            client,
            store,
            not_taken_up: None,
            not_renewed: None,
        }
    }

    fn turn(&mut self, now: Wall) {
        if self.store.look() != self.seen && self.take_up() {
            return;
        }
        if self.next.is_over(now) {
            once(
                &mut self.not_renewed,
                UplinkError::Expired.to_string(),
                |why| {
                    error!("{why}");
                },
            );
            return;
        }
        if !self.next.is_due(now) {
            return;
        }
        match self.renew() {
            Ok(new) => {
                info!(
                    "the certificate is renewed, valid until {}",
                    Utc(new.not_after)
                );
                self.took(&new);
            }
            Err(RenewalError::Overtaken) => {
                info!("a new identity was written while the certificate was renewed");
            }
            Err(error) => {
                let why = format!("cannot renew the certificate: {error}; it is tried again");
                once(&mut self.not_renewed, why, |why| warn!("{why}"));
                self.next.failed(now);
            }
        }
    }

    /// Takes up what somebody wrote beside the agent. What stands in the way may pass: it
    /// is tried again at every look, and what is in use stays in use and is renewed.
    fn take_up(&mut self) -> bool {
        let look = self.store.look();
        let taken = self
            .store
            .load()
            .and_then(|new| self.client.adopt(&new).map(|()| new));
        match taken {
            Ok(new) => {
                info!("a new identity, valid until {}", Utc(new.not_after));
                self.took(&new);
                self.seen = look;
                true
            }
            Err(error) => {
                let why = format!("{error}; the identity before stays in use");
                once(&mut self.not_taken_up, why, |why| error!("{why}"));
                false
            }
        }
    }

    fn took(&mut self, new: &Identity) {
        self.next = schedule(&self.client, new);
        self.not_taken_up = None;
        self.not_renewed = None;
    }

    fn renew(&mut self) -> Result<Identity, RenewalError> {
        let before = self.store.look();
        let key = NewKey::make()?;
        let certified = self.client.renew(&key.request)?;
        let identity = key.certified(certified)?;
        // On the disk before it is used.
        let look = self.store.save_over(&identity, before)?;
        self.seen = look.ok_or(RenewalError::Overtaken)?;
        self.client.adopt(&identity)?;
        Ok(identity)
    }
}

/// Says `why`, unless that is what was said last.
fn once(last: &mut Option<String>, why: String, say: impl FnOnce(&str)) {
    if last.as_ref() != Some(&why) {
        say(&why);
        *last = Some(why);
    }
}

fn schedule(client: &Client, of: &Identity) -> RenewalSchedule {
    RenewalSchedule::new(of.not_before, of.not_after, client.seed())
}

#[cfg(test)]
mod tests;
