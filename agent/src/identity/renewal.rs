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

/// How often the clock and the identity file are checked.
const LOOK: Duration = Duration::from_millis(500);

/// When to renew a certificate. The caller passes in the current time.
///
/// The first try is after two thirds of the certificate's life, plus up to a twelfth of it as
/// jitter, so that agents that joined together do not renew together. After a failed try the next
/// one follows after a fiftieth of the life, at least 500 ms and at most an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalSchedule {
    due: Wall,
    again: Span,
    expires: Wall,
}

impl RenewalSchedule {
    /// Returns the schedule for a certificate valid from `made` to `expires`; `seed` sets the
    /// jitter.
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

    /// Schedules the next try after a failed one.
    pub fn failed(&mut self, now: Wall) {
        self.due = now + self.again;
    }

    /// Whether the certificate has expired, so that no try can succeed.
    pub fn is_over(&self, now: Wall) -> bool {
        now >= self.expires
    }
}

/// Why a renewal failed.
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

/// Starts the thread that renews the identity in time, with a new key each time. The thread also
/// adopts an identity that `hopgap-agent join --again` wrote. `client` uses the new identity from
/// its next request on; requests under way keep the old one, which stays valid.
///
/// # Errors
/// When the thread cannot be started.
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
    /// The last messages on why a new identity was not adopted and why the current one was not
    /// renewed. They are kept so that the same message is not logged at every look.
    not_taken_up: Option<String>,
    not_renewed: Option<String>,
}

impl Keeper {
    /// Keeps `identity`, which was loaded from `store` and is in use.
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

    /// Adopts an identity that somebody else wrote. If that fails, it is tried again at every
    /// look, and the current identity stays in use and is renewed. Returns whether it was
    /// adopted.
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
        // Save it before using it.
        let look = self.store.save_over(&identity, before)?;
        self.seen = look.ok_or(RenewalError::Overtaken)?;
        self.client.adopt(&identity)?;
        Ok(identity)
    }
}

/// Passes `why` to `say`, unless it equals the last message.
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
