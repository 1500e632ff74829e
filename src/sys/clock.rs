//! The clocks of this machine.
//!
//! Read once at a door, then passed on as a value. Must not know what the instants are used for.

use std::io;
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

/// Whether the kernel believes that the wall clock follows a reference (adjtimex(2), `STA_UNSYNC`). Changes nothing.
///
/// # Errors
/// A seccomp filter, as containers have it, refuses the question.
#[expect(unsafe_code, reason = "no safe wrapper asks for the clock's state")]
pub fn is_synchronised() -> io::Result<bool> {
    // SAFETY: the structure is plain numbers, and `modes` of zero asks and sets nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of the type that the call fills.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(state.status & libc::STA_UNSYNC == 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_clock_can_be_asked_for_without_a_privilege() {
        match is_synchronised() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM), "only a filter refuses: {error}")
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test thread may sleep")]
    fn the_clock_moves_forward() {
        let first = tick();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(tick().since(first) >= std::time::Duration::from_millis(2));
    }
}
