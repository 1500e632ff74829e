//! Benches of the audit log: a decision and a close line, from the corridor's hands to a file that keeps nothing;
//! allocations are counted.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use namegate::facts::{Flow, FlowId, Moment, Name, Protocol, Source, Tick, Transport, Via};
use namegate::gate::{Evidence, Reason};
use namegate::record::{Closed, Decided, Ending, Event, Log, Origin, RecordConfig, Target, WhenFull};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const CONNECTIONS: u64 = 10_000;

fn now() -> Moment {
    Moment {
        tick: Tick::from_nanos(1 << 40),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

fn decided(flow: Flow, name: &Name) -> Event {
    let chain = Arc::from([name.clone()]);
    let (answered_at, expires_at) = (Tick::from_nanos(1 << 39), Tick::from_nanos(1 << 41));
    Event::Decided(Decided {
        flow,
        origin: Origin::default(),
        at: now(),
        name: Some(name.clone()),
        protocol: Some(Protocol::Tls),
        via: Some(Via::Sni),
        ech: false,
        fault: None,
        reason: Reason::Allowed,
        would: None,
        rule: None,
        evidence: Some(Evidence { source: Source::Forwarder, answered_at, ttl_secs: 60, expires_at, chain }),
        held: Duration::ZERO,
        over: None,
        later: false,
    })
}

fn closed(flow: Flow, name: &Name) -> Event {
    Event::Closed(Closed {
        flow,
        origin: Origin::default(),
        name: Some(name.clone()),
        at: now(),
        ending: Ending::Closed,
        sent: 1_234,
        received: 56_789,
        error: None,
    })
}

/// Two lines a connection, written out before the clock stops.
#[divan::bench(sample_count = 20)]
fn two_lines_a_connection(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let name = Name::parse("service-17.eu-west.example.com").unwrap();
    let source: SocketAddr = "192.0.2.17:43210".parse().unwrap();
    let destination: SocketAddr = "203.0.113.10:443".parse().unwrap();
    let config = RecordConfig {
        to: vec![Target::File("/dev/null".into())],
        when_full: WhenFull::Block,
        queue: 16_384,
    };
    bencher.counter(ItemsCount::new(CONNECTIONS)).with_inputs(|| Log::open(&config).unwrap()).bench_values(
        |log| {
            runtime.block_on(async {
                for number in 0..CONNECTIONS {
                    let flow = Flow::new(FlowId(number), source, destination, Transport::Tcp, now().tick);
                    log.record(decided(flow, &name)).await;
                    log.record(closed(flow, &name)).await;
                }
                log.close().await;
            });
        },
    );
}
