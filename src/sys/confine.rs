//! What a process gives up for good before it runs somebody else's program.
//!
//! Each step says whether it could be done; what follows from a step that could not is for others to decide.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags,
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

mod calls;

use calls::{Call, Test};

/// Gives up every capability, and the way to get any back.
///
/// # Errors
/// Those of the kernel.
pub fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for bit in 0..=LAST_CAPABILITY {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            // Without CAP_SETPCAP the bounding set stays; with no_new_privs nothing can be drawn from it.
            Err(rustix::io::Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Capabilities are numbered from zero; the kernel refuses numbers that it does not know.
const LAST_CAPABILITY: u32 = 63;

/// Hands the right to administer the network on to programs that this process starts.
///
/// # Errors
/// This process does not have it.
pub fn pass_on_network_administration() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    let wanted = CapabilitySet::NET_ADMIN;
    let sets = CapabilitySets { inheritable: held.inheritable | wanted, ..held };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(rustix::thread::configure_capability_in_ambient_set(wanted, true)?)
}

/// Makes set-user-id and file capabilities void for this process and all that it will ever start.
///
/// # Errors
/// The kernel is older than 3.5.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Hides this process's memory and descriptors from others of the same user.
///
/// # Errors
/// Those of the kernel.
pub fn hide() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

/// What Landlock could be made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scoped {
    /// No signal reaches a process outside, and no abstract socket of one is reached (Linux 6.12).
    pub signals: bool,
    /// No unix socket in the file system that was made outside is reached (Landlock ABI 9).
    pub sockets: bool,
}

/// Cuts this process and all that it will start off from signals and unix sockets of other processes, as far as
/// this kernel can. Sockets at `open` stay reachable.
///
/// # Errors
/// Landlock is there, but refuses.
pub fn scope(open: &[PathBuf]) -> io::Result<Scoped> {
    let signals = restrict(Scope::from_all(ABI::V6), BitFlags::EMPTY, &[])?;
    let sockets = restrict(BitFlags::EMPTY, make_bitflags!(AccessFs::ResolveUnix), open)?;
    Ok(Scoped { signals, sockets })
}

/// Returns the version of the kernel's Landlock interface; `None`: it has none, or it is switched off.
#[expect(unsafe_code, reason = "no safe wrapper asks for the version alone")]
pub fn landlock_version() -> Option<u32> {
    const VERSION: libc::c_long = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the call takes no structure and makes no descriptor.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) };
    u32::try_from(answer).ok().filter(|version| *version > 0)
}

/// Whether the kernel has filters of system calls (seccomp(2)).
pub fn has_call_filters() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
        .is_ok_and(|actions| actions.contains("errno"))
}

/// Adds one Landlock domain; says whether the kernel knows all of it.
fn restrict(scopes: BitFlags<Scope>, accesses: BitFlags<AccessFs>, open: &[PathBuf]) -> io::Result<bool> {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    if !scopes.is_empty() {
        ruleset = ruleset.scope(scopes).map_err(io::Error::other)?;
    }
    if !accesses.is_empty() {
        ruleset = ruleset.handle_access(accesses).map_err(io::Error::other)?;
    }
    let mut ruleset = ruleset.create().map_err(io::Error::other)?;
    for path in open {
        if let Ok(socket) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(socket, accesses)).map_err(io::Error::other)?;
        }
    }
    let status = ruleset.restrict_self().map_err(io::Error::other)?;
    Ok(status.ruleset == RulesetStatus::FullyEnforced)
}

/// Refuses system calls that lead past the network namespace, to new namespaces, or to parts of the kernel that a
/// program of this kind has no business with. Implies [`no_new_privileges`].
///
/// # Errors
/// The kernel has no seccomp filters, or this processor's calls are not known here.
pub fn filter_calls() -> io::Result<()> {
    for program in programs()? {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// One program for each answer. The kernel takes the most severe answer of all programs.
fn programs() -> io::Result<Vec<BpfProgram>> {
    let mut programs = Vec::new();
    for (error, calls) in calls::REFUSED {
        programs.push(program(*error, calls).map_err(io::Error::other)?);
    }
    if cfg!(target_arch = "x86_64") {
        programs.push(without_x32());
    }
    Ok(programs)
}

fn program(error: i32, calls: &[Call]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for Call { number, tests } in calls {
        let chain = rules.entry(*number).or_default();
        if !tests.is_empty() {
            let tests = tests.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
            chain.push(SeccompRule::new(tests)?);
        }
    }
    let error = SeccompAction::Errno(u32::try_from(error).unwrap_or(0));
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    // Another architecture's calls have other numbers: the filter ends such a program.
    SeccompFilter::new(rules, SeccompAction::Allow, error, architecture)?.try_into()
}

fn condition(test: &Test) -> Result<SeccompCondition, seccompiler::BackendError> {
    let dword = SeccompCmpArgLen::Dword;
    match *test {
        Test::Is(argument, value) => SeccompCondition::new(argument, dword, SeccompCmpOp::Eq, value),
        Test::IsNot(argument, value) => SeccompCondition::new(argument, dword, SeccompCmpOp::Ne, value),
        Test::Has(argument, bits) => {
            SeccompCondition::new(argument, dword, SeccompCmpOp::MaskedEq(bits), bits)
        }
    }
}

/// Calls with bit 30 set are those of x32, under numbers that the other programs do not know.
fn without_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let load_word = u16::try_from(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS).unwrap_or_default();
    let jump_if_at_least = u16::try_from(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K).unwrap_or_default();
    let answer = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or_default();
    let missing = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOSYS).unwrap_or(0);
    vec![
        sock_filter { code: load_word, jt: 0, jf: 0, k: 0 },
        sock_filter { code: jump_if_at_least, jt: 0, jf: 1, k: X32 },
        sock_filter { code: answer, jt: 0, jf: 0, k: missing },
        sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_programs_that_a_kernel_takes() {
        for program in programs().unwrap() {
            assert!((4..4096).contains(&program.len()), "{} instructions", program.len());
        }
    }
}
