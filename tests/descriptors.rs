//! Without descriptors the listener waits: it neither spins nor goes away, and serves when there are some again.
//!
//! Alone in its process, because the limit is the process's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "corridor/world.rs"]
#[allow(dead_code, reason = "the world of the corridor's tests has more than is used here")]
mod world;

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use world::{Plan, World, within};

const CLIENTS: usize = 10;

#[tokio::test]
async fn a_listener_out_of_descriptors_waits_and_then_serves_everyone() {
    let mut plan = Plan::on_port(443);
    plan.config.sniff_timeout = Duration::from_millis(200);
    let world = World::new(plan).await;
    // Without an await in between: all of them wait in the kernel's queue.
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(world.proxy).unwrap()).collect();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 3), maximum: before.maximum }).unwrap();
    let started = clock_gettime(ClockId::ProcessCPUTime);
    sleep(Duration::from_millis(100)).await;
    assert!(world.decided().is_empty());
    within(async {
        while world.decided().len() < CLIENTS {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let millis = (spent.tv_sec - started.tv_sec) * 1000 + (spent.tv_nsec - started.tv_nsec) / 1_000_000;
    assert!(millis < 500, "{millis} ms of CPU spent on waiting");
    drop(clients);
}
