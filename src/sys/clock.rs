//! The clocks of this machine.
//!
//! Read once at a door, then passed on as a value. Must not know what the instants are used for.

use std::time::SystemTime;

use crate::facts::{Moment, Tick};

/// Reads the suspend-aware monotonic clock (`CLOCK_BOOTTIME`).
pub fn tick() -> Tick {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Tick::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Reads both clocks.
pub fn now() -> Moment {
    Moment { tick: tick(), wall: SystemTime::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test thread may sleep")]
    fn the_clock_moves_forward() {
        let first = tick();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(tick().since(first) >= std::time::Duration::from_millis(2));
    }
}
