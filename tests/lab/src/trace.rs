//! A traceroute, shown as the article shows it.

use crate::error::LabError;
use std::fmt;
use std::net::Ipv4Addr;
use std::process::Command;

/// The probes that each hop is sent.
const PROBES: usize = 3;

/// The hops to a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The target.
    pub target: Ipv4Addr,
    /// From the first.
    pub hops: Vec<Hop>,
}

/// What answered at one distance.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// Who, if anyone.
    pub address: Option<Ipv4Addr>,
    /// Round-trip times in milliseconds; `None` where a probe had no answer.
    pub millis: [Option<f64>; PROBES],
}

impl Trace {
    /// The addresses alone, as a path is compared.
    pub fn addresses(&self) -> Vec<Option<Ipv4Addr>> {
        self.hops.iter().map(|hop| hop.address).collect()
    }

    /// Whether the last hop is the target.
    pub fn arrived(&self) -> bool {
        self.hops
            .last()
            .is_some_and(|hop| hop.address == Some(self.target))
    }

    /// Reads what `traceroute -n -q 3` prints.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub(crate) fn parse(target: Ipv4Addr, text: &str) -> Result<Self, LabError> {
        let mut hops = Vec::new();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace();
            if words
                .next()
                .and_then(|ttl| ttl.parse::<u8>().ok())
                .is_none()
            {
                return Err(LabError::Refused(format!("traceroute printed `{line}`")));
            }
            let mut hop = Hop {
                address: None,
                millis: [None; PROBES],
            };
            let mut answers = hop.millis.iter_mut();
            for word in words {
                if let Ok(address) = word.parse() {
                    hop.address = Some(address);
                } else if word == "*" {
                    answers.next();
                } else if let Ok(millis) = word.parse()
                    && let Some(answer) = answers.next()
                {
                    *answer = Some(millis);
                }
                // What is left is the unit, or an annotation like `!N`.
            }
            hops.push(hop);
        }
        Ok(Self { target, hops })
    }
}

/// The command: ICMP, like Windows' tracert, so that the ports do not vary the path.
pub(crate) fn command(target: Ipv4Addr) -> Command {
    let mut command = Command::new("traceroute");
    command.args(["-n", "-I", "-q", "3", "-w", "1", "-m", "30"]);
    command.arg(target.to_string());
    command
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Tracing route to {} over a maximum of 30 hops\n",
            self.target
        )?;
        for (index, hop) in self.hops.iter().enumerate() {
            write!(f, "{:>3}", index + 1)?;
            for millis in hop.millis {
                match millis {
                    None => write!(f, "     *   ")?,
                    Some(millis) if millis < 1.0 => write!(f, "    <1 ms")?,
                    Some(millis) => write!(f, "{millis:>6.0} ms")?,
                }
            }
            match hop.address {
                Some(address) => writeln!(f, "  {address}")?,
                None => writeln!(f, "  Request timed out.")?,
            }
        }
        writeln!(
            f,
            "\nTrace {}.",
            if self.arrived() {
                "complete"
            } else {
                "incomplete"
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;
    use std::net::Ipv4Addr;

    const PRINTED: &str = "\
traceroute to 10.17.11.132 (10.17.11.132), 30 hops max, 60 byte packets
 1  10.1.11.1  0.101 ms  0.024 ms *
 2  * * *
 3  10.17.11.132  7.9 ms  8.1 ms  8.4 ms
";

    #[test]
    fn shows_it_as_the_article_does() {
        let trace = Trace::parse(Ipv4Addr::new(10, 17, 11, 132), PRINTED).expect("a traceroute");
        assert!(trace.arrived());
        assert_eq!(
            trace.to_string(),
            "Tracing route to 10.17.11.132 over a maximum of 30 hops

  1    <1 ms    <1 ms     *     10.1.11.1
  2     *        *        *     Request timed out.
  3     8 ms     8 ms     8 ms  10.17.11.132

Trace complete.
"
        );
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(Trace::parse(Ipv4Addr::LOCALHOST, "x\nsendto: Network unreachable\n").is_err());
    }
}
