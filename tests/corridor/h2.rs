//! HTTP/2 with prior knowledge: every request judged, a client that waits for the server first, and refusals
//! that leave what was allowed alone.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use namegate::facts::{Protocol, Via};
use namegate::gate::{Mode, Reason};
use namegate::record::Ending;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::world::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// A request's header block: GET, http, / and this authority, which the client's compression remembers.
fn block(name: &str) -> Vec<u8> {
    [&[0x82, 0x86, 0x84, 0x41, name.len() as u8][..], name.as_bytes()].concat()
}

/// A whole request without a body.
fn ask(stream: u32, name: &str) -> Vec<u8> {
    frame(1, 5, stream, &block(name))
}

fn opening() -> Vec<u8> {
    [PREFACE, &EMPTY_SETTINGS].concat()
}

/// 204 and the end of the stream.
fn answer(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, &[0x89])
}

/// Reads one frame: its type, its stream and its payload.
async fn next_frame(stream: &mut TcpStream) -> (u8, u32, Vec<u8>) {
    let header = take(stream, 9).await;
    let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
    (header[3], id, take(stream, len).await)
}

/// A connection whose first request has reached the server, which has said its SETTINGS.
async fn asked(plan: Plan) -> (World, TcpStream, TcpStream) {
    greeted(plan, &ask(1, "good.example")).await
}

/// The same with this as the first request.
async fn greeted(plan: Plan, request: &[u8]) -> (World, TcpStream, TcpStream) {
    let world = World::new(plan).await;
    let first = [&opening(), request].concat();
    let mut client = world.say(&first).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, first.len()).await, first);
    server.write_all(&EMPTY_SETTINGS).await.unwrap();
    assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
    (world, client, server)
}

fn both_leased(port: u16) -> Plan {
    Plan { leases: vec!["good.example", "other.example"], ..Plan::on_port(port) }
}

#[tokio::test]
async fn a_request_is_judged_by_its_authority_and_passes_byte_for_byte() {
    let (world, mut client, mut server) = asked(both_leased(80)).await;
    let decided = world.decision().await;
    assert_eq!(
        (decided.reason, decided.protocol, decided.via),
        (Reason::Allowed, Some(Protocol::H2), Some(Via::Authority))
    );
    let more = [ask(3, "other.example"), SETTINGS_ACK.to_vec(), ask(5, "good.example")].concat();
    client.write_all(&more).await.unwrap();
    assert_eq!(take(&mut server, more.len()).await, more);
    let answers = [answer(3), answer(1), answer(5)].concat();
    server.write_all(&answers).await.unwrap();
    assert_eq!(take(&mut client, answers.len()).await, answers);
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    drop(server);
    world.ends(Ending::Closed).await;
}

#[tokio::test]
async fn nothing_more_passes_to_a_server_that_showed_that_it_speaks_something_else() {
    let world = World::new(Plan::on_port(80)).await;
    let first = [opening(), frame(1, 4, 1, &block("good.example"))].concat();
    let mut client = world.say(&first).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, first.len()).await, first);
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    server.write_all(answer).await.unwrap();
    assert_eq!(take(&mut client, answer.len()).await, answer);
    let smuggled = b"\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    client.write_all(&frame(0, 0, 1, smuggled)).await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap_or_default(), b"");
    drop(server);
    world.ends(Ending::Garbled).await;
}

/// What they cost is the unit test's of `proxy::stream`.
#[tokio::test]
async fn what_was_open_goes_on_behind_a_flood_of_frames_that_are_thrown_away() {
    let upload = frame(1, 4, 1, &block("good.example"));
    let (_world, mut client, mut server) = greeted(both_leased(80), &upload).await;
    let data = frame(0, 0, 1, b"x");
    let nothing = frame(0, 0, 0x7fff_fffd, b"");
    let flood = [ask(3, "evil.example"), nothing.repeat(200_000), data.clone()].concat();
    let passed = async {
        client.write_all(&flood).await.unwrap();
        take(&mut server, data.len()).await
    };
    assert_eq!(timeout(Duration::from_secs(3), passed).await.unwrap(), data);
}

#[tokio::test]
async fn a_client_that_waits_for_the_server_is_greeted_and_its_answer_to_that_is_kept_back() {
    for step in [1, 9, 1000] {
        let world = World::new(Plan::on_port(80)).await;
        let mut client = world.say(&opening()).await;
        assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
        assert!(world.dialled().is_empty(), "nobody knows the name yet");
        let request = ask(1, "good.example");
        let said = [&SETTINGS_ACK[..], &request].concat();
        for piece in said.chunks(step) {
            client.write_all(piece).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        let mut server = world.accepted().await;
        let expected = [opening(), request].concat();
        assert_eq!(take(&mut server, expected.len()).await, expected);
        // The server's own SETTINGS are acknowledged to the server.
        server.write_all(&EMPTY_SETTINGS).await.unwrap();
        take(&mut client, 9).await;
        client.write_all(&SETTINGS_ACK).await.unwrap();
        assert_eq!(take(&mut server, 9).await, SETTINGS_ACK);
        client.write_all(&SETTINGS_ACK).await.unwrap();
        assert_eq!(rest(&mut server).await.ok().unwrap_or_default(), b"", "one too many");
        world.ends(Ending::Garbled).await;
    }
}

#[tokio::test]
async fn the_answer_to_a_greeting_may_come_after_the_request() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&opening()).await;
    assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
    let (first, second) = (ask(1, "good.example"), ask(3, "good.example"));
    client.write_all(&first).await.unwrap();
    let mut server = world.accepted().await;
    take(&mut server, opening().len() + first.len()).await;
    server.write_all(&EMPTY_SETTINGS).await.unwrap();
    take(&mut client, 9).await;
    client.write_all(&[&SETTINGS_ACK[..], &SETTINGS_ACK, &second].concat()).await.unwrap();
    let expected = [&SETTINGS_ACK[..], &second].concat();
    assert_eq!(take(&mut server, expected.len()).await, expected);
}

#[tokio::test]
async fn a_denied_first_request_is_answered_on_its_stream_and_never_dialled() {
    for waits in [false, true] {
        let world = World::new(Plan::on_port(80)).await;
        let mut client = world.connect().await;
        if waits {
            client.write_all(&opening()).await.unwrap();
            assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
            client.write_all(&ask(1, "evil.example")).await.unwrap();
        } else {
            client.write_all(&[opening(), ask(1, "evil.example")].concat()).await.unwrap();
            assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
        }
        let (kind, stream, block) = next_frame(&mut client).await;
        assert_eq!((kind, stream, &block[..5]), (1, 1, &[8, 3, b'4', b'0', b'3'][..]));
        let (kind, stream, body) = next_frame(&mut client).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!((kind, stream), (0, 1));
        assert!(body.starts_with("namegate: name_not_allowed\nname: evil.example\nflow: "), "{body}");
        assert_eq!(next_frame(&mut client).await, (GOAWAY, 0, vec![0, 0, 0, 1, 0, 0, 0, 0]));
        assert_eq!(rest(&mut client).await.unwrap(), b"");
        assert!(world.dialled().is_empty());
        assert_eq!(world.decision().await.protocol, Some(Protocol::H2));
    }
}

#[tokio::test]
async fn a_denied_request_after_the_answers_is_refused_on_its_stream() {
    let (world, mut client, mut server) = asked(Plan::on_port(80)).await;
    server.write_all(&answer(1)).await.unwrap();
    take(&mut client, answer(1).len()).await;
    client.write_all(&ask(3, "evil.example")).await.unwrap();
    let (kind, stream, _) = next_frame(&mut client).await;
    assert_eq!((kind, stream), (1, 3));
    let (_, _, body) = next_frame(&mut client).await;
    assert!(String::from_utf8(body).unwrap().starts_with("namegate: name_changed\nname: evil.example\n"));
    assert_eq!(next_frame(&mut client).await.0, GOAWAY);
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn a_denied_request_beside_others_says_goodbye_and_leaves_them_alone() {
    let (world, mut client, mut server) = asked(Plan::on_port(80)).await;
    let upload = frame(1, 4, 3, &block("good.example"));
    client.write_all(&[&upload[..], &frame(0, 0, 3, b"one ")].concat()).await.unwrap();
    take(&mut server, upload.len() + 13).await;
    // The server is in the middle of a frame: nothing may be said there.
    let data = frame(0, 0, 1, b"half and half");
    server.write_all(&data[..14]).await.unwrap();
    assert_eq!(take(&mut client, 14).await, data[..14]);
    let denied = [
        frame(1, 0, 5, &block("evil.example")),
        frame(9, 4, 5, &[]),
        frame(0, 1, 5, b"never seen"),
        ask(7, "good.example"),
    ];
    client.write_all(&denied.concat()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.write_all(&data[14..]).await.unwrap();
    server.write_all(&frame(1, 0, 1, &[0x88])[..5]).await.unwrap();
    assert_eq!(take(&mut client, data.len() - 14).await, data[14..]);
    let (kind, stream, words) = next_frame(&mut client).await;
    assert_eq!((kind, stream, &words[..8]), (GOAWAY, 0, &[0, 0, 0, 3, 0, 0, 0, 0][..]));
    let words = String::from_utf8(words[8..].to_vec()).unwrap();
    assert!(words.starts_with("namegate: name_changed\nname: evil.example\nflow: "), "{words}");
    server.write_all(&frame(1, 0, 1, &[0x88])[5..]).await.unwrap();
    server.write_all(&frame(9, 4, 1, &[])).await.unwrap();
    take(&mut client, 10 + 9).await;
    // The upload and its flow control go on.
    let going_on = [frame(8, 0, 0, &[0, 0, 1, 0]), frame(0, 1, 3, b"two")].concat();
    client.write_all(&going_on).await.unwrap();
    assert_eq!(take(&mut server, going_on.len()).await, going_on);
    server.write_all(&[answer(3), frame(0, 1, 1, b"end")].concat()).await.unwrap();
    assert_eq!(take(&mut client, answer(3).len() + 12).await, [answer(3), frame(0, 1, 1, b"end")].concat());
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn a_client_that_leaves_after_a_refusal_ends_the_connection() {
    let (world, mut client, mut server) = asked(Plan::on_port(80)).await;
    client.write_all(&ask(3, "evil.example")).await.unwrap();
    assert_eq!(next_frame(&mut client).await.0, GOAWAY);
    drop(client);
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    drop(server);
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_connection_once_the_answers_are_complete() {
    let (world, mut client, mut server) = asked(Plan::on_port(80)).await;
    client.write_all(&frame(9, 4, 1, &[])).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.write_all(&answer(1)).await.unwrap();
    assert_eq!(take(&mut client, answer(1).len()).await, answer(1));
    let (kind, _, words) = next_frame(&mut client).await;
    assert_eq!(kind, GOAWAY);
    assert!(String::from_utf8_lossy(&words).contains("namegate: garbled\n"));
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    world.ends(Ending::Garbled).await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused_at_its_deadline() {
    let (world, mut client, mut server) = asked(Plan::on_port(80)).await;
    server.write_all(&answer(1)).await.unwrap();
    take(&mut client, answer(1).len()).await;
    client.write_all(&frame(1, 1, 3, &block("good.example"))).await.unwrap();
    let (kind, _, words) = next_frame(&mut client).await;
    assert_eq!(kind, GOAWAY);
    assert!(String::from_utf8_lossy(&words).contains("namegate: silent\n"));
    world.ends(Ending::Garbled).await;
}

#[tokio::test]
async fn a_client_that_says_no_name_is_told_at_its_deadline() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&opening()).await;
    assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
    let (kind, _, words) = next_frame(&mut client).await;
    assert_eq!((kind, words[7]), (GOAWAY, 1));
    assert_eq!(world.decision().await.reason, Reason::Silent);
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn observe_mode_disturbs_neither_the_nameless_nor_the_garbled() {
    let nameless = frame(1, 5, 1, &block("192.0.2.7"));
    let garbled = frame(1, 5, 1, &[&block("good.example")[..], &field("host", "evil.example")].concat());
    for (request, reason) in [(nameless, Reason::ObservedOnly), (garbled, Reason::ObservedOnly)] {
        let world = World::new(Plan { mode: Mode::Observe, ..Plan::on_port(80) }).await;
        let mut client = world.say(&opening()).await;
        assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
        client.write_all(&request).await.unwrap();
        let mut server = world.accepted().await;
        let expected = [opening(), request].concat();
        assert_eq!(take(&mut server, expected.len()).await, expected);
        assert_eq!(world.decision().await.reason, reason);
        server.write_all(&EMPTY_SETTINGS).await.unwrap();
        take(&mut client, 9).await;
        client.write_all(&[&SETTINGS_ACK[..], &SETTINGS_ACK, b"anything"].concat()).await.unwrap();
        let expected = [&SETTINGS_ACK[..], b"anything"].concat();
        assert_eq!(take(&mut server, expected.len()).await, expected);
    }
}

#[tokio::test]
async fn a_rule_for_another_protocol_does_not_serve_it() {
    for (protocol, reason) in [(Protocol::Http, Reason::ProtocolNotAllowed), (Protocol::H2, Reason::Allowed)]
    {
        let mut plan = Plan::on_port(80);
        plan.rules[0].protocols = vec![protocol];
        let world = World::new(plan).await;
        let _client = world.say(&[opening(), ask(1, "good.example")].concat()).await;
        assert_eq!(world.decision().await.reason, reason);
    }
}

#[tokio::test]
async fn an_upgrade_to_http_2_stops_at_its_preface() {
    let upgrade =
        b"GET / HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(upgrade).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, upgrade.len()).await, upgrade);
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    server.write_all(switch).await.unwrap();
    take(&mut client, switch.len()).await;
    client.write_all(&[opening(), ask(3, "evil.example")].concat()).await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap_or_default(), b"");
}

/// A real client over the corridor, and the side of the server.
async fn connected(world: &World) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(world.connect().await).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    send.ready().await.unwrap()
}

/// Answers every request with its own authority; returns what was asked for when the connection ends.
pub(crate) async fn serve(stream: TcpStream) -> Vec<String> {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut asked = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let authority = request.uri().authority().unwrap().to_string();
        asked.push(authority.clone());
        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
        body.send_data(authority.into(), true).unwrap();
    }
    asked
}

async fn fetch(send: &mut SendRequest<Bytes>, uri: String) -> Result<Vec<u8>, h2::Error> {
    let (response, _) = send.send_request(Request::get(uri).body(()).unwrap(), true)?;
    let mut body = within(response).await?.into_body();
    let mut all = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[tokio::test]
async fn a_real_client_and_a_real_server_agree_over_many_requests() {
    let world = World::new(both_leased(80)).await;
    let mut send = connected(&world).await;
    let first = tokio::spawn({
        let mut send = send.clone();
        async move { fetch(&mut send, "http://good.example/".into()).await }
    });
    let serving = tokio::spawn(serve(world.accepted().await));
    assert_eq!(first.await.unwrap().unwrap(), b"good.example");
    let mut expected = vec!["good.example".to_owned()];
    for index in 0..200 {
        let name = if index % 3 == 0 { "other.example" } else { "good.example" };
        let uri = format!("http://{name}/{}?q={index}", "path/".repeat(index % 7));
        assert_eq!(fetch(&mut send, uri).await.unwrap(), name.as_bytes());
        expected.push(name.to_owned());
    }
    let refused = fetch(&mut send, "http://evil.example/".into()).await.unwrap();
    assert!(refused.starts_with(b"namegate: name_changed\nname: evil.example\n"));
    drop(send);
    assert_eq!(within(serving).await.unwrap(), expected);
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn an_address_rule_that_decides_after_the_greeting_still_keeps_its_answer_back() {
    let plan = Plan {
        rules: vec![rule("else", &["else.example"]), address_rule("cache", &["cache.example"])],
        leases: vec![],
        ..Plan::on_port(6379)
    };
    let world = World::new(plan).await;
    let mut client = world.say(&opening()).await;
    assert_eq!(take(&mut client, 9).await, EMPTY_SETTINGS);
    observe(&world.gate, "cache.example");
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, opening().len()).await, opening());
    assert_eq!(world.decision().await.via, Some(Via::Address));
    let said = [&SETTINGS_ACK[..], &ask(1, "evil.example"), &SETTINGS_ACK].concat();
    client.write_all(&said).await.unwrap();
    assert_eq!(take(&mut server, said.len() - 9).await, said[9..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_unharmed_and_about_as_fast_as_over_http_1() {
    const FRAMES: usize = 6400;
    let data = frame(0, 0, 1, &[7; 16_384]);
    let mut took = Vec::new();
    for is_h2 in [false, true] {
        let mut plan = Plan::on_port(80);
        plan.config.idle_timeout = Duration::from_secs(30);
        let (_world, mut client, mut server) = if is_h2 {
            asked(plan).await
        } else {
            let world = World::new(plan).await;
            let mut client = world.say(&get("good.example")).await;
            let mut server = world.accepted().await;
            take(&mut server, get("good.example").len()).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", FRAMES * data.len());
            server.write_all(head.as_bytes()).await.unwrap();
            take(&mut client, head.len()).await;
            (world, client, server)
        };
        let started = tokio::time::Instant::now();
        let sending = tokio::spawn({
            let data = data.clone();
            async move {
                for _ in 0..FRAMES {
                    server.write_all(&data).await.unwrap();
                }
                server
            }
        });
        for _ in 0..FRAMES {
            assert!(take(&mut client, data.len()).await == data);
        }
        took.push(started.elapsed());
        sending.await.unwrap();
    }
    // A scan of every byte would cost many times as much.
    assert!(took[1] < took[0] * 3 + Duration::from_millis(500), "{took:?}");
}
