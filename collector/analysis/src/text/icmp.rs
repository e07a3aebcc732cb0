//! ICMP codes by their names.

use std::net::IpAddr;

/// What a Destination Unreachable of this code from this router means (RFC 792, RFC 1122,
/// RFC 1812; RFC 4443 section 3.1 for version 6).
pub fn unreachable(from: IpAddr, code: u8) -> String {
    let known = if from.is_ipv6() {
        match code {
            0 => "no route to destination",
            1 => "administratively prohibited",
            2 => "beyond scope of source address",
            3 => "address unreachable",
            4 => "port unreachable",
            5 => "source address failed ingress/egress policy",
            6 => "reject route to destination",
            _ => "",
        }
    } else {
        match code {
            0 => "network unreachable",
            1 => "host unreachable",
            2 => "protocol unreachable",
            3 => "port unreachable",
            4 => "fragmentation needed",
            5 => "source route failed",
            6 => "destination network unknown",
            7 => "destination host unknown",
            8 => "source host isolated",
            9 => "network administratively prohibited",
            10 => "host administratively prohibited",
            11 => "network unreachable for this type of service",
            12 => "host unreachable for this type of service",
            13 => "communication administratively prohibited",
            14 => "host precedence violation",
            15 => "precedence cutoff in effect",
            _ => "",
        }
    };
    if known.is_empty() {
        format!("unreachable, code {code}")
    } else {
        known.to_owned()
    }
}
