//! PostgreSQL: the gate says `S` so that a name can be read, and has the server keep that promise.

use namegate::facts::{Fault, Protocol, Via};
use namegate::gate::{Mode, Reason};
use namegate::record::Ending;
use namegate::wire::postgres::SSL_REQUEST;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::world::*;

const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
const STARTUP: &[u8] = b"\0\0\0\x1e\0\x03\0\0user\0app\0database\0app\0\0";
const ACCESS_DENIED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 0x31];

/// A rule for `good.example` on port 443 by this protocol alone.
fn by_protocol(protocol: Protocol) -> Plan {
    let mut plan = Plan::on_port(443);
    plan.rules[0].protocols = vec![protocol];
    plan
}

/// Asks for TLS and hears that it may begin.
async fn begun(world: &World) -> TcpStream {
    let mut client = world.say(&SSL_REQUEST).await;
    assert_eq!(take(&mut client, 1).await, b"S");
    client
}

/// The connection that the proxy dialled, once its server has agreed to TLS.
async fn agreed(world: &World) -> TcpStream {
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, SSL_REQUEST.len()).await, SSL_REQUEST);
    server.write_all(b"S").await.unwrap();
    server
}

#[tokio::test]
async fn nothing_is_dialled_before_the_hello_was_judged_and_then_the_server_is_asked_for_tls() {
    let world = World::new(by_protocol(Protocol::Postgres)).await;
    let hello = hello("good.example");
    let mut client = begun(&world).await;
    sleep(std::time::Duration::from_millis(50)).await;
    assert!(world.dialled().is_empty() && world.decided().is_empty());
    client.write_all(&hello).await.unwrap();
    let mut server = agreed(&world).await;
    assert_eq!(take(&mut server, hello.len()).await, hello);
    server.write_all(&ANSWERED).await.unwrap();
    assert_eq!(take(&mut client, ANSWERED.len()).await, ANSWERED);
    client.write_all(b"more").await.unwrap();
    assert_eq!(take(&mut server, 4).await, b"more");
    let decided = world.decision().await;
    assert_eq!((decided.reason, decided.via), (Reason::Allowed, Some(Via::Sni)));
    assert_eq!(decided.protocol, Some(Protocol::Postgres));
}

#[tokio::test]
async fn the_request_and_the_hello_may_come_in_any_pieces() {
    let hello = hello("good.example");
    for step in [1, 3, 100] {
        let world = World::new(Plan::on_port(443)).await;
        let mut client = world.connect().await;
        client.set_nodelay(true).unwrap();
        for piece in SSL_REQUEST.chunks(step) {
            client.write_all(piece).await.unwrap();
            sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(take(&mut client, 1).await, b"S");
        for piece in hello.chunks(step * 30) {
            client.write_all(piece).await.unwrap();
            sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut server = agreed(&world).await;
        assert_eq!(take(&mut server, hello.len()).await, hello, "cut every {step}");
    }
}

#[tokio::test]
async fn gssapi_is_declined_once_and_the_server_never_hears_of_it() {
    let world = World::new(Plan::on_port(443)).await;
    let hello = hello("good.example");
    let mut client = world.say(&GSS_REQUEST).await;
    assert_eq!(take(&mut client, 1).await, b"N");
    client.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(take(&mut client, 1).await, b"S");
    client.write_all(&hello).await.unwrap();
    let mut server = agreed(&world).await;
    assert_eq!(take(&mut server, hello.len()).await, hello);
}

#[tokio::test]
async fn a_denied_name_hears_a_tls_alert_and_nothing_is_dialled() {
    for (name, reason) in
        [("evil.example", Reason::NameNotAllowed), ("other.example", Reason::AddressNotObserved)]
    {
        let world = World::new(Plan::on_port(443)).await;
        let mut client = begun(&world).await;
        client.write_all(&hello(name)).await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
        assert_eq!(world.decision().await.reason, reason);
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test]
async fn a_rule_for_one_protocol_does_not_serve_the_other() {
    let world = World::new(by_protocol(Protocol::Tls)).await;
    let mut client = begun(&world).await;
    client.write_all(&hello("good.example")).await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
    assert_eq!(world.decision().await.reason, Reason::ProtocolNotAllowed);

    let world = World::new(by_protocol(Protocol::Postgres)).await;
    let mut client = world.say(&hello("good.example")).await;
    assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
    assert_eq!(world.decision().await.reason, Reason::ProtocolNotAllowed);
}

#[tokio::test]
async fn clear_text_is_nameless_also_after_gssapi_was_declined() {
    let cancel = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";
    for (first, then) in [(STARTUP, None), (&cancel[..], None), (&GSS_REQUEST[..], Some(STARTUP))] {
        let world = World::new(Plan::on_port(443)).await;
        let mut client = world.say(first).await;
        if let Some(then) = then {
            assert_eq!(take(&mut client, 1).await, b"N");
            client.write_all(then).await.unwrap();
        }
        assert!(is_reset(&mut client).await);
        let decided = world.decision().await;
        assert_eq!((decided.reason, decided.protocol), (Reason::Nameless, Some(Protocol::Postgres)));
        assert!(world.dialled().is_empty());
    }
}

/// Says each part after an answer of one byte to the one before; what the gate makes of it.
async fn refused(parts: &[&[u8]]) -> Option<Fault> {
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.connect().await;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            take(&mut client, 1).await;
        }
        client.write_all(part).await.unwrap();
    }
    let decided = world.decision().await;
    assert_eq!(decided.reason, Reason::Garbled);
    assert!(world.dialled().is_empty());
    let told = rest(&mut client).await;
    let expected_alert = parts.contains(&&SSL_REQUEST[..]);
    assert_eq!(told.is_ok_and(|told| told == ACCESS_DENIED), expected_alert);
    decided.fault
}

#[tokio::test]
async fn what_is_no_hello_after_the_answer_is_garbled() {
    for tail in [STARTUP, &SSL_REQUEST, &GSS_REQUEST, b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", b"Q"] {
        assert_eq!(refused(&[&SSL_REQUEST, tail]).await, Some(Fault::Startup), "{tail:?}");
    }
    assert_eq!(refused(&[&SSL_REQUEST, b"\x17\x03\x03\0\x01x"]).await, Some(Fault::Record));
    for tail in [&GSS_REQUEST[..], b"GET / HTTP/1.1\r\n", &hello("good.example")] {
        assert_eq!(refused(&[&GSS_REQUEST, tail]).await, Some(Fault::Startup), "{tail:?}");
    }
}

#[tokio::test]
async fn bytes_sent_with_the_request_are_garbled_and_reach_nobody() {
    let query = b"Q\0\0\0\x0dSELECT 1\0";
    for tail in [&hello("good.example")[..], STARTUP, query] {
        for request in [SSL_REQUEST, GSS_REQUEST] {
            let world = World::new(Plan::on_port(443)).await;
            let mut client = world.say(&[&request[..], tail].concat()).await;
            assert!(is_reset(&mut client).await);
            assert_eq!(world.decision().await.fault, Some(Fault::Startup));
            assert!(world.dialled().is_empty());
        }
    }
}

#[tokio::test]
async fn a_client_that_stops_after_the_answer_is_silent_at_the_deadline() {
    for part in [0, 50] {
        let world = World::new(Plan::on_port(443)).await;
        let mut client = begun(&world).await;
        client.write_all(&hello("good.example")[..part]).await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
        assert_eq!(world.decision().await.reason, Reason::Silent);
        assert!(world.dialled().is_empty());
    }
}

#[tokio::test]
async fn a_server_that_does_not_agree_is_upstream_failed_and_gets_no_hello() {
    for answer in [&b"N"[..], b"E", b"\x16", b"", b"Nmore"] {
        let world = World::new(Plan::on_port(443)).await;
        let mut client = begun(&world).await;
        client.write_all(&hello("good.example")).await.unwrap();
        let mut server = world.accepted().await;
        assert_eq!(take(&mut server, SSL_REQUEST.len()).await, SSL_REQUEST);
        server.write_all(answer).await.unwrap();
        server.shutdown().await.unwrap();
        assert!(is_reset(&mut client).await);
        assert_eq!(rest(&mut server).await.unwrap_or_default(), b"", "{answer:?}");
        let closed = world.closed().await;
        assert_eq!((closed.ending, closed.sent, closed.received), (Ending::UpstreamFailed, 0, 0));
        assert!(closed.error.is_some());
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_at_the_connect_deadline() {
    let mut plan = Plan::on_port(443);
    plan.config.connect_timeout = std::time::Duration::from_millis(200);
    let world = World::new(plan).await;
    let mut client = begun(&world).await;
    client.write_all(&hello("good.example")).await.unwrap();
    let _server = world.accepted().await;
    assert!(is_reset(&mut client).await);
    world.ends(Ending::UpstreamFailed).await;
}

#[tokio::test]
async fn what_a_server_says_too_early_comes_to_the_client_as_it_came() {
    let world = World::new(Plan::on_port(443)).await;
    let hello = hello("good.example");
    let mut client = begun(&world).await;
    client.write_all(&hello).await.unwrap();
    let mut server = world.accepted().await;
    server.write_all(b"Sinjected").await.unwrap();
    assert_eq!(take(&mut server, SSL_REQUEST.len()).await, SSL_REQUEST);
    // Behind our own answer, where a client takes it for a broken TLS record and for nothing else.
    assert_eq!(take(&mut client, 8).await, b"injected");
}

#[tokio::test]
async fn a_second_hello_is_judged_as_the_first_was() {
    for (name, passes) in [("good.example", true), ("evil.example", false)] {
        let world = World::new(by_protocol(Protocol::Postgres)).await;
        let first = hello("good.example");
        let mut client = begun(&world).await;
        client.write_all(&first).await.unwrap();
        let mut server = agreed(&world).await;
        take(&mut server, first.len()).await;
        server.write_all(&retry_request()).await.unwrap();
        take(&mut client, retry_request().len()).await;
        let second = hello(name);
        client.write_all(&second).await.unwrap();
        if passes {
            assert_eq!(take(&mut server, second.len()).await, second);
        } else {
            assert_eq!(rest(&mut client).await.unwrap(), ACCESS_DENIED);
            assert_eq!(rest(&mut server).await.unwrap(), b"");
            world.ends(Ending::NameChanged).await;
        }
    }
}

/// Port 6379 has a rule by address, but no answer yet.
fn held_by_address() -> Plan {
    let mut plan = Plan { leases: vec![], ..Plan::on_port(6379) };
    plan.config.hold = std::time::Duration::from_secs(3);
    plan.rules.push(address_rule("db", &["db.example"]));
    plan
}

#[tokio::test]
async fn an_address_rule_carries_requests_as_they_are_where_its_answer_is_there_first() {
    let world = World::new(Plan { leases: vec!["db.example"], ..held_by_address() }).await;
    let mut client = world.say(&SSL_REQUEST).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, SSL_REQUEST.len()).await, SSL_REQUEST);
    server.write_all(b"N").await.unwrap();
    assert_eq!(take(&mut client, 1).await, b"N");
    client.write_all(STARTUP).await.unwrap();
    assert_eq!(take(&mut server, STARTUP.len()).await, STARTUP);
}

#[tokio::test]
async fn an_address_rule_that_comes_after_the_promise_has_the_server_keep_it() {
    for said in [0, 100, usize::MAX] {
        let world = World::new(held_by_address()).await;
        let hello = hello("db.example");
        let (now, later) = hello.split_at(said.min(hello.len()));
        let mut client = begun(&world).await;
        client.write_all(now).await.unwrap();
        sleep(std::time::Duration::from_millis(50)).await;
        assert!(world.dialled().is_empty());
        observe(&world.gate, "db.example");
        let mut server = agreed(&world).await;
        client.write_all(later).await.unwrap();
        assert_eq!(take(&mut server, hello.len()).await, hello);
        assert_eq!(world.decision().await.via, Some(Via::Address));
    }
}

#[tokio::test]
async fn observe_mode_passes_what_it_could_not_read() {
    for (parts, agrees) in [
        (vec![STARTUP.to_vec()], false),
        (vec![[&SSL_REQUEST[..], STARTUP].concat()], false),
        (vec![SSL_REQUEST.to_vec(), hello("evil.example")], true),
        (vec![SSL_REQUEST.to_vec(), STARTUP.to_vec()], true),
        (vec![GSS_REQUEST.to_vec(), STARTUP.to_vec()], false),
    ] {
        let world = World::new(Plan { mode: Mode::Observe, ..Plan::on_port(443) }).await;
        let mut client = world.connect().await;
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                take(&mut client, 1).await;
            }
            client.write_all(part).await.unwrap();
        }
        let mut server = if agrees { agreed(&world).await } else { world.accepted().await };
        client.shutdown().await.unwrap();
        assert_eq!(&rest(&mut server).await.unwrap(), parts.last().unwrap());
        assert_eq!(world.decision().await.reason, Reason::ObservedOnly);
    }
}
