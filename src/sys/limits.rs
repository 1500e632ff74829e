//! How many descriptors this process may hold, and whether its death leaves a core file.
//!
//! Must not know what they are used for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one, and returns it; `None`: no limit.
///
/// A process that may not raise it goes on with what it has.
pub fn raise_descriptors() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if setrlimit(Resource::Nofile, wanted).is_ok() { now.maximum } else { now.current }
}

/// Leaves no core file when this process dies by a signal: it is another's death.
pub fn no_core() {
    let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    let _ = setrlimit(Resource::Core, none);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_descriptors();
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
    }
}
