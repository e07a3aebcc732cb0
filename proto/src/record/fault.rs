//! Why something that the plan asks of an agent does not run.

use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Why a session, one of its flows, a reflector or the echoes do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunFault {
    /// Another program has the UDP port.
    PortInUse {
        /// The agent's address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// The plan's address of the agent does not belong to its host.
    AddressNotHere {
        /// The address.
        address: IpAddr,
    },
    /// The agent lacks permission for the port or the socket.
    NotPermitted {
        /// The UDP port; `None` where it is about a raw socket.
        port: Option<u16>,
    },
    /// The two ends have addresses of different families.
    MixedFamilies {
        /// The sender's.
        from: IpAddr,
        /// The reflector's.
        to: IpAddr,
    },
    /// The plan's key is absent or cannot be used.
    UnusableKey,
    /// The kernel refuses every send, with this `errno`.
    EverySendRefused {
        /// As in errno(3).
        errno: i32,
    },
    /// The kernel refused a socket or a thread for another reason, with this `errno`.
    Refused {
        /// As in errno(3); 0 where it gave none.
        errno: i32,
    },
    /// The plan does not say where the ends are.
    NoEnds,
    /// It ended because of a fault of the program, and is started again.
    Ended,
    // Add new reasons at the end: the position is what is on disk.
    /// One that this build does not know.
    Other,
}

#[cfg(test)]
mod tests {
    use super::RunFault;

    /// What is on disk stays readable: new reasons come after the old ones.
    #[test]
    fn reasons_keep_their_places() {
        let address = core::net::IpAddr::from([10, 0, 0, 1]);
        let faults = [
            RunFault::PortInUse { address, port: 1 },
            RunFault::AddressNotHere { address },
            RunFault::NotPermitted { port: None },
            RunFault::MixedFamilies {
                from: address,
                to: address,
            },
            RunFault::UnusableKey,
            RunFault::EverySendRefused { errno: 101 },
            RunFault::Refused { errno: 24 },
            RunFault::NoEnds,
            RunFault::Ended,
            RunFault::Other,
        ];
        for (place, fault) in (0_u8..).zip(faults) {
            assert_eq!(postcard::to_allocvec(&fault).unwrap()[0], place);
            let text = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<RunFault>(&text).unwrap(), fault);
        }
    }
}
