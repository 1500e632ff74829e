//! Clients told by roster, news and link.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::facts::{Container, Tick};
use crate::gate::{Defaults, LedgerConfig, Policy, Roster};
use crate::sys::neighbours::LinkAddress;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn container(id: u64, addresses: &[&str]) -> Arc<Container> {
    Arc::new(Container {
        id: format!("{id:064x}").into(),
        name: format!("c{id}").into(),
        image: "image".into(),
        labels: Vec::new(),
        started_at: "once".into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
    })
}

fn gate(containers: &[Arc<Container>]) -> Arc<Gate> {
    let policy = Policy::compile(Vec::new(), Defaults::default()).unwrap();
    let policy = policy.among(Arc::new(Roster::default().succeed(containers, Tick::default())));
    let ledger = LedgerConfig {
        min_ttl: Duration::from_secs(5),
        grace: Duration::from_secs(5),
        max_leases: 100,
        max_leases_per_client: 100,
    };
    Gate::new(policy, ledger)
}

fn link(last: u8) -> LinkAddress {
    LinkAddress::parse(&[2, 0, 0, 0, 0, last]).unwrap()
}

#[tokio::test]
async fn an_unknown_address_waits_for_news_and_a_known_one_does_not() {
    let gate = gate(&[container(1, &["10.0.0.2"])]);
    let subnets = Arc::from(["10.0.0.0/24".parse().unwrap()]);
    let roster = Roster::clone(gate.policy().roster()).within(subnets);
    gate.replace(gate.policy().among(Arc::new(roster)));
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, told) = (Arc::clone(&asked), Arc::clone(&gate));
    let news: News = Arc::new(move |address| {
        assert!(address.is_ipv4());
        count.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::clone(&told);
        Box::pin(async move {
            let policy = gate.policy();
            let both = [container(1, &["10.0.0.2"]), container(2, &["10.0.0.3"])];
            gate.replace(policy.among(Arc::new(policy.roster().succeed(&both, Tick::default()))));
        })
    });
    let who = Who::new(Arc::clone(&gate), Neighbours::none()).with_news(news);
    let at = |text: &str| SocketAddr::new(ip(text), 40_000);
    let known = who.client(Whose::Link, at("10.0.0.2")).await;
    assert_eq!((gate.container(known).unwrap().name.as_ref(), asked.load(Ordering::Relaxed)), ("c1", 0));
    let new = who.client(Whose::Link, at("::ffff:10.0.0.3")).await;
    assert_eq!((gate.container(new).unwrap().name.as_ref(), asked.load(Ordering::Relaxed)), ("c2", 1));
    let stranger = who.client(Whose::Link, at("10.0.0.9")).await;
    assert_eq!((stranger, asked.load(Ordering::Relaxed)), (Client::at(ip("10.0.0.9")), 2));
    let elsewhere = who.client(Whose::Link, at("192.0.2.9")).await;
    assert_eq!(
        (elsewhere, asked.load(Ordering::Relaxed)),
        (Client::at(ip("192.0.2.9")), 2),
        "no container is there"
    );
    let one = Whose::One(Client::User(7));
    assert_eq!(who.client(one, at("10.0.0.9")).await, Client::User(7));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_link_address_does_not_make_one_container_another() {
    let gate = gate(&[container(1, &["10.0.0.2", "fd00::2"]), container(2, &["10.0.0.3"])]);
    let neighbours = Neighbours::fixed([
        (link(1), vec![ip("10.0.0.2"), ip("fd00::2"), ip("fe80::2")]),
        (link(2), vec![ip("10.0.0.3"), ip("fd00::99")]),
        (link(3), vec![ip("10.0.0.4"), ip("fd00::4")]),
    ]);
    let who = Who::new(Arc::clone(&gate), neighbours);
    let found = |text: &str| {
        let siblings = who.known_siblings(gate.client_at(ip(text)));
        siblings.iter().map(|client| client.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("10.0.0.2"), "fd00::2 fe80::2");
    assert_eq!(found("10.0.0.3"), "fd00::99");
    assert_eq!(found("10.0.0.4"), "fd00::4");
    // The second container sends with an address of the first one.
    let neighbours = Neighbours::fixed([(link(2), vec![ip("10.0.0.3"), ip("fd00::2"), ip("fd00::99")])]);
    let who = Who::new(Arc::clone(&gate), neighbours);
    let siblings = |text: &str| who.known_siblings(gate.client_at(ip(text)));
    assert_eq!(siblings("10.0.0.3").iter().count(), 1, "not the first one's");
    let of_stranger = siblings("fd00::99");
    assert!(of_stranger.is_empty(), "a stranger is no container: {of_stranger:?}");
    assert!(who.siblings(Client::User(1)).await.is_empty());
}
