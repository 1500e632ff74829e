//! What a client is told to try, and what it heard: one JSON object a line, both ways.
//!
//! Must not know how it is tried, nor what should come of it.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::facts::Transport;

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Ask a name server.
    Ask { server: SocketAddr, over: Transport, name: String, qtype: u16 },
    /// Fetch a page over TLS, for `host`; the hello says `sni`, or no name.
    Https { to: SocketAddr, sni: Option<String>, host: String },
    /// Fetch a page for each host, one after the other over one connection.
    Http { to: SocketAddr, hosts: Vec<String> },
}

/// An order on its way, with the certificate (PEM) of the authority to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) id: u64,
    pub(super) order: Order,
    pub(super) trust: String,
}

/// What a client heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The page of the server, or addresses.
    Passed,
    /// TLS alert `access_denied`.
    AccessDenied,
    /// HTTP 403.
    Forbidden,
    /// DNS REFUSED.
    DnsRefused,
    /// A DNS answer without an address.
    NoAddress,
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection was closed without a word.
    Closed,
    /// The host or its network is said to be out of reach.
    Unreachable,
    /// Nothing in time.
    Timeout,
    /// A certificate that is not the authority's.
    Untrusted,
    /// Anything else; the detail says what.
    Other,
}

impl Heard {
    const ALL: [Self; 12] = [
        Self::Passed,
        Self::AccessDenied,
        Self::Forbidden,
        Self::DnsRefused,
        Self::NoAddress,
        Self::Refused,
        Self::Reset,
        Self::Closed,
        Self::Unreachable,
        Self::Timeout,
        Self::Untrusted,
        Self::Other,
    ];

    const fn code(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::AccessDenied => "access_denied",
            Self::Forbidden => "forbidden",
            Self::DnsRefused => "dns_refused",
            Self::NoAddress => "no_address",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Untrusted => "untrusted",
            Self::Other => "other",
        }
    }

    /// As the table says it.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::AccessDenied => "TLS alert: access denied",
            Self::Forbidden => "HTTP 403",
            Self::DnsRefused => "DNS REFUSED",
            Self::NoAddress => "DNS answer without address",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Closed => "closed without a word",
            Self::Unreachable => "out of reach",
            Self::Timeout => "silence",
            Self::Untrusted => "certificate not trusted",
            Self::Other => "something else",
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) heard: Heard,
    /// The words of it: a page, addresses, an error.
    pub(super) detail: String,
    /// Addresses that DNS gave.
    pub(super) addresses: Vec<IpAddr>,
    /// Pages that came before the last word.
    pub(super) pages: usize,
    /// The reason code that a refusal gave.
    pub(super) reason: Option<String>,
    /// The flow that a refusal named.
    pub(super) flow: Option<String>,
    /// The client's own port; zero where there was none.
    pub(super) port: u16,
}

impl Answer {
    pub(super) fn new(heard: Heard, detail: impl Into<String>) -> Self {
        let (addresses, reason, flow) = (Vec::new(), None, None);
        Self { heard, detail: detail.into(), addresses, pages: 0, reason, flow, port: 0 }
    }

    pub(super) fn to_line(&self, id: u64) -> String {
        let value = json!({
            "id": id,
            "outcome": self.heard.code(),
            "detail": self.detail,
            "addresses": self.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
            "pages": self.pages,
            "reason": self.reason,
            "flow": self.flow,
            "port": self.port,
        });
        format!("{value}\n")
    }

    /// Reads an answer and the id of its order.
    pub(super) fn read(line: &str) -> Option<(u64, Self)> {
        let value: Value = serde_json::from_str(line).ok()?;
        let heard = text(&value, "outcome")?;
        let mut answer =
            Self::new(Heard::ALL.into_iter().find(|one| one.code() == heard)?, text(&value, "detail")?);
        answer.addresses =
            texts(&value, "addresses")?.iter().map(|one| one.parse().ok()).collect::<Option<_>>()?;
        answer.pages = usize::try_from(value.get("pages")?.as_u64()?).ok()?;
        (answer.reason, answer.flow) = (text(&value, "reason"), text(&value, "flow"));
        answer.port = u16::try_from(value.get("port")?.as_u64()?).ok()?;
        Some((value.get("id")?.as_u64()?, answer))
    }
}

impl Posted {
    pub(super) fn to_line(&self) -> String {
        let mut value = match &self.order {
            Order::Ask { server, over, name, qtype } => json!({
                "do": "ask", "to": server.to_string(), "over": over.as_str(), "name": name, "type": qtype,
            }),
            Order::Https { to, sni, host } => {
                json!({ "do": "https", "to": to.to_string(), "sni": sni, "hosts": [host] })
            }
            Order::Http { to, hosts } => json!({ "do": "http", "to": to.to_string(), "hosts": hosts }),
        };
        value["id"] = json!(self.id);
        value["trust"] = json!(self.trust);
        format!("{value}\n")
    }

    /// Reads an order; `None`: it is none.
    pub(super) fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let to = text(&value, "to")?.parse().ok()?;
        let order = match text(&value, "do")?.as_str() {
            "ask" => Order::Ask {
                server: to,
                over: [Transport::Udp, Transport::Tcp]
                    .into_iter()
                    .find(|one| Some(one.as_str()) == value["over"].as_str())?,
                name: text(&value, "name")?,
                qtype: u16::try_from(value.get("type")?.as_u64()?).ok()?,
            },
            "https" => Order::Https {
                to,
                sni: text(&value, "sni"),
                host: texts(&value, "hosts")?.into_iter().next()?,
            },
            "http" => Order::Http { to, hosts: texts(&value, "hosts")? },
            _ => return None,
        };
        Some(Self { id: value.get("id")?.as_u64()?, order, trust: text(&value, "trust")? })
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn texts(value: &Value, key: &str) -> Option<Vec<String>> {
    value.get(key)?.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
}

/// The request for a server's page, byte for byte as a client sends it; `last`: none follows.
pub(super) fn request(host: &str, last: bool) -> String {
    let end = if last { "Connection: close\r\n" } else { "" };
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: namegate-demo\r\n{end}\r\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_come_back_as_they_went() {
        let to = SocketAddr::from(([203, 0, 113, 10], 443));
        let orders = [
            Order::Ask { server: to, over: Transport::Tcp, name: "a.test".to_owned(), qtype: 16 },
            Order::Https { to, sni: Some("a.test".to_owned()), host: "b.test".to_owned() },
            Order::Https { to, sni: None, host: "b.test".to_owned() },
            Order::Http { to, hosts: vec!["a.test".to_owned(), "b.test".to_owned()] },
        ];
        for order in orders {
            let posted = Posted { id: 7, order, trust: "-----BEGIN\n".to_owned() };
            assert_eq!(Posted::read(&posted.to_line()).unwrap(), posted);
        }
        for heard in Heard::ALL {
            let mut answer = Answer::new(heard, "line\nline");
            answer.addresses = vec![to.ip()];
            answer.reason = Some("nameless".to_owned());
            answer.port = 4711;
            assert_eq!(Answer::read(&answer.to_line(9)).unwrap(), (9, answer));
        }
        for line in ["", "{}", "{\"do\":\"fly\",\"to\":\"1.2.3.4:5\",\"id\":1,\"trust\":\"\"}"] {
            assert!(Posted::read(line).is_none() && Answer::read(line).is_none(), "{line}");
        }
    }
}
