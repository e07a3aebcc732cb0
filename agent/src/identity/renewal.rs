//! Renewing the certificate in time, while probes flow.

use super::{Identity, IdentityError, IdentityStore, NewKey};
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
        // SplitMix64's finalizer: neighbouring seeds come far apart.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = i64::try_from(mixed >> 54).unwrap_or(0);
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
    let seed = client.seed();
    let schedule = move |of: &Identity| RenewalSchedule::new(of.not_before, of.not_after, seed);
    let mut next = schedule(identity);
    let mut seen = store.look();
    std::thread::Builder::new()
        .name("identity".to_owned())
        .spawn(move || {
            let mut complained = false;
            while !stop.requested() {
                std::thread::sleep(LOOK);
                let now = Clock::pair().wall;
                let look = store.look();
                if look != seen {
                    seen = look;
                    match store
                        .load()
                        .and_then(|new| client.adopt(&new).map(|()| new))
                    {
                        Ok(new) => {
                            info!("a new identity, valid until {}", Utc(new.not_after));
                            next = schedule(&new);
                            complained = false;
                        }
                        Err(error) => error!("{error}; the identity before stays in use"),
                    }
                    continue;
                }
                if next.is_over(now) {
                    if !complained {
                        error!("{}", UplinkError::Expired);
                    }
                    complained = true;
                    continue;
                }
                if !next.is_due(now) {
                    continue;
                }
                match renew(&client, &store) {
                    Ok(new) => {
                        info!(
                            "the certificate is renewed, valid until {}",
                            Utc(new.not_after)
                        );
                        seen = store.look();
                        next = schedule(&new);
                        complained = false;
                    }
                    Err(error) => {
                        if !complained {
                            warn!("cannot renew the certificate: {error}; it is tried again");
                        }
                        complained = true;
                        next.failed(now);
                    }
                }
            }
        })
}

fn renew(client: &Client, store: &IdentityStore) -> Result<Identity, RenewalError> {
    let key = NewKey::make()?;
    let certified = client.renew(&key.request)?;
    let identity = key.certified(certified)?;
    // On the disk before it is used.
    store.save(&identity)?;
    client.adopt(&identity)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::RenewalSchedule;
    use hopgap_proto::time::{Span, Wall};

    const DAY: Span = Span::from_secs(86_400);

    fn at(days: i64) -> Wall {
        Wall::ZERO + Span::from_secs(1_800_000_000) + DAY * days
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_by_all_at_once() {
        let dues: Vec<Wall> = (0..50)
            .map(|seed| RenewalSchedule::new(at(0), at(90), seed).due())
            .collect();
        let (first, last) = (at(60), at(60) + DAY * 90 / 12);
        assert!(
            dues.iter().all(|due| (first..=last).contains(due)),
            "{dues:?}"
        );
        let spread = *dues.iter().max().unwrap() - *dues.iter().min().unwrap();
        assert!(spread > DAY * 4, "{spread}");
    }

    #[test]
    fn what_fails_is_tried_again_until_the_end() {
        let mut schedule = RenewalSchedule::new(at(0), at(90), 7);
        assert!(!schedule.is_due(at(59)));
        // The collector is away for four weeks: no try is far from the next.
        let (mut now, mut tries) = (at(0), 0);
        while now < at(90) {
            if schedule.is_due(now) {
                tries += 1;
                schedule.failed(now);
                assert!(!schedule.is_due(now));
                assert!(schedule.is_due(now + Span::from_secs(3600)));
            }
            assert!(!schedule.is_over(now));
            now += Span::from_secs(600);
        }
        assert!((500..=721).contains(&tries), "{tries}");
        assert!(schedule.is_over(now));
    }

    #[test]
    fn lives_of_seconds_and_none_have_a_schedule_too() {
        let short = RenewalSchedule::new(at(0), at(0) + Span::from_secs(12), 1);
        let (from, to) = (at(0) + Span::from_secs(8), at(0) + Span::from_secs(9));
        assert!((from..=to).contains(&short.due()));
        let none = RenewalSchedule::new(at(1), at(0), 1);
        assert!(none.is_due(at(1)) && none.is_over(at(1)));
    }
}
