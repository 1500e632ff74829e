//! Any sequence of answers, flows, policies, containers and time: the gate says what the reference model of
//! `tests/gate_model` says, allows nothing besides, and keeps its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::facts::{Protocol, Source};

#[path = "../../../gate_model/model.rs"]
mod model;

use model::{PICTURES, POLICIES, Step, World};

/// Steps of one world.
const STEPS: usize = 200;

/// Takes choices off the input, byte by byte.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> Option<usize> {
        self.0.split_off_first().map(|byte| usize::from(*byte))
    }

    fn below(&mut self, bound: usize) -> Option<usize> {
        Some(self.byte()? % bound)
    }

    /// One to three of them.
    fn some(&mut self, bound: usize) -> Option<Vec<usize>> {
        (0..=self.below(3)?).map(|_| self.below(bound)).collect()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        Some(of[self.below(of.len())?])
    }

    /// Moments around which something ends, and others.
    fn millis(&mut self) -> Option<u64> {
        let about = self.one(&[0_u64, 1, 5_000, 60_000, 299_990, 305_000, 360_000, 3_600_000])?;
        Some(about + self.byte()? as u64 * self.one(&[0_u64, 1, 40, 9_000])?)
    }

    fn step(&mut self) -> Option<Step> {
        let sources = [Source::Forwarder, Source::Dnstap, Source::Resolved, Source::Granted];
        let client = self.below(3)?;
        Some(match self.below(16)? {
            0..=2 => Step::Observe {
                client,
                chain: self.some(6)?,
                addresses: self.some(4)?,
                ttl: self.one(&[0, 5, 60, 3600, u32::MAX, i32::MAX as u32])?,
                source: self.one(&sources)?,
                late_ms: if self.below(4)? == 0 { self.millis()? } else { 0 },
            },
            3..=6 => Step::Decide {
                client,
                before: self.below(8)?.saturating_sub(4),
                claim: match self.below(7)? {
                    name @ 0..6 => {
                        let protocol = self.one(&[Protocol::Tls, Protocol::Http, Protocol::Quic])?;
                        Some((name, protocol, self.below(4)? == 0))
                    }
                    _ => None,
                },
                address: self.below(4)?,
                port: self.below(3)?,
                keep: self.below(2)? == 0,
            },
            7 => Step::ByAddress { client, address: self.below(4)?, port: self.below(3)? },
            8 => Step::Question { client, name: self.below(6)? },
            9 => Step::Close { which: self.below(8)? },
            10 => Step::Wait { millis: self.millis()? },
            11 => Step::Sweep,
            12 => Step::Replace { policy: self.below(POLICIES)? },
            13 => Step::Flood { client },
            14 => Step::Containers { picture: self.below(PICTURES)? },
            _ => Step::Suspend,
        })
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let Some(small) = choices.below(2) else { return };
    let mut world = World::new(small == 1);
    for _ in 0..STEPS {
        let Some(step) = choices.step() else { return };
        world.take(step);
    }
});
