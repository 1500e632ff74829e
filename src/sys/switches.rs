//! The kernel's switches under `/proc/sys` (sysctl), read only.
//!
//! Must not know what a switch means.

use std::io;
use std::path::Path;

/// Reads a switch, named by its path: `net/ipv4/ip_forward`. `None`: this kernel has no such switch.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(name: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(Path::new("/proc/sys").join(name)) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a switch that holds numbers; `None`: there is none, or it holds something else.
///
/// # Errors
/// As [`read`].
pub fn numbers(name: &str) -> io::Result<Option<Vec<u64>>> {
    let Some(text) = read(name)? else { return Ok(None) };
    Ok(text.split_whitespace().map(|word| word.parse().ok()).collect())
}

/// Whether a switch is there and not zero.
///
/// # Errors
/// As [`read`].
pub fn is_on(name: &str) -> io::Result<bool> {
    Ok(read(name)?.is_some_and(|value| value != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_and_one_that_is_not_there_is_none() {
        assert_eq!(numbers("net/ipv4/ip_local_port_range").unwrap().map(|range| range.len()), Some(2));
        assert_eq!(read("net/ipv4/no_such_switch").unwrap(), None);
        assert!(!is_on("net/ipv4/no_such_switch").unwrap());
        assert_eq!(numbers("kernel/ostype").unwrap(), None);
    }
}
