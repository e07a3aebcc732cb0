//! The faults that the lab can make, and how each is made.

use std::fmt;

/// Something that goes wrong with ExpressRoute.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Both peerings administratively disabled at the MSEEs: the article's test
    Admin,
    /// The links between the CEs and the MSEEs go down
    Link,
    /// Both circuits drop everything silently; BFD finds it
    Blackhole,
    /// Both circuits drop what goes between the server's and the VM's networks; routing stays up
    Grey,
    /// The primary circuit alone drops everything silently
    OneMsee,
    /// Both peerings disabled; once on the VPN, one of its instances falls silent
    OneVpn,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Link,
        Self::Blackhole,
        Self::Grey,
        Self::OneMsee,
        Self::OneVpn,
    ];

    /// Its name at the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Link => "link",
            Self::Blackhole => "blackhole",
            Self::Grey => "grey",
            Self::OneMsee => "one-msee",
            Self::OneVpn => "one-vpn",
        }
    }

    /// Whether routing moves away from the whole of ExpressRoute.
    pub fn fails_over(self) -> bool {
        matches!(
            self,
            Self::Admin | Self::Link | Self::Blackhole | Self::OneVpn
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
