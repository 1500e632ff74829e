//! Containers.
//!
//! Must not judge.

use std::path::Path;

use crate::doctor::facts::Containers;

pub(super) fn look() -> Containers {
    if Path::new(SOCKET).exists() {
        Containers::Unreachable("containers cannot be looked at in this version".to_owned())
    } else {
        Containers::NoDocker
    }
}

const SOCKET: &str = "/var/run/docker.sock";
