//! Whether `exec` can run a command here.
//!
//! Beside a gateway's configuration it may not be wanted at all: then it is advice.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Code, Finding};

pub(super) fn check(beside_a_gateway: bool, facts: &Facts, found: &mut Vec<Finding>) {
    let sandbox = &facts.sandbox;
    let mut needed = Vec::new();
    if let Err((what, fix)) = &sandbox.namespaces {
        needed.push(Finding::new(Code::ExecUnavailable, "namespaces", what.clone(), fix.clone()));
    }
    if !sandbox.call_filters {
        let what = "this kernel has no filters of system calls";
        needed.push(Finding::new(
            Code::CallFiltersMissing,
            "seccomp",
            what,
            "a kernel with CONFIG_SECCOMP_FILTER",
        ));
    }
    found.extend(needed.into_iter().map(|one| if beside_a_gateway { one.into_advice() } else { one }));
    if sandbox.landlock.is_none_or(|version| version < SCOPED_SIGNALS) {
        let what = match sandbox.landlock {
            Some(version) => format!("Landlock is there in version {version}"),
            None => "Landlock is not built in, or not switched on".to_owned(),
        };
        let fix = "Linux 6.12 or newer, with landlock in its list of security modules (lsm=)";
        found.push(Finding::new(Code::LandlockOld, "landlock", what, fix));
    }
    if let (Ok(None), false) = (&facts.nft, beside_a_gateway) {
        found.push(Finding::new(Code::ExecWithoutNft, "nft", "nft is not installed", "apt install nftables"));
    }
}

/// The version that keeps signals inside.
const SCOPED_SIGNALS: u32 = 6;
