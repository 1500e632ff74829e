//! Which names DNS gave for an address, as far as the events tell: for folds that put a name to a flow.
//!
//! Bounded, and forgets the oldest first: a name that is missing makes a fold say less, never more. It knows no
//! times; whether an answer still counts is the gate's matter.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::facts::Name;

use super::DnsEvent;

/// The answers to one client.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_address: HashMap<IpAddr, VecDeque<Vec<Name>>>,
    /// Addresses in the order in which they were first given.
    order: VecDeque<IpAddr>,
}

impl Answers {
    /// Takes the addresses of an answer that was given.
    pub(super) fn hear(&mut self, event: &DnsEvent) {
        if !event.reason.lets_pass() {
            return;
        }
        let chain = match (event.chain.is_empty(), &event.name) {
            (false, _) => event.chain.clone(),
            (true, Some(name)) => vec![name.clone()],
            (true, None) => return,
        };
        for address in &event.addresses {
            self.add(*address, &chain);
        }
    }

    fn add(&mut self, address: IpAddr, chain: &[Name]) {
        if !self.by_address.contains_key(&address) {
            if self.order.len() >= MAX_ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_address.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let chains = self.by_address.entry(address).or_default();
        chains.retain(|known| known != chain);
        if chains.len() >= MAX_CHAINS {
            chains.pop_front();
        }
        chains.push_back(chain.to_vec());
    }

    /// Returns the name whose answer gave this address last.
    pub(super) fn asked_last(&self, address: IpAddr) -> Option<&Name> {
        self.by_address.get(&address)?.back()?.first()
    }

    /// Returns the name that was asked for when DNS gave this address for `name`: `name` itself where it was
    /// asked for, else one whose chain leads over it.
    pub(super) fn asked_for(&self, name: &Name, address: IpAddr) -> Option<&Name> {
        let chains = self.by_address.get(&address)?;
        let itself = chains.iter().rev().filter_map(|chain| chain.first()).find(|asked| *asked == name);
        itself.or_else(|| chains.iter().rev().find(|chain| chain.contains(name))?.first())
    }
}

/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 16_384;
/// Answers that are remembered for one address; the ledger keeps as many names.
const MAX_CHAINS: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::samples::{answered, name};
    use super::*;
    use crate::gate::Reason;

    const HERE: &str = "203.0.113.10";

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_on_a_chain_is_led_back_to_the_one_that_was_asked_for() {
        let mut answers = Answers::default();
        answers.hear(&answered(&["www.example.com", "edge.example.net"], &[HERE]));
        assert_eq!(answers.asked_last(at(HERE)), Some(&name("www.example.com")));
        assert_eq!(answers.asked_for(&name("edge.example.net"), at(HERE)), Some(&name("www.example.com")));
        assert_eq!(answers.asked_for(&name("other.example.net"), at(HERE)), None);
        answers.hear(&answered(&["edge.example.net"], &[HERE]));
        answers.hear(&answered(&["www.example.com", "edge.example.net"], &[HERE]));
        assert_eq!(answers.asked_for(&name("edge.example.net"), at(HERE)), Some(&name("edge.example.net")));
        assert_eq!(answers.asked_last(at("203.0.113.11")), None);
    }

    #[test]
    fn what_was_refused_names_nothing() {
        let mut answers = Answers::default();
        let event = answered(&["www.example.com"], &[HERE]);
        answers.hear(&DnsEvent { reason: Reason::NameNotAllowed, ..event });
        assert_eq!(answers.asked_last(at(HERE)), None);
    }

    #[test]
    fn a_workload_that_asks_without_end_fills_no_memory() {
        let mut answers = Answers::default();
        for number in 0..MAX_ADDRESSES + 10 {
            let address = std::net::Ipv4Addr::from(0x0100_0000 + u32::try_from(number).unwrap());
            answers.hear(&answered(&["a.test"], &[&address.to_string()]));
        }
        for number in 0..MAX_CHAINS + 10 {
            answers.hear(&answered(&[&format!("n{number}.test")], &[HERE]));
        }
        assert_eq!(answers.by_address.len(), MAX_ADDRESSES);
        assert_eq!(answers.order.len(), MAX_ADDRESSES);
        assert_eq!(answers.by_address[&at(HERE)].len(), MAX_CHAINS);
        assert_eq!(answers.asked_last(at("1.0.0.0")), None, "the oldest is forgotten");
    }
}
