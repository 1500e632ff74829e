//! Which system calls are refused, and with which error.
//!
//! The error is the one that programs are prepared for: a kernel without the facility. Must not know how they
//! are refused.

use libc::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};

/// A system call, whatever its arguments are or with these.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: i64,
    /// All must hold; empty: always.
    pub(super) tests: &'static [Test],
}

/// What is looked at in an argument: its lower 32 bits.
#[derive(Debug)]
pub(super) enum Test {
    /// Argument and value.
    Is(u8, u64),
    /// Argument and value.
    IsNot(u8, u64),
    /// Argument and bits.
    Has(u8, u64),
}

use Test::{Has, Is, IsNot};

const fn any(number: i64) -> Call {
    Call { number, tests: &[] }
}

const fn when(number: i64, tests: &'static [Test]) -> Call {
    Call { number, tests }
}

/// Refused calls by the error they meet.
pub(super) const REFUSED: &[(i32, &[Call])] =
    &[(libc::EAFNOSUPPORT, SOCKETS), (libc::ENOSYS, MISSING), (libc::EPERM, FORBIDDEN)];

/// `AF_VSOCK` and others know no network namespaces; the rest only widens what can be attacked. Netlink is left for
/// routes and addresses, which the C library asks for.
const SOCKETS: &[Call] = &[
    when(
        libc::SYS_socket,
        &[
            IsNot(0, libc::AF_UNIX as u64),
            IsNot(0, libc::AF_INET as u64),
            IsNot(0, libc::AF_INET6 as u64),
            IsNot(0, libc::AF_NETLINK as u64),
        ],
    ),
    when(libc::SYS_socket, &[Is(0, libc::AF_NETLINK as u64), IsNot(2, libc::NETLINK_ROUTE as u64)]),
    when(libc::SYS_socketpair, &[IsNot(0, libc::AF_UNIX as u64)]),
];

/// Programs do without these where the kernel has none. io_uring makes sockets past this filter; clone3 hides its
/// flags from it; keys are fetched by helpers that run outside.
const MISSING: &[Call] = &[
    any(libc::SYS_io_uring_setup),
    any(libc::SYS_io_uring_enter),
    any(libc::SYS_io_uring_register),
    any(libc::SYS_clone3),
    any(libc::SYS_add_key),
    any(libc::SYS_request_key),
    any(libc::SYS_keyctl),
    any(libc::SYS_userfaultfd),
];

/// `unshare` alone has it: for `clone` the bit is part of a signal number (linux/sched.h).
const CLONE_NEWTIME: u64 = 0x80;

/// Terminal ioctls that type on behalf of the user.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;

/// New namespaces would bring capabilities over them; the rest needs capabilities that nobody has in here.
const FORBIDDEN: &[Call] = &[
    when(libc::SYS_clone, &[Has(0, CLONE_NEWUSER as u64)]),
    when(libc::SYS_clone, &[Has(0, CLONE_NEWNET as u64)]),
    when(libc::SYS_clone, &[Has(0, CLONE_NEWNS as u64)]),
    when(libc::SYS_clone, &[Has(0, CLONE_NEWPID as u64)]),
    when(libc::SYS_clone, &[Has(0, CLONE_NEWIPC as u64)]),
    when(libc::SYS_clone, &[Has(0, CLONE_NEWUTS as u64)]),
    when(libc::SYS_clone, &[Has(0, CLONE_NEWCGROUP as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWUSER as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWNET as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWNS as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWPID as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWIPC as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWUTS as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWCGROUP as u64)]),
    when(libc::SYS_unshare, &[Has(0, CLONE_NEWTIME)]),
    any(libc::SYS_setns),
    any(libc::SYS_mount),
    any(libc::SYS_umount2),
    any(libc::SYS_pivot_root),
    any(libc::SYS_chroot),
    any(libc::SYS_move_mount),
    any(libc::SYS_open_tree),
    any(libc::SYS_fsopen),
    any(libc::SYS_fsmount),
    any(libc::SYS_fsconfig),
    any(libc::SYS_fspick),
    any(libc::SYS_mount_setattr),
    any(libc::SYS_bpf),
    any(libc::SYS_perf_event_open),
    any(libc::SYS_open_by_handle_at),
    any(libc::SYS_init_module),
    any(libc::SYS_finit_module),
    any(libc::SYS_delete_module),
    any(libc::SYS_kexec_load),
    any(libc::SYS_reboot),
    any(libc::SYS_swapon),
    any(libc::SYS_swapoff),
    any(libc::SYS_acct),
    any(libc::SYS_vhangup),
    when(libc::SYS_ioctl, &[Is(1, TIOCSTI)]),
    when(libc::SYS_ioctl, &[Is(1, TIOCLINUX)]),
];
