//! Why something does not run, in words.

use hopgap_proto::record::RunFault;

/// Why, and what to do, without a full stop.
pub fn fault(why: RunFault) -> String {
    match why {
        RunFault::PortInUse { address, port } => format!(
            "another program has UDP {address} port {port}; `ss -lunp 'sport = :{port}'` on that host names it"
        ),
        RunFault::AddressNotHere { address } => format!(
            "{address} is not an address of that host; correct the plan, or give the host the address"
        ),
        RunFault::NotPermitted { port: Some(port) } => format!(
            "the agent may not have UDP port {port}; give it the capability CAP_NET_BIND_SERVICE, or choose a port from 1024 up"
        ),
        RunFault::NotPermitted { port: None } => {
            "the agent may not open raw sockets; give it the capability CAP_NET_RAW".to_owned()
        }
        RunFault::MixedFamilies { from, to } => format!(
            "it goes from {from} to {to}, which are of different families; give both ends addresses of one"
        ),
        RunFault::UnusableKey => {
            "its key is absent or cannot be used; see to the collector's plan and its keys"
                .to_owned()
        }
        RunFault::EverySendRefused { errno } => {
            format!(
                "the agent's own kernel refuses every send ({})",
                errno_name(errno)
            )
        }
        RunFault::Refused { errno: 0 } => "the agent's own kernel refuses it".to_owned(),
        RunFault::Refused { errno } => {
            format!("the agent's own kernel refuses it ({})", errno_name(errno))
        }
        RunFault::NoEnds => "the plan does not say where its ends are".to_owned(),
        RunFault::Ended => {
            "it ended by a fault of the program, and is started again; see the agent's log"
                .to_owned()
        }
        RunFault::Other => {
            "for a reason that this version does not know; see the agent's log".to_owned()
        }
    }
}

/// The same in a few words, for a table.
pub fn fault_in_brief(why: RunFault) -> String {
    match why {
        RunFault::PortInUse { port, .. } => format!("UDP port {port} is in use"),
        RunFault::AddressNotHere { address } => format!("{address} is not its address"),
        RunFault::NotPermitted { port: Some(port) } => format!("UDP port {port} not permitted"),
        RunFault::NotPermitted { port: None } => "raw sockets not permitted".to_owned(),
        RunFault::MixedFamilies { from, to } => format!("{from} to {to}: two families"),
        RunFault::UnusableKey => "no usable key".to_owned(),
        RunFault::EverySendRefused { errno } => format!("every send refused ({})", symbol(errno)),
        RunFault::Refused { errno } => format!("refused by its kernel ({})", symbol(errno)),
        RunFault::NoEnds => "the plan lacks its ends".to_owned(),
        RunFault::Ended => "ended by a fault".to_owned(),
        RunFault::Other => "unknown reason".to_owned(),
    }
}

fn symbol(errno: i32) -> String {
    let name = errno_name(errno);
    name.split(':').next().unwrap_or_default().to_owned()
}

/// Linux's name of an `errno` that a send or a socket may give.
pub(crate) fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM: a local firewall forbids it",
        11 => "EAGAIN: the socket's buffer is full",
        22 => "EINVAL",
        24 => "EMFILE: too many open files",
        90 => "EMSGSIZE: larger than the path's MTU",
        97 => "EAFNOSUPPORT: that address family is not there",
        99 => "EADDRNOTAVAIL: the source address is gone",
        100 => "ENETDOWN: the network is down",
        101 => "ENETUNREACH: no route",
        105 => "ENOBUFS: the interface's queue is full",
        111 => "ECONNREFUSED",
        113 => "EHOSTUNREACH: the next hop does not answer",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}
