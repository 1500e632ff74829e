//! What is let through, what is refused, and how each is told.

use std::net::SocketAddr;
use std::time::Duration;

use namegate::facts::Fault;
use namegate::gate::{Mode, Reason};
use namegate::record::{Ending, Event};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::world::*;

const ACCESS_DENIED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 0x31];

#[tokio::test]
async fn a_denied_name_is_never_dialled_and_hears_a_tls_alert() {
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(&hello("evil.example")).await;
    assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
    let decided = world.decision().await;
    assert_eq!(decided.reason, Reason::NameNotAllowed);
    assert_eq!(decided.name.unwrap().as_str(), "evil.example");
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn an_allowed_name_at_an_address_that_dns_never_gave_is_never_dialled() {
    let world = World::new(Plan { leases: vec![], ..Plan::on_port(443) }).await;
    let mut client = world.say(&hello("good.example")).await;
    assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
    assert_eq!(world.decision().await.reason, Reason::AddressNotObserved);
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn the_judged_address_is_dialled_once_and_only_after_the_decision_was_recorded() {
    let world = World::new(Plan::on_port(443)).await;
    let _client = world.say(&hello("good.example")).await;
    let _server = world.accepted().await;
    let calls = world.dial.calls.lock();
    let (address, logged) = &calls[0];
    assert_eq!((calls.len(), *address), (1, SocketAddr::new(SERVER, 443)));
    let [Event::Decided(decided)] = &logged[..] else { panic!("{logged:?}") };
    assert_eq!((decided.reason, decided.flow.destination), (Reason::Allowed, *address));
    assert!(decided.evidence.is_some());
}

#[tokio::test]
async fn peeked_bytes_reach_the_server_exactly_once_however_the_hello_is_cut() {
    let hello = hello("good.example");
    let sent = [&hello[..], b"and more"].concat();
    for step in [1, 5, 64, 100, hello.len(), sent.len()] {
        let world = World::new(Plan::on_port(443)).await;
        let mut client = world.connect().await;
        client.set_nodelay(true).unwrap();
        for (index, piece) in sent.chunks(step).enumerate() {
            client.write_all(piece).await.unwrap();
            if index % 40 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        client.shutdown().await.unwrap();
        let mut server = world.accepted().await;
        assert_eq!(take(&mut server, hello.len()).await, hello, "cut every {step}");
        server.write_all(&ANSWERED).await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"and more", "cut every {step}");
    }
}

#[tokio::test]
async fn a_slow_hello_is_silent_at_the_deadline_though_bytes_keep_coming() {
    let world = World::new(Plan::on_port(443)).await;
    let started = Instant::now();
    let mut client = world.connect().await;
    client.set_nodelay(true).unwrap();
    for byte in hello("good.example").chunks(1) {
        if client.write_all(byte).await.is_err() || !world.decided().is_empty() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.decision().await.reason, Reason::Silent);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_hello_and_closes_is_silent() {
    for part in [0, 1, 50] {
        let world = World::new(Plan::on_port(443)).await;
        drop(world.say(&hello("good.example")[..part]).await);
        assert_eq!(world.decision().await.reason, Reason::Silent);
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test]
async fn bytes_of_an_unknown_protocol_are_reset() {
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await;
    assert!(is_reset(&mut client).await);
    assert_eq!(world.decision().await.reason, Reason::Nameless);
}

#[tokio::test]
async fn a_head_without_end_is_garbled_at_the_limit() {
    let mut plan = Plan::on_port(80);
    plan.config.sniff_bytes = 1000;
    let world = World::new(plan).await;
    let mut client = world.say(format!("GET /{}", "a".repeat(5000)).as_bytes()).await;
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.starts_with("HTTP/1.1 403 ") && told.contains("namegate: garbled\n"), "{told}");
    assert_eq!(world.decision().await.fault, Some(Fault::TooBig));
}

#[tokio::test]
async fn a_denied_request_hears_reason_name_and_flow() {
    let world = World::new(Plan::on_port(80)).await;
    // Unread input must not turn the answer into a reset.
    let sent = [get("evil.example"), vec![b'x'; 50_000]].concat();
    let mut client = world.say(&sent).await;
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    let flow = world.decision().await.flow.id;
    assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{told}");
    assert!(
        told.ends_with(&format!("namegate: name_not_allowed\nname: evil.example\nflow: {flow}\n")),
        "{told}"
    );
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn an_unreachable_server_is_told_in_http_and_a_reset_in_tls() {
    let world = World::new(Plan { unreachable: true, ..Plan::on_port(80) }).await;
    let mut client = world.say(&get("good.example")).await;
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.starts_with("HTTP/1.1 502 ") && told.contains("namegate: upstream_failed\n"), "{told}");
    let closed = world.closed().await;
    assert_eq!((closed.ending, closed.sent, closed.received), (Ending::UpstreamFailed, 0, 0));
    assert!(closed.error.is_some());

    let world = World::new(Plan { unreachable: true, ..Plan::on_port(443) }).await;
    let mut client = world.say(&hello("good.example")).await;
    assert!(is_reset(&mut client).await);
    assert_eq!(world.decision().await.reason, Reason::Allowed);
}

#[tokio::test]
async fn a_client_over_its_limit_is_reset_and_recorded() {
    let mut plan = Plan::on_port(443);
    plan.config.max_connections_per_client = 1;
    let world = World::new(plan).await;
    let first = world.say(&hello("good.example")).await;
    let server = world.accepted().await;
    let mut second = world.say(&hello("good.example")).await;
    assert!(is_reset(&mut second).await);
    assert_eq!(
        world.decided().iter().map(|decided| decided.reason).collect::<Vec<_>>(),
        [Reason::Allowed, Reason::OverLimit]
    );
    drop((first, server));
    world.closed().await;
    let _third = world.say(&hello("good.example")).await;
    world.accepted().await;
}

#[tokio::test]
async fn connections_over_the_limit_in_all_wait_for_their_turn() {
    let mut plan = Plan::on_port(443);
    plan.config.max_connections = 1;
    let world = World::new(plan).await;
    let first = world.say(&hello("good.example")).await;
    let server = world.accepted().await;
    let _second = world.say(&hello("good.example")).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.decided().len(), 1);
    drop((first, server));
    world.accepted().await;
    assert_eq!(world.decided().len(), 2);
}

#[tokio::test]
async fn observe_mode_lets_pass_what_it_would_have_denied() {
    for bytes in [hello("evil.example"), b"SSH-2.0-x\r\n".to_vec(), get("evil.example")] {
        let world = World::new(Plan { mode: Mode::Observe, ..Plan::on_port(443) }).await;
        let mut client = world.say(&bytes).await;
        let mut server = world.accepted().await;
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), bytes);
        let decided = world.decision().await;
        assert_eq!(decided.reason, Reason::ObservedOnly);
        assert!(decided.would.is_some());
    }
}
