//! One thing that is tried: an attack that must not come through, or an ordinary use that must.
//!
//! Tries nothing itself.

use std::net::{IpAddr, SocketAddr};

use super::craft;
use super::map::{A_RECORD, RESOLVER};
use super::order::{Order, Part, Tcp, Tls};

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    A,
    B,
}

/// What is done, in order.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Looks up a name; it must have an answer, or nothing is tried.
    LookUp(Who, &'static str, u16),
    /// Waits so many milliseconds.
    Wait(u64),
    Do(Who, Order),
    /// Client A dials every address that it was given, for this name.
    DialGiven(&'static str),
    /// Dials where the HTTPS record of a name points, or its A record if that says nothing.
    DialHint(&'static str),
    /// Dials every port that the filter listens on, at the gateway's own address, claiming this name.
    DialFilter(&'static str),
    /// Kills every process of the filter.
    Kill,
    /// Throws away every rule of nftables in the gateway's network.
    Flush,
}

/// How it is judged.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// An attack: not a byte arrives at any server, no datagram and no packet.
    Silence,
    /// An attack: not a byte arrives at this address. Elsewhere it may: a filter that dials what it resolved the name
    /// to leads the client to the name's own server.
    NotAt(IpAddr),
    /// An attack: these bytes do not arrive at any server.
    Unseen(Vec<u8>),
    /// An attack: no question for this name travels.
    Unasked(&'static str),
    /// An attack: these bytes are not in the last reply.
    Without(&'static [u8]),
    /// An attack: the gateway's own service hears nothing.
    Uncounted,
    /// An ordinary use: the client hears this, so often; 0: once in every answer.
    Heard(String, usize),
}

/// One trial.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// Its number in the catalogue of attacks; `None`: an ordinary use.
    pub(super) number: Option<u8>,
    pub(super) name: &'static str,
    /// In words.
    pub(super) tried: &'static str,
    /// What client B does before the filter starts.
    pub(super) early: Option<Order>,
    pub(super) steps: Vec<Step>,
    pub(super) verdict: Verdict,
}

impl Trial {
    pub(super) fn attack(number: u8, name: &'static str, tried: &'static str) -> Self {
        Self { number: Some(number), ..Self::new(name, tried, Verdict::Silence) }
    }

    /// An ordinary use, after which the client has heard a page: where it is from, and for whom.
    pub(super) fn usual(name: &'static str, tried: &'static str, heard: (IpAddr, &str)) -> Self {
        let (at, host) = heard;
        Self::new(name, tried, Verdict::Heard(format!("hello from {at} to {host}"), 1))
    }

    fn new(name: &'static str, tried: &'static str, verdict: Verdict) -> Self {
        Self { number: None, name, tried, early: None, steps: Vec::new(), verdict }
    }

    /// Client A looks up a name first.
    pub(super) fn knowing(self, name: &'static str) -> Self {
        self.step(Step::LookUp(Who::A, name, A_RECORD))
    }

    pub(super) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Client A does this.
    pub(super) fn act(self, order: Order) -> Self {
        self.step(Step::Do(Who::A, order))
    }

    pub(super) fn judged(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// The request with the trial's own name in it does not arrive.
    pub(super) fn unseen(self) -> Self {
        let marker = format!("/{}", self.name).into_bytes();
        self.judged(Verdict::Unseen(marker))
    }

    /// The page is heard so often.
    pub(super) fn times(mut self, times: usize) -> Self {
        if let Verdict::Heard(_, wanted) = &mut self.verdict {
            *wanted = times;
        }
        self
    }
}

/// A page over TLS.
pub(super) fn tls(to: IpAddr, name: &str) -> Tls {
    Tls {
        to: Some(SocketAddr::new(to, 443)),
        sni: Some(name.to_owned()),
        host: name.to_owned(),
        requests: vec![0],
        ..Tls::default()
    }
}

/// The same as an order.
pub(super) fn https(to: IpAddr, name: &str) -> Order {
    Order::Tls(tls(to, name))
}

/// Bytes to a port, all at once.
pub(super) fn bytes(to: IpAddr, port: u16, bytes: impl Into<Vec<u8>>) -> Order {
    let part = Part { bytes: bytes.into(), ..Part::default() };
    Order::Tcp(Tcp { to: Some(SocketAddr::new(to, port)), parts: vec![part], ..Tcp::default() })
}

/// Bytes to a port in parts; each but the first waits until something was heard.
pub(super) fn exchange(to: IpAddr, port: u16, parts: Vec<Vec<u8>>) -> Order {
    let part = |(index, bytes)| Part { bytes, pause: 0, hear: index > 0 };
    let parts = parts.into_iter().enumerate().map(part).collect();
    Order::Tcp(Tcp { to: Some(SocketAddr::new(to, port)), parts, ..Tcp::default() })
}

/// A request in clear that asks for a host, as often as there are hosts, one after the other.
pub(super) fn http(to: IpAddr, hosts: &[&str]) -> Order {
    exchange(to, 80, hosts.iter().map(|host| craft::get(host)).collect())
}

/// A question to the resolver that the clients are told of.
pub(super) fn ask(name: &str, qtype: u16) -> Order {
    Order::Ask { server: RESOLVER, tcp: false, name: name.to_owned(), qtype }
}
