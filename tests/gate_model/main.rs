//! A reference model of the gate, naive and obviously right, against the gate itself under random
//! transitions.
//!
//! The model remembers every answer for ever and walks every rule, and knows every tenant that an address ever had.
//! Where the gate may forget (an hour after the end of a lease, or over its bounds), forgetting is the only difference
//! it is allowed.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod model;

use model::{PICTURES, POLICIES, Step, World};
use namegate::facts::{Protocol, Source};
use proptest::prelude::*;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let source = prop_oneof![
        Just(Source::Forwarder),
        Just(Source::Dnstap),
        Just(Source::Resolved),
        Just(Source::Granted)
    ];
    let ttl = prop_oneof![Just(0_u32), Just(5), Just(60), Just(3600), Just(0x7fff_ffff), Just(u32::MAX)];
    let protocol = prop_oneof![Just(Protocol::Tls), Just(Protocol::Http), Just(Protocol::Quic)];
    let claim = proptest::option::weighted(0.8, (0..6_usize, protocol, proptest::bool::weighted(0.2)));
    let before = prop_oneof![3 => Just(0_usize), 1 => 0..4_usize];
    let wait = prop_oneof![0..10_000_u64, 60_000..70_000_u64, 299_999..305_002_u64, 3_000_000..4_000_000_u64];
    let late = prop_oneof![3 => Just(0_u64), 1 => 0..400_000_u64];
    let chain = proptest::collection::vec(0..6_usize, 1..4);
    let some = proptest::collection::vec(0..4_usize, 1..4);
    let step = prop_oneof![
        5 => (0..3_usize, chain, some, ttl, source, late).prop_map(
            |(client, chain, addresses, ttl, source, late_ms)| Step::Observe {
                client, chain, addresses, ttl, source, late_ms,
            }
        ),
        8 => (0..3_usize, before, claim, 0..4_usize, 0..3_usize, any::<bool>()).prop_map(
            |(client, before, claim, address, port, keep)| Step::Decide {
                client, before, claim, address, port, keep,
            }
        ),
        3 => (0..3_usize, 0..4_usize, 0..3_usize)
            .prop_map(|(client, address, port)| Step::ByAddress { client, address, port }),
        1 => (0..3_usize, 0..6_usize).prop_map(|(client, name)| Step::Question { client, name }),
        2 => (0..8_usize).prop_map(|which| Step::Close { which }),
        3 => wait.prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Sweep),
        1 => (0..POLICIES).prop_map(|policy| Step::Replace { policy }),
        1 => (0..3_usize).prop_map(|client| Step::Flood { client }),
        2 => (0..PICTURES).prop_map(|picture| Step::Containers { picture }),
        1 => Just(Step::Suspend),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gate_says_what_the_model_says(steps in steps()) {
        let mut world = World::new(false);
        for step in steps {
            world.take(step);
        }
    }

    #[test]
    fn a_gate_too_small_forgets_but_never_opens_more(steps in steps()) {
        let mut world = World::new(true);
        for step in steps {
            world.take(step);
        }
    }
}
