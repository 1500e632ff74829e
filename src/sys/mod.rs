//! The kernel: the only room with raw system calls and `unsafe`, one facility a file.
//!
//! Must not know names, rules or verdicts.

pub mod clock;
pub mod host;
pub mod limits;
pub mod neighbours;
pub mod netlink;
pub mod origdst;
pub mod socket;
pub mod udp;
