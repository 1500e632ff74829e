//! Flows that wait for evidence, and flows that need no name.

use std::sync::Arc;
use std::time::Duration;

use namegate::facts::{Address, Observation, Source, Via};
use namegate::gate::{Gate, Reason};
use namegate::proxy::SecondLook;
use namegate::sys::clock;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::world::*;

fn holding(port: u16) -> Plan {
    let mut plan = Plan { leases: vec![], ..Plan::on_port(port) };
    plan.config.hold = Duration::from_secs(3);
    plan
}

#[tokio::test]
async fn a_held_flow_passes_as_soon_as_its_answer_is_observed() {
    let world = World::new(holding(443)).await;
    let _client = world.say(&hello("good.example")).await;
    sleep(Duration::from_millis(100)).await;
    assert!(world.decided().is_empty() && world.dialled().is_empty());
    let observed = Instant::now();
    observe(&world.gate, "good.example");
    world.accepted().await;
    assert!(observed.elapsed() < Duration::from_millis(500));
    let decided = world.decision().await;
    assert_eq!(decided.reason, Reason::Allowed);
    assert!(decided.held >= Duration::from_millis(50), "{:?}", decided.held);
}

#[tokio::test]
async fn an_answer_for_another_name_does_not_end_the_hold() {
    let mut plan = holding(443);
    plan.config.hold = Duration::from_millis(300);
    let world = World::new(plan).await;
    let _client = world.say(&hello("good.example")).await;
    observe(&world.gate, "other.example");
    let decided = world.decision().await;
    assert_eq!(decided.reason, Reason::AddressNotObserved);
    assert!(decided.held >= Duration::from_millis(250), "{:?}", decided.held);
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn what_no_answer_could_change_is_not_held() {
    let world = World::new(holding(443)).await;
    let _client = world.say(&hello("evil.example")).await;
    let decided = world.decision().await;
    assert_eq!((decided.reason, decided.held), (Reason::NameNotAllowed, Duration::ZERO));
}

fn resolver(gate: Arc<Gate>) -> SecondLook {
    Arc::new(move |client, name, ip| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            sleep(Duration::from_millis(50)).await;
            let now = clock::now();
            let addresses = vec![Address { ip, ttl_secs: 60 }];
            let source = Source::Resolved;
            gate.observe(&Observation { client, chain: vec![name], addresses, source, at: now.tick }, now);
        })
    })
}

fn fruitless(_gate: Arc<Gate>) -> SecondLook {
    Arc::new(|_, _, _| Box::pin(async {}))
}

#[tokio::test]
async fn a_second_look_that_finds_the_address_lets_the_flow_pass() {
    for hold in [Duration::ZERO, Duration::from_secs(3)] {
        let mut plan = Plan { second_look: Some(resolver), ..holding(443) };
        plan.config.hold = hold;
        let world = World::new(plan).await;
        let _client = world.say(&hello("good.example")).await;
        world.accepted().await;
        assert_eq!(world.decision().await.reason, Reason::Resolved, "hold {hold:?}");
    }
}

#[tokio::test]
async fn a_second_look_that_finds_nothing_is_a_denial_once_the_hold_is_over() {
    for hold in [Duration::ZERO, Duration::from_millis(200)] {
        let mut plan = Plan { second_look: Some(fruitless), ..holding(443) };
        plan.config.hold = hold;
        let world = World::new(plan).await;
        let _client = world.say(&hello("good.example")).await;
        let decided = world.decision().await;
        assert_eq!(decided.reason, Reason::AddressNotObserved);
        assert!(decided.held >= hold);
        assert!(world.dialled().is_empty());
    }
}

fn by_address() -> Plan {
    let mut plan = holding(6379);
    plan.rules.push(address_rule("cache", &["cache.example"]));
    plan
}

#[tokio::test]
async fn an_address_rule_serves_a_server_that_speaks_first_without_waiting() {
    let world = World::new(Plan { leases: vec!["cache.example"], ..by_address() }).await;
    let mut client = world.connect().await;
    let mut server = world.accepted().await;
    server.write_all(b"220 hello\r\n").await.unwrap();
    assert_eq!(take(&mut client, 11).await, b"220 hello\r\n");
    let decided = world.decision().await;
    assert_eq!((decided.reason, decided.via), (Reason::Allowed, Some(Via::Address)));
}

#[tokio::test]
async fn a_silent_client_of_an_address_rule_passes_once_the_answer_is_observed() {
    let world = World::new(by_address()).await;
    let mut client = world.connect().await;
    sleep(Duration::from_millis(100)).await;
    assert!(world.dialled().is_empty());
    observe(&world.gate, "cache.example");
    let mut server = world.accepted().await;
    client.write_all(b"PING\r\n").await.unwrap();
    assert_eq!(take(&mut server, 6).await, b"PING\r\n");
    assert_eq!(world.decision().await.via, Some(Via::Address));
}

#[tokio::test]
async fn bytes_that_name_nothing_wait_for_an_address_rule_too_and_arrive_whole() {
    for bytes in [b"*1\r\n$4\r\nPING\r\n".to_vec(), hello("203.0.113.10"), hello("cache.example")] {
        let world = World::new(by_address()).await;
        let mut client = world.say(&bytes).await;
        sleep(Duration::from_millis(100)).await;
        assert!(world.decided().is_empty());
        observe(&world.gate, "cache.example");
        let mut server = world.accepted().await;
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), bytes);
        assert_eq!(world.decision().await.reason, Reason::Allowed);
    }
}

#[tokio::test]
async fn an_address_rule_without_an_answer_is_a_denial_once_the_hold_is_over() {
    let mut plan = by_address();
    plan.config.hold = Duration::from_millis(200);
    let world = World::new(plan).await;
    let mut client = world.say(b"PING\r\n").await;
    assert!(is_reset(&mut client).await);
    assert_eq!(world.decision().await.reason, Reason::AddressNotObserved);
    assert!(world.dialled().is_empty());
}
