//! How many descriptors this process may hold, and whether its death leaves a core file.
//!
//! Must not know what they are used for.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one, and returns it; `None`: no limit.
///
/// A process that may not raise it goes on with what it has.
pub fn raise_descriptors() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if setrlimit(Resource::Nofile, wanted).is_ok() { now.maximum } else { now.current }
}

/// Returns how many descriptors this process could be given (the hard limit); `None`: no limit.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Returns the same of another process, by its `/proc` entry.
///
/// # Errors
/// There is no such process, or it hides its limits.
pub fn most_descriptors_of(pid: u32) -> io::Result<Option<u64>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no line of open files"))
}

/// The hard limit in the line `Max open files  SOFT  HARD  files` (proc_pid_limits(5)).
fn parse(limits: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
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

    #[test]
    fn the_limit_of_a_process_is_read_as_the_kernel_writes_it() {
        let own = most_descriptors_of(std::process::id()).expect("an own entry");
        assert_eq!(own, most_descriptors());
        let line = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 unlimited            files\n";
        assert_eq!(parse(line), Some(None));
        assert_eq!(parse("Max open files x"), None);
        assert_eq!(parse(""), None);
    }
}
