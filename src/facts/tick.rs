//! Instants. A `Tick` counts time that includes suspend, a `Moment` adds the wall clock.
//!
//! Nothing here reads a clock: instants are arguments everywhere, made in `sys`.

use std::time::{Duration, SystemTime};

/// Nanoseconds since the machine booted, time asleep included (`CLOCK_BOOTTIME`).
///
/// A lease must age while a laptop sleeps, and must not move when somebody sets the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    /// Wraps a count of nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since boot.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Returns this instant moved forward by `by`, stopping at the largest representable instant.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns how long ago `earlier` was, zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One reading of both clocks: `tick` for everything that ages, `wall` for what people wrote down
/// as a date (`until = 2026-12-31`) and for log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic, suspend-aware.
    pub tick: Tick,
    /// The wall clock; may jump.
    pub wall: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_and_subtracting_never_goes_below_zero() {
        let late = Tick::from_nanos(u64::MAX - 1).after(Duration::from_secs(5));
        assert_eq!(late.nanos(), u64::MAX);
        assert_eq!(Tick::from_nanos(1).since(Tick::from_nanos(9)), Duration::ZERO);
        assert_eq!(Tick::from_nanos(9).since(Tick::from_nanos(4)), Duration::from_nanos(5));
    }
}
