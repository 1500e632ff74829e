//! Clients with several addresses: what was resolved from one opens connections from another, and nothing else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use namegate::facts::{Address, Client, Name, Observation, Source, Via};
use namegate::gate::{Action, ClientMatch, Gate, MatchBy, Mode, Reason, Rule};
use namegate::proxy::SecondLook;
use namegate::record::Ending;
use namegate::sys::clock;
use namegate::sys::neighbours::{LinkAddress, Neighbours};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::world::*;

/// The other address of the client, which connects from 127.0.0.1.
const OTHER: &str = "2001:db8:77::2";
/// One more.
const THIRD: &str = "fd00:77::2";
/// An address of somebody else.
const STRANGER: &str = "2001:db8:77::3";

fn link(last: u8) -> LinkAddress {
    LinkAddress::parse(&[2, 0, 0, 0, 0, last]).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn table() -> Neighbours {
    Neighbours::fixed([
        (link(1), vec![Ipv4Addr::LOCALHOST.into(), ip(OTHER), ip(THIRD)]),
        (link(2), vec![ip("10.77.0.3"), ip(STRANGER)]),
    ])
}

fn plan(port: u16) -> Plan {
    Plan { leases: vec![], neighbours: table(), ..Plan::on_port(port) }
}

fn only_for(client: &str, rule: Rule) -> Rule {
    Rule { clients: vec![ClientMatch::Net(ip(client).into())], ..rule }
}

fn deny(client: &str, names: &[&str]) -> Rule {
    Rule { action: Action::Deny, ..only_for(client, rule("deny", names)) }
}

fn observe_for(gate: &Gate, client: &str, name: &str) {
    let now = clock::now();
    let addresses = vec![Address { ip: SERVER, ttl_secs: 60 }];
    let (client, chain) = (Client::at(ip(client)), vec![Name::parse(name).unwrap()]);
    let observation = Observation { client, chain, addresses, source: Source::Forwarder, at: now.tick };
    gate.observe(&observation, now);
}

#[tokio::test]
async fn what_one_address_resolved_opens_a_connection_from_another() {
    for bytes in [hello("good.example"), get("good.example")] {
        let world = World::new(plan(443)).await;
        observe_for(&world.gate, OTHER, "good.example");
        let mut client = world.say(&bytes).await;
        let mut server = world.accepted().await;
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), bytes);
        let decided = world.decision().await;
        assert_eq!((decided.reason, decided.held), (Reason::Allowed, Duration::ZERO));
        assert_eq!(decided.flow.source.ip(), Ipv4Addr::LOCALHOST, "the log shows the real source");
    }
}

#[tokio::test]
async fn what_a_stranger_resolved_opens_nothing_whatever_is_held() {
    for hold in [Duration::ZERO, Duration::from_millis(200)] {
        let mut plan = plan(443);
        plan.config.hold = hold;
        let world = World::new(plan).await;
        observe_for(&world.gate, STRANGER, "good.example");
        observe_for(&world.gate, "10.77.0.3", "good.example");
        let _client = world.say(&hello("good.example")).await;
        assert_eq!(world.decision().await.reason, Reason::AddressNotObserved);
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test]
async fn a_link_address_of_several_hosts_joins_nobody() {
    let many = vec![Ipv4Addr::LOCALHOST.into(), ip("10.77.0.3"), ip(OTHER)];
    let world = World::new(Plan { neighbours: Neighbours::fixed([(link(1), many)]), ..plan(443) }).await;
    observe_for(&world.gate, OTHER, "good.example");
    let _client = world.say(&hello("good.example")).await;
    assert_eq!(world.decision().await.reason, Reason::AddressNotObserved);
}

#[tokio::test]
async fn a_rule_for_one_address_serves_the_others() {
    let rules = vec![only_for(OTHER, rule("mine", &["good.example"]))];
    let world = World::new(Plan { rules, ..plan(443) }).await;
    observe_for(&world.gate, OTHER, "good.example");
    let _client = world.say(&hello("good.example")).await;
    world.accepted().await;
    let decided = world.decision().await;
    assert_eq!(
        (decided.reason, decided.rule.as_ref().map(|rule| &*rule.id)),
        (Reason::Allowed, Some("mine"))
    );
}

#[tokio::test]
async fn a_deny_rule_for_any_of_the_addresses_has_the_last_word() {
    for denied in [OTHER, "127.0.0.1"] {
        let mut plan = plan(443);
        plan.rules = vec![rule("good", &["good.example"]), deny(denied, &["good.example"])];
        let world = World::new(plan).await;
        observe_for(&world.gate, THIRD, "good.example");
        let _client = world.say(&hello("good.example")).await;
        assert_eq!(world.decision().await.reason, Reason::DeniedByRule, "{denied}");
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test]
async fn the_denial_that_came_furthest_is_the_one_that_is_told() {
    let elsewhere =
        Rule { ports: namegate::gate::Ports(vec![(8443, 8443)]), ..rule("port", &["good.example"]) };
    for (rules, expected) in [
        (vec![only_for(OTHER, rule("mine", &["good.example"]))], Reason::AddressNotObserved),
        (vec![only_for(OTHER, elsewhere)], Reason::PortNotAllowed),
        (vec![only_for(STRANGER, rule("theirs", &["good.example"]))], Reason::NameNotAllowed),
    ] {
        let world = World::new(Plan { rules, ..plan(443) }).await;
        let _client = world.say(&hello("good.example")).await;
        assert_eq!(world.decision().await.reason, expected);
    }
}

#[tokio::test]
async fn a_held_flow_passes_as_soon_as_any_address_has_its_answer() {
    let mut plan = plan(443);
    plan.config.hold = Duration::from_secs(3);
    let world = World::new(plan).await;
    let _client = world.say(&hello("good.example")).await;
    sleep(Duration::from_millis(100)).await;
    observe_for(&world.gate, STRANGER, "good.example");
    sleep(Duration::from_millis(50)).await;
    assert!(world.decided().is_empty());
    observe_for(&world.gate, OTHER, "good.example");
    world.accepted().await;
    let decided = world.decision().await;
    assert!(decided.reason == Reason::Allowed && decided.held < Duration::from_secs(1), "{decided:?}");
}

fn resolver(gate: Arc<Gate>) -> SecondLook {
    Arc::new(move |client, name, _| {
        let gate = Arc::clone(&gate);
        Box::pin(async move { observe_for(&gate, &client.to_string(), name.as_str()) })
    })
}

#[tokio::test]
async fn the_second_look_is_for_the_address_that_the_rule_names() {
    let mut plan = Plan { second_look: Some(resolver), ..plan(443) };
    plan.rules = vec![only_for(OTHER, rule("mine", &["good.example"]))];
    let world = World::new(plan).await;
    let _client = world.say(&hello("good.example")).await;
    world.accepted().await;
    let leases = world.gate.leases();
    assert!(
        leases.iter().all(|lease| lease.client == Client::at(ip(OTHER))) && leases.len() == 1,
        "{leases:?}"
    );
}

fn speaks_first() -> Plan {
    Plan { rules: vec![address_rule("cache", &["cache.example"])], ..plan(6379) }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_reached_with_the_answer_of_another_address() {
    let world = World::new(speaks_first()).await;
    observe_for(&world.gate, OTHER, "cache.example");
    let mut client = world.connect().await;
    let mut server = world.accepted().await;
    server.write_all(b"220 hello\r\n").await.unwrap();
    assert_eq!(take(&mut client, 11).await, b"220 hello\r\n");
    assert_eq!(world.decision().await.via, Some(Via::Address));
}

#[tokio::test]
async fn a_deny_rule_for_the_connecting_address_holds_by_address_too() {
    let mut plan = speaks_first();
    plan.rules.push(Rule {
        ports: namegate::gate::Ports(vec![(6379, 6379)]),
        ..deny("127.0.0.1", &["cache.example"])
    });
    for bytes in [&b""[..], b"PING\r\n"] {
        let world = World::new(Plan { rules: plan.rules.clone(), ..speaks_first() }).await;
        observe_for(&world.gate, OTHER, "cache.example");
        let mut client = world.say(bytes).await;
        assert!(is_reset(&mut client).await);
        assert_eq!(world.decision().await.reason, Reason::DeniedByRule);
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test]
async fn an_open_flow_ends_when_a_new_policy_denies_any_of_its_addresses() {
    for (denied, ends) in [(OTHER, true), ("127.0.0.1", true), (STRANGER, false)] {
        let world = World::new(plan(443)).await;
        observe_for(&world.gate, OTHER, "good.example");
        let mut client = world.say(&hello("good.example")).await;
        let mut server = world.accepted().await;
        server.write_all(&ANSWERED).await.unwrap();
        take(&mut client, ANSWERED.len()).await;
        let rules = vec![rule("good", &["good.example"]), deny(denied, &["good.example"])];
        world.gate.replace(policy(rules, Mode::Enforce));
        world.changes.send_modify(|generation| *generation += 1);
        if ends {
            world.ends(Ending::Revoked).await;
        } else {
            drop((client, server));
            assert_ne!(world.closed().await.ending, Ending::Revoked);
        }
    }
}

#[tokio::test]
async fn observe_mode_does_not_report_what_another_address_was_allowed() {
    let mut plan = Plan { mode: Mode::Observe, ..plan(443) };
    plan.rules = vec![only_for(OTHER, rule("mine", &["good.example"]))];
    let world = World::new(plan).await;
    observe_for(&world.gate, OTHER, "good.example");
    let _client = world.say(&hello("good.example")).await;
    world.accepted().await;
    let decided = world.decision().await;
    assert_eq!((decided.reason, decided.would), (Reason::Allowed, None));
    assert_eq!(decided.rule.map(|rule| rule.by), Some(MatchBy::NameAndAddress));
}
