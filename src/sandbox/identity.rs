//! Who the command is: the same user as outside, in a user namespace where nobody else is.
//!
//! Must not know what the user may do there.

use std::fs;
use std::io;

use rustix::process::{Pid, getegid, geteuid};
use rustix::thread::CapabilitySet;

/// Makes the users and groups of a new user namespace those of ours. Whoever may name others has them all there,
/// so that their files look as they do outside; else there is only this user and this group.
///
/// # Errors
/// The child is gone, or the kernel refuses.
pub(super) fn map(child: Pid) -> io::Result<()> {
    let folder = format!("/proc/{}", child.as_raw_nonzero());
    let write = |file: &str, text: &str| fs::write(format!("{folder}/{file}"), text);
    if may_map_everybody() {
        write("uid_map", &everybody(&fs::read_to_string("/proc/self/uid_map")?))?;
        return write("gid_map", &everybody(&fs::read_to_string("/proc/self/gid_map")?));
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    write("setgroups", "deny")?;
    write("uid_map", &format!("{user} {user} 1"))?;
    write("gid_map", &format!("{group} {group} 1"))
}

fn may_map_everybody() -> bool {
    let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Turns our own map into one that maps everybody in it to themselves.
fn everybody(map: &str) -> String {
    let same = map.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (first, count) = (words.next()?, words.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    });
    same.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_mapped_to_themselves() {
        assert_eq!(everybody("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(everybody("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
        assert_eq!(everybody(""), "");
    }
}
