//! The truth as text.

use super::{FlowTruth, TruePath, Truth};
use std::fmt;

impl fmt::Display for TruePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ExpressroutePrimary => "expressroute-primary",
            Self::ExpressrouteSecondary => "expressroute-secondary",
            Self::Vpn => "vpn",
        })
    }
}

impl fmt::Display for FlowTruth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} > {}: {} packets, {} lost",
            self.flow.source,
            self.flow.destination,
            self.packets.len(),
            self.lost()
        )?;
        for outage in &self.outages {
            write!(
                f,
                "; outage of {:.1} to ",
                outage.at_least().as_millis_f64()
            )?;
            match outage.at_most() {
                Some(most) => write!(f, "{:.1} ms", most.as_millis_f64())?,
                None => write!(f, "? ms")?,
            }
            write!(
                f,
                " (sequence {} to {})",
                outage.first_lost.seq, outage.last_lost.seq
            )?;
        }
        for (index, epoch) in self.paths.iter().enumerate() {
            write!(f, "{} {}", if index == 0 { ";" } else { "," }, epoch.path)?;
        }
        Ok(())
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for flow in self.flows.values() {
            writeln!(f, "{flow}")?;
        }
        if !self.complete || self.overflows > 0 {
            writeln!(
                f,
                "the truth has holes: {} frames were not seen{}",
                self.overflows,
                if self.complete {
                    ""
                } else {
                    ", and a log is cut short"
                }
            )?;
        }
        Ok(())
    }
}
