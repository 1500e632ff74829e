//! Open flows: bytes, ends, resets, limits, and a policy that changes under them.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use namegate::gate::{Mode, Reason};
use namegate::record::Ending;
use namegate::sys::socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep};

use super::world::*;

/// A flow that was let through; the hello and its answer were taken off.
async fn open(plan: Plan) -> (World, TcpStream, TcpStream) {
    let world = World::new(plan).await;
    let hello = hello("good.example");
    let mut client = world.say(&hello).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, hello.len()).await, hello);
    server.write_all(&ANSWERED).await.unwrap();
    assert_eq!(take(&mut client, ANSWERED.len()).await, ANSWERED);
    (world, client, server)
}

#[tokio::test]
async fn a_half_close_of_the_client_leaves_the_other_direction_open() {
    let (world, mut client, mut server) = open(Plan::on_port(443)).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"question");
    sleep(Duration::from_millis(50)).await;
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"answer");
    let closed = world.closed().await;
    assert_eq!((closed.ending, closed.received), (Ending::Closed, ANSWERED.len() as u64 + 6));
    assert_eq!(closed.sent, hello("good.example").len() as u64 + 8);
}

#[tokio::test]
async fn a_half_close_of_the_server_leaves_the_other_direction_open() {
    let (world, mut client, mut server) = open(Plan::on_port(443)).await;
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"answer");
    client.write_all(b"late").await.unwrap();
    assert_eq!(take(&mut server, 4).await, b"late");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    world.ends(Ending::Closed).await;
}

#[tokio::test]
async fn a_reset_of_the_client_is_a_reset_at_the_server() {
    let (world, client, mut server) = open(Plan::on_port(443)).await;
    socket::reset_on_close(&client).unwrap();
    drop(client);
    assert!(is_reset(&mut server).await);
    world.ends(Ending::ClientReset).await;
}

#[tokio::test]
async fn a_reset_of_the_server_is_a_reset_at_the_client() {
    let (world, mut client, server) = open(Plan::on_port(443)).await;
    socket::reset_on_close(&server).unwrap();
    drop(server);
    assert!(is_reset(&mut client).await);
    world.ends(Ending::ServerReset).await;
}

#[tokio::test]
async fn a_reset_is_noticed_while_the_other_side_does_not_read() {
    let (world, mut client, server) = open(Plan::on_port(443)).await;
    let block = vec![0; 1 << 20];
    // Fills every buffer on the way, until nothing moves any more.
    while tokio::time::timeout(Duration::from_millis(300), client.write_all(&block)).await.is_ok() {}
    socket::reset_on_close(&client).unwrap();
    drop(client);
    world.ends(Ending::ClientReset).await;
    drop(server);
}

#[tokio::test]
async fn a_server_that_answers_early_and_closes_is_heard() {
    let (world, mut client, mut server) = open(Plan::on_port(443)).await;
    server.write_all(b"too large").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(take(&mut client, 9).await, b"too large");
    drop(server);
    while client.write_all(&[0; 1000]).await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    world.ends(Ending::ServerReset).await;
}

const BULK: usize = 50_000_000;

async fn send(mut to: OwnedWriteHalf) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut block = vec![0_u8; 100_000];
    for round in 0..BULK / block.len() {
        for (index, byte) in block.iter_mut().enumerate().step_by(97) {
            *byte = (round * 31 + index) as u8;
        }
        hasher.write(&block);
        to.write_all(&block).await.unwrap();
    }
    to.shutdown().await.unwrap();
    hasher.finish()
}

async fn receive(mut from: OwnedReadHalf) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut block = vec![0_u8; 100_000];
    for _ in 0..BULK / block.len() {
        from.read_exact(&mut block).await.unwrap();
        hasher.write(&block);
    }
    assert_eq!(from.read(&mut block).await.unwrap(), 0);
    hasher.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_unharmed_in_both_directions_at_once() {
    let mut plan = Plan::on_port(443);
    plan.config.idle_timeout = Duration::from_secs(30);
    let (world, client, server) = open(plan).await;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let all = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(
            tokio::spawn(send(client_write)),
            tokio::spawn(receive(server_read)),
            tokio::spawn(send(server_write)),
            tokio::spawn(receive(client_read)),
        )
    });
    let (up_sent, up, down_sent, down) = all.await.unwrap();
    assert_eq!(up_sent.unwrap(), up.unwrap());
    assert_eq!(down_sent.unwrap(), down.unwrap());
    let closed = world.closed().await;
    assert_eq!((closed.ending, closed.received), (Ending::Closed, (ANSWERED.len() + BULK) as u64));
}

#[tokio::test]
async fn an_idle_flow_is_ended_and_a_busy_one_is_not() {
    let mut plan = Plan::on_port(443);
    plan.config.idle_timeout = Duration::from_millis(300);
    let (world, mut client, mut server) = open(plan).await;
    for _ in 0..6 {
        sleep(Duration::from_millis(100)).await;
        client.write_all(b"x").await.unwrap();
        take(&mut server, 1).await;
    }
    assert!(is_reset(&mut client).await);
    world.ends(Ending::Idle).await;
}

#[tokio::test]
async fn a_policy_that_no_longer_allows_a_flow_ends_it() {
    let (world, mut client, mut server) = open(Plan::on_port(443)).await;
    world.gate.replace(policy(vec![rule("good", &["good.example"])], Mode::Enforce));
    world.changes.send(1).unwrap();
    client.write_all(b"still here").await.unwrap();
    assert_eq!(take(&mut server, 10).await, b"still here");
    world.gate.replace(policy(vec![rule("else", &["else.example"])], Mode::Enforce));
    world.changes.send(2).unwrap();
    assert!(is_reset(&mut client).await);
    assert!(is_reset(&mut server).await);
    world.ends(Ending::Revoked).await;
    assert_eq!(world.decision().await.reason, Reason::Allowed);
}

#[tokio::test]
async fn a_policy_change_ends_a_flow_that_never_rests() {
    let (world, mut client, mut server) = open(Plan::on_port(443)).await;
    let pump = tokio::spawn(async move { while client.write_all(&[0; 65_536]).await.is_ok() {} });
    let sink = tokio::spawn(async move { while matches!(server.read(&mut [0; 65_536]).await, Ok(1..)) {} });
    sleep(Duration::from_millis(50)).await;
    world.gate.replace(policy(vec![rule("else", &["else.example"])], Mode::Enforce));
    world.changes.send(1).unwrap();
    within(pump).await.unwrap();
    within(sink).await.unwrap();
    world.ends(Ending::Revoked).await;
}

#[tokio::test]
async fn a_drain_lets_flows_finish_and_cuts_those_that_do_not() {
    let (world, mut client, mut server) = open(Plan::on_port(443)).await;
    world.cancel.cancel();
    sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(world.proxy).await.is_err(), "nothing new is taken in");
    client.write_all(b"goes on").await.unwrap();
    assert_eq!(take(&mut server, 7).await, b"goes on");
    let started = Instant::now();
    assert!(is_reset(&mut client).await);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(world.closed().await.ending, Ending::Drained);
    within(world.serving).await.unwrap();
}

#[tokio::test]
async fn a_drain_without_open_flows_is_over_at_once() {
    let (world, client, server) = open(Plan::on_port(443)).await;
    drop((client, server));
    world.ends(Ending::Closed).await;
    world.cancel.cancel();
    let started = Instant::now();
    within(world.serving).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(250));
}

#[tokio::test]
async fn a_client_that_is_still_silent_when_the_drain_ends_is_decided_and_recorded() {
    let mut plan = Plan::on_port(443);
    plan.config.sniff_timeout = Duration::from_secs(60);
    let world = World::new(plan).await;
    let _client = world.connect().await;
    sleep(Duration::from_millis(50)).await;
    world.cancel.cancel();
    assert_eq!(world.decision().await.reason, Reason::Silent);
}
