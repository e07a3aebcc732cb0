//! A `measure` between two hosts that drop packets when told to, and what it found.

use crate::programs::program;
use crate::world::{Host, Running, World};
use serde_json::Value;

/// Where the SSID stands in a packet, in bytes (RFC 8972 section 3).
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Unauthenticated.
    Open,
    /// Authenticated.
    Authenticated,
}

impl Mode {
    /// The SSID's place for nft, from the UDP header on, in bits.
    fn ssid(self) -> &'static str {
        match self {
            Self::Open => "@th,176,16",
            Self::Authenticated => "@th,272,16",
        }
    }
}

/// Where the reflector is.
pub(crate) const REFLECTOR: &str = "10.0.1.2";

/// Two hosts with a router between: both count, and drop when told to.
pub(crate) struct Pair {
    /// Sends, from 10.0.0.1.
    pub(crate) sender: Host,
    /// Reflects, at [`REFLECTOR`].
    pub(crate) reflector: Host,
}

impl Pair {
    /// Counters `probes` (left the sender), `traces` (the same), `replies` (arrived at
    /// the sender) and on both hosts `dropped`.
    pub(crate) fn new(world: &World, mode: Mode) -> Self {
        let [sender, _router, reflector] = world.row(["sender", "router", "reflector"]);
        let ssid = mode.ssid();
        let lost = format!(
            "chain probes_lost {{
                udp sport 862 {ssid} & 0x8000 == 0x8000 drop
                udp dport 862 {ssid} & 0x8000 == 0x8000 drop
                udp sport 862 counter name dropped drop
                udp dport 862 counter name dropped drop
            }}"
        );
        sender.nft(&format!(
            "table inet e2e {{
                counter probes {{}}
                counter traces {{}}
                counter replies {{}}
                counter dropped {{}}
                chain out {{
                    type filter hook output priority 0;
                    udp dport 862 {ssid} & 0x8000 == 0x8000 counter name traces accept
                    udp dport 862 counter name probes
                }}
                {lost}
                chain drops {{}}
                chain in {{
                    type filter hook input priority 0;
                    jump drops
                    udp sport 862 {ssid} & 0x8000 == 0 counter name replies
                }}
            }}"
        ));
        reflector.nft(&format!(
            "table inet e2e {{
                counter dropped {{}}
                {lost}
                chain drops {{}}
                chain in {{ type filter hook input priority 0; jump drops; }}
            }}"
        ));
        Self { sender, reflector }
    }

    /// Starts `measure`, which is to end by [`Running::interrupt`].
    pub(crate) fn measure(&self, options: &[&str]) -> Running {
        let mut arguments = vec!["measure", REFLECTOR, "--json", "--timeout", "500ms"];
        arguments.extend(options);
        self.sender.start(&program("hopgap-agent"), &arguments)
    }

    /// Waits until this many more probes are answered.
    pub(crate) fn answers(&self, more: u64) {
        self.sender.wait_for_packets("replies", more);
    }

    /// Loses at least this many packets of probes to the reflector, and traceroutes too.
    pub(crate) fn lose_forward(&self, at_least: u64) {
        lose(&self.reflector, at_least);
    }

    /// Loses at least this many replies, and those of traceroutes too.
    pub(crate) fn lose_reverse(&self, at_least: u64) {
        lose(&self.sender, at_least);
    }

    /// Loses at least this many on the way there and then as many on the way back, with none
    /// answered between.
    pub(crate) fn lose_one_way_then_the_other(&self, at_least: u64) {
        start_losing(&self.reflector);
        self.reflector.wait_for_packets("dropped", at_least);
        start_losing(&self.sender);
        stop_losing(&self.reflector);
        self.sender.wait_for_packets("dropped", at_least);
        stop_losing(&self.sender);
    }
}

fn lose(host: &Host, at_least: u64) {
    start_losing(host);
    host.wait_for_packets("dropped", at_least);
    stop_losing(host);
}

fn start_losing(host: &Host) {
    host.nft("add rule inet e2e drops jump probes_lost");
}

fn stop_losing(host: &Host) {
    host.nft("flush chain inet e2e drops");
}

/// The findings of a `measure`.
pub(crate) struct Measured(pub(crate) Value);

impl Measured {
    /// Of what `measure --json` printed.
    pub(crate) fn of(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_else(|e| panic!("{e} in {json}")))
    }

    fn session(&self) -> &Value {
        &self.0["sessions"][0]
    }

    /// A count over all flows.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.session()["counts"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {}", self.session()))
    }

    /// How the direction of a loss is known.
    pub(crate) fn direction_source(&self) -> &str {
        self.session()["direction_source"].as_str().expect("a word")
    }

    /// The directions of the outages and of the smaller loss periods, by flow.
    pub(crate) fn outages(&self) -> Vec<Vec<&str>> {
        self.flows()
            .iter()
            .map(|flow| {
                ["outages", "background"]
                    .iter()
                    .flat_map(|list| flow[list].as_array().expect("a list"))
                    .map(|outage| outage["direction"].as_str().expect("a word"))
                    .collect()
            })
            .collect()
    }

    /// The flows.
    pub(crate) fn flows(&self) -> &[Value] {
        self.session()["flows"].as_array().expect("a list")
    }

    /// The caveats.
    pub(crate) fn caveats(&self) -> Vec<&str> {
        let caveats = self.0["caveats"].as_array().expect("a list");
        caveats.iter().filter_map(Value::as_str).collect()
    }
}
