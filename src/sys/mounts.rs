//! What a process sees of the file system, in a mount namespace of its own.
//!
//! Must not know why something is covered.

use std::ffi::CStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};

/// A folder as it is now, whatever will be mounted over it.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
}

impl Folder {
    /// Takes hold of a folder, in this process's own mount namespace.
    ///
    /// # Errors
    /// It is not there, or no folder.
    pub fn hold(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { descriptor: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Returns a path that leads into the folder past everything mounted over it since.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.descriptor.as_raw_fd()))
    }
}

/// Ends the sharing of mounts: what is mounted here is seen here alone. What the host mounts later still comes in.
///
/// # Errors
/// This is not a mount namespace of our own.
pub fn part() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

/// Mounts an empty folder over `path`, with these permission bits and a limit of 64 MiB.
///
/// # Errors
/// `path` is not there, or the kernel refuses.
pub fn empty(path: &Path, mode: u32) -> io::Result<()> {
    let options = format!("mode={mode:o},size=64m\0");
    file_system(c"tmpfs", path, options.as_bytes())
}

/// Mounts shared memory of our own over `path`.
///
/// # Errors
/// As [`empty`].
pub fn shared_memory(path: &Path) -> io::Result<()> {
    file_system(c"tmpfs", path, b"mode=1777\0")
}

/// Mounts the process list of this process namespace over `path`.
///
/// # Errors
/// `EPERM` where parts of the one that is there are covered, as containers have it.
pub fn processes(path: &Path) -> io::Result<()> {
    file_system(c"proc", path, b"\0")
}

/// Mounts terminals of our own over `path`.
///
/// # Errors
/// As [`empty`].
pub fn terminals(path: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    Ok(mount("devpts", path, "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=0620"))?)
}

fn file_system(kind: &CStr, path: &Path, options: &[u8]) -> io::Result<()> {
    let options = CStr::from_bytes_with_nul(options).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount(kind, path, kind, flags, Some(options))?)
}

/// Makes `from` seen at `to` as well, with everything mounted beneath it. Both are files, or both folders.
///
/// # Errors
/// One of them is not there, or the kernel refuses.
pub fn show(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount_bind_recursive(from, to)?)
}

/// As [`show`], for a file that is not there yet: makes an empty one to mount on.
///
/// # Errors
/// As [`show`], or `to` cannot be made.
pub fn show_file(from: &Path, to: &Path) -> io::Result<()> {
    drop(File::options().create(true).append(true).open(to)?);
    show(from, to)
}

/// Whether a folder lies on a file system that lives in memory, and so holds nothing but the state of the running host.
pub fn is_in_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::statfs(path).is_ok_and(|found| matches!(u64::try_from(found.f_type), Ok(TMPFS | RAMFS)))
}

/// Makes a folder with these permission bits.
///
/// # Errors
/// As mkdir(2).
pub fn folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)
}

/// Takes away what was mounted last over a path.
///
/// # Errors
/// Nothing was, or it was there when this namespace was made.
pub fn uncover(path: &Path) -> io::Result<()> {
    Ok(unmount(path, UnmountFlags::DETACH)?)
}

/// Makes everything at and beneath `path` read-only. It is made a mount of its own first.
///
/// # Errors
/// `ENOSYS` before Linux 5.12; else those of the kernel.
#[expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper yet")]
pub fn write_protect(path: &Path) -> io::Result<()> {
    show(path, path)?;
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    let mut attributes = Attributes { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user: 0 };
    // SAFETY: the path ends with a zero, the attributes are four 64-bit fields as the kernel has them
    // (`struct mount_attr`), and both outlive the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user: u64,
}
