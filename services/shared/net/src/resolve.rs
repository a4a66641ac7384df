//! Where to call: one address, a list of them, or names that are looked up again and again.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One logical server: `127.0.0.1:8101`, `10.0.0.1:8101,10.0.0.2:8101`, `dns:refract-oracle:8101`, or a mixture.
///
/// A name stands for all its addresses, so a headless Kubernetes service is one target with many endpoints. `dns:` may
/// be left out, and `http://` in front is tolerated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    text: String,
    places: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

impl Target {
    /// What goes into `:authority`: the first place, as it was written.
    pub(crate) fn authority(&self) -> String {
        match &self.places[0] {
            Place::Address(address) => address.to_string(),
            Place::Name { host, port } => format!("{host}:{port}"),
        }
    }

    /// Whether looking up again may give another answer.
    pub(crate) fn changes(&self) -> bool {
        self.places
            .iter()
            .any(|place| matches!(place, Place::Name { .. }))
    }

    /// All addresses. A name that cannot be looked up is skipped as long as others can.
    pub(crate) async fn resolve(&self) -> io::Result<BTreeSet<SocketAddr>> {
        let mut addresses = BTreeSet::new();
        let mut failed = None;
        for place in &self.places {
            match place {
                Place::Address(address) => {
                    addresses.insert(*address);
                }
                Place::Name { host, port } => match tokio::net::lookup_host((host.as_str(), *port)).await {
                    Ok(found) => addresses.extend(found),
                    Err(error) => failed = Some(io::Error::new(error.kind(), format!("{host}: {error}"))),
                },
            }
        }
        match failed {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let places = text
            .split(',')
            .map(|place| parse_place(text, place.trim()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            text: text.to_owned(),
            places,
        })
    }
}

fn parse_place(text: &str, place: &str) -> Result<Place, Error> {
    let wrong = |reason| Error::Target {
        text: text.to_owned(),
        reason,
    };
    let place = place.strip_prefix("http://").unwrap_or(place);
    let place = place.strip_prefix("dns:").unwrap_or(place);
    // gRPC's own spelling is dns:///host:port.
    let place = place.trim_start_matches('/').trim_end_matches('/');
    if place.is_empty() {
        return Err(wrong("a place is empty"));
    }
    if let Ok(address) = place.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(wrong("port 0 cannot be called"))
        } else {
            Ok(Place::Address(address))
        };
    }
    let (host, port) = place
        .rsplit_once(':')
        .ok_or_else(|| wrong("the port is missing"))?;
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| wrong("the port is not a number"))?;
    let named = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !named {
        return Err(wrong("the host is neither an address nor a name"));
    }
    Ok(Place::Name {
        host: host.to_owned(),
        port,
    })
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self {
            text: address.to_string(),
            places: vec![Place::Address(address)],
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.text
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_place_is_read() {
        let name = |host: &str, port| Place::Name {
            host: host.to_owned(),
            port,
        };
        let address = |text: &str| Place::Address(text.parse().unwrap());
        for (text, places) in [
            ("127.0.0.1:8101", vec![address("127.0.0.1:8101")]),
            ("http://127.0.0.1:8101", vec![address("127.0.0.1:8101")]),
            ("http://127.0.0.1:8101/", vec![address("127.0.0.1:8101")]),
            ("[::1]:80", vec![address("[::1]:80")]),
            (
                "10.0.0.1:1, 10.0.0.2:2",
                vec![address("10.0.0.1:1"), address("10.0.0.2:2")],
            ),
            (
                "dns:oracle.refract.svc:8101",
                vec![name("oracle.refract.svc", 8101)],
            ),
            ("dns:///oracle:8101", vec![name("oracle", 8101)]),
            ("localhost:8101", vec![name("localhost", 8101)]),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.places, places, "{text}");
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_place_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "a place is empty"),
            ("127.0.0.1:1,", "a place is empty"),
            ("oracle", "the port is missing"),
            ("oracle:http", "the port is not a number"),
            ("oracle:0", "the port is not a number"),
            ("127.0.0.1:0", "port 0 cannot be called"),
            ("https://oracle:1", "the host is neither an address nor a name"),
            (":8101", "the host is neither an address nor a name"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
