//! The kernel: the only room with raw system calls and `unsafe`, one facility a file.
//!
//! Must not know names, rules or verdicts.

pub mod addresses;
pub mod cgroup;
pub mod clock;
pub mod confine;
pub mod descriptors;
pub mod holder;
pub mod host;
pub mod interfaces;
pub mod limits;
pub mod listeners;
pub mod loopback;
pub mod monitor;
pub mod mounts;
pub mod neighbours;
pub mod netlink;
pub mod origdst;
pub mod owner;
pub mod pass;
pub mod pipes;
pub mod ports;
pub mod process;
pub mod signals;
pub mod socket;
pub mod socket_file;
pub mod switches;
pub mod terminal;
pub mod transfer;
pub mod udp;
