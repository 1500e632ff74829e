//! Whether a step came out as it should: what the client heard, what the Internet saw and what the audit log says
//! must agree.
//!
//! Measures nothing itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::props::{Arrival, Notes};

use super::order::{Answer, Heard, Order, request};
use super::story::{Fate, Step};
use super::world::page;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) answer: Answer,
    /// What arrived during the step, but for the questions before it.
    pub(super) notes: Notes,
    /// The audit line that belongs to it.
    pub(super) line: Option<Value>,
    pub(super) took: Duration,
}

/// Refused at once: far below any time-out, well above a busy machine's hiccup.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Measured {
    /// A field of the line's `event`.
    pub(super) fn event(&self, field: &str) -> Option<&str> {
        self.line.as_ref()?.get("event")?.get(field)?.as_str()
    }

    /// Says what is not as it should be, the worst first.
    pub(super) fn judge(&self, step: &Step) -> Result<(), String> {
        match step.fate {
            Fate::Passes => self.one_arrival(step, false)?,
            Fate::CutOff => self.one_arrival(step, true)?,
            Fate::Denied(_) | Fate::Unasked(_) | Fate::Dead => {
                self.no_arrival()?;
                self.no_question()?;
            }
            Fate::Truth(_) => {
                self.no_arrival()?;
                self.not_asked(target(&step.order))?;
            }
        }
        self.heard(step)?;
        self.logged(step)
    }

    fn no_arrival(&self) -> Result<(), String> {
        self.notes.arrivals.first().map_or(Ok(()), |arrival| {
            let Arrival { at, bytes, .. } = arrival;
            Err(format!("a connection arrived at {at}, with {bytes} bytes"))
        })
    }

    fn no_question(&self) -> Result<(), String> {
        self.notes.questions.first().map_or(Ok(()), |question| {
            Err(format!("a question for {} travelled to {}", question.name, question.at))
        })
    }

    fn not_asked(&self, server: SocketAddr) -> Result<(), String> {
        let asked = self.notes.questions.iter().any(|question| question.at == server);
        if asked { Err(format!("{server} was asked")) } else { Ok(()) }
    }

    /// One connection, where it was dialled, with one request; `no_more`: and not a byte behind it.
    fn one_arrival(&self, step: &Step, no_more: bool) -> Result<(), String> {
        let host = first_host(&step.order);
        let [arrival] = self.notes.arrivals.as_slice() else {
            return Err(format!("{} connections arrived", self.notes.arrivals.len()));
        };
        if arrival.at != target(&step.order) {
            return Err(format!("it arrived at {}", arrival.at));
        }
        if arrival.hosts != [host] {
            return Err(format!("requests arrived for {:?}", arrival.hosts));
        }
        if no_more && arrival.bytes != request(host, false).len() {
            return Err(format!("{} bytes arrived", arrival.bytes));
        }
        Ok(())
    }

    fn heard(&self, step: &Step) -> Result<(), String> {
        let Answer { heard, addresses, pages, .. } = &self.answer;
        let to = target(&step.order);
        let expected = match step.fate {
            Fate::Passes => {
                *heard == Heard::Passed && self.answer.detail == page(to, first_host(&step.order))
            }
            Fate::Denied(_) => match &step.order {
                Order::Https { .. } => *heard == Heard::AccessDenied,
                Order::Http { .. } => self.told(step, Heard::Forbidden),
                Order::Ask { .. } => false,
            },
            Fate::CutOff => self.told(step, Heard::Forbidden) && *pages == 1,
            Fate::Unasked(_) => self.told(step, Heard::DnsRefused),
            Fate::Truth(address) => *heard == Heard::Passed && *addresses == [IpAddr::V4(address)],
            Fate::Dead => matches!(heard, Heard::Refused | Heard::Reset) && self.took < AT_ONCE,
        };
        if expected {
            Ok(())
        } else {
            Err(format!("the client heard: {} ({})", heard.words(), self.answer.detail))
        }
    }

    /// Whether the client was refused like this, with the reason and, where one was named, the flow of the log.
    fn told(&self, step: &Step, heard: Heard) -> bool {
        let Answer { reason, flow, .. } = &self.answer;
        self.answer.heard == heard
            && reason.as_deref() == step.fate.reason().map(|reason| reason.code())
            && flow.as_deref().is_none_or(|flow| self.line.is_none() || self.event("id") == Some(flow))
    }

    fn logged(&self, step: &Step) -> Result<(), String> {
        let Some(expected) = step.fate.reason() else { return Ok(()) };
        match self.event("reason") {
            Some(reason) if reason == expected.code() => Ok(()),
            Some(reason) => Err(format!("the audit log says {reason}")),
            None => Err("no audit line".to_owned()),
        }
    }
}

/// Whether an audit line is the one that a step should leave: of its kind, to its destination, from the client's
/// own port.
pub(super) fn belongs(line: &Value, step: &Step, port: u16) -> bool {
    let to = target(&step.order);
    let action = match (&step.order, step.fate) {
        (Order::Ask { .. }, _) => "dns",
        (Order::Https { .. } | Order::Http { .. }, Fate::CutOff) => "close",
        (Order::Https { .. } | Order::Http { .. }, _) => "decision",
    };
    let there = match &step.order {
        Order::Ask { name, over, .. } => {
            line["dns"]["question"]["name"] == name.as_str() && line["network"]["transport"] == over.as_str()
        }
        Order::Https { .. } | Order::Http { .. } => {
            line["destination"]["ip"] == to.ip().to_string() && line["destination"]["port"] == to.port()
        }
    };
    line["event"]["action"] == action && line["source"]["port"] == port && there
}

fn target(order: &Order) -> SocketAddr {
    match order {
        Order::Ask { server, .. } => *server,
        Order::Https { to, .. } | Order::Http { to, .. } => *to,
    }
}

fn first_host(order: &Order) -> &str {
    match order {
        Order::Ask { .. } => "",
        Order::Https { host, .. } => host,
        Order::Http { hosts, .. } => hosts.first().map_or("", String::as_str),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
