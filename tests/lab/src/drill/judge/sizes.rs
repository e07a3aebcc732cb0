//! The path MTU against what the test bed is made of.

use super::Judgement;
use super::report::Report;
use crate::fault::Fault;
use crate::tunnel::Tunnel;

/// Every link but the tunnel's is an Ethernet.
const ETHERNET: u16 = 1500;

impl Judgement {
    /// Every path MTU that is reported is right, and those of the paths that carried
    /// traffic for long are there.
    pub(super) fn compare_sizes(&mut self, report: &Report, fault: Fault, tunnel: Tunnel) {
        let mut found = [false, false];
        for session in &report.findings.sessions {
            for mtu in &session.path_mtu {
                let (Some(forward), Some(reverse)) = (&mtu.forward, &mtu.reverse) else {
                    continue;
                };
                let by_tunnel = forward == "vpn" || reverse == "vpn";
                if forward == reverse || !by_tunnel {
                    found[usize::from(by_tunnel)] = true;
                }
                let truly = if by_tunnel { tunnel.mtu() } else { ETHERNET };
                if mtu.bytes != truly {
                    self.faults.push(format!(
                        "{}, out by {forward}, back by {reverse}: packets of up to {} bytes are reported to get through; truly it was {truly}",
                        session.session, mtu.bytes
                    ));
                }
            }
        }
        let moved = fault.fails_over();
        for (found, wanted, name) in [(found[0], true, "a circuit"), (found[1], moved, "the VPN")] {
            if wanted && !found {
                self.faults
                    .push(format!("no path MTU of {name} is reported"));
            }
        }
    }
}
