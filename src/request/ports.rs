//! The value of `--port`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A guest port that the container's addresses lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// A single protocol; `None` for TCP and UDP.
    pub protocol: Option<Protocol>,
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both protocols.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Name in `--port`, podman and QEMU.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The kernel's number.
    pub fn number(self) -> i32 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP,
            Self::Udp => libc::IPPROTO_UDP,
        }
    }
}

impl Port {
    /// The protocols that it stands for.
    pub fn protocols(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.into_iter().filter(move |protocol| self.protocol.is_none_or(|only| only == *protocol))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{}", protocol.name()))
    }
}

/// Most ports that can be named: a descriptor is passed for each port and protocol, and the kernel passes at most 253
/// at once.
pub const MOST: usize = 100;

/// Reads a list such as `80/tcp,53`.
///
/// # Errors
/// More ports than [`MOST`], an invalid port, or a port that is given twice.
pub fn parse(list: &str) -> Result<Vec<Port>> {
    let mut ports: Vec<Port> = Vec::new();
    for text in list.split(',') {
        let port = port(text).ok_or_else(|| {
            Error::new("--port", format!("\"{text}\" is not a port")).hint("a list such as 80/tcp,53/udp,8080")
        })?;
        let taken = |other: &Port| {
            other.number == port.number
                && (other.protocol == port.protocol || [other.protocol, port.protocol].contains(&None))
        };
        if ports.iter().any(taken) {
            return Err(Error::new("--port", format!("{} is there twice", port.number)));
        }
        ports.push(port);
    }
    if ports.len() > MOST {
        return Err(Error::new("--port", format!("more than {MOST} ports"))
            .hint("in a network of its own a VM gets every port"));
    }
    Ok(ports)
}

fn port(text: &str) -> Option<Port> {
    let (number, protocol) = match text.split_once('/') {
        Some((number, name)) => (number, Some(Protocol::ALL.into_iter().find(|p| p.name() == name)?)),
        None => (text, None),
    };
    // parse() also accepts a leading plus.
    let number = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    (number > 0).then_some(Port { number, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let many = |n: usize| (1..=n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&many(MOST)).map(|ports| ports.len()), Ok(MOST));
        for (text, want) in [
            ("80/tcp,53", Ok("80/tcp 53")),
            ("53/udp,53/tcp,65535", Ok("53/udp 53/tcp 65535")),
            ("", Err("--port: \"\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("80,", Err("--port: \"\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("0", Err("--port: \"0\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("+1", Err("--port: \"+1\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("65536", Err("--port: \"65536\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("8080:80", Err("--port: \"8080:80\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("80/sctp", Err("--port: \"80/sctp\" is not a port (a list such as 80/tcp,53/udp,8080)")),
            ("80/tcp,80", Err("--port: 80 is there twice")),
            ("80,80/udp", Err("--port: 80 is there twice")),
            (&many(MOST + 1), Err("--port: more than 100 ports (in a network of its own a VM gets every port)")),
        ] {
            let got = parse(text).map(|ports| ports.iter().map(Port::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(got.map_err(|e| e.to_string()), want.map(str::to_string).map_err(str::to_string), "{text}");
        }
    }
}
