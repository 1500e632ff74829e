//! What a process sees of the file system, in a mount namespace of its own.
//!
//! Must not know why something is covered.

use std::ffi::{CStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount,
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

/// Makes everything at and beneath `path` read-only. It is made a mount of its own first.
///
/// # Errors
/// Those of the kernel.
pub fn write_protect(path: &Path) -> io::Result<()> {
    show(path, path)?;
    match set_attributes(path, libc::MOUNT_ATTR_RDONLY, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            remount_each(|mount| mount.point.starts_with(path), MountFlags::RDONLY)
        }
        changed => changed,
    }
}

/// Makes every device node void but for those beneath `devices`.
///
/// # Errors
/// Those of the kernel.
pub fn forbid_devices_but(devices: &Path) -> io::Result<()> {
    match set_attributes(Path::new("/"), libc::MOUNT_ATTR_NODEV, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            remount_each(|mount| !mount.point.starts_with(devices), MountFlags::NODEV)
        }
        changed => changed.and_then(|()| set_attributes(devices, 0, libc::MOUNT_ATTR_NODEV)),
    }
}

fn remount_each(which: impl Fn(&Mount) -> bool, flag: MountFlags) -> io::Result<()> {
    list()?.iter().filter(|mount| which(mount)).try_for_each(|mount| remount(&mount.point, flag))
}

/// Changes one mount as Linux before 5.12 can: what it forbids already stays forbidden. One that is covered, gone or out
/// of reach needs no change.
fn remount(point: &Path, flag: MountFlags) -> io::Result<()> {
    let Ok(found) = rustix::fs::statvfs(point) else { return Ok(()) };
    let kept = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = kept.into_iter().filter(|(there, _)| found.f_flag.contains(*there));
    let flags = kept.fold(flag | MountFlags::BIND, |flags, (_, kept)| flags | kept);
    Ok(mount_remount(point, flags, c"")?)
}

/// A mount of this namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Which file system, as numbers that are equal for the same one.
    pub device: String,
    /// Which folder of that file system is seen there.
    pub root: PathBuf,
    /// The kind of file system.
    pub kind: String,
}

/// Lists the mounts of this namespace.
///
/// # Errors
/// There is no `/proc`.
pub fn list() -> io::Result<Vec<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(read_mount).collect())
}

/// Reads a line of proc_pid_mountinfo(5): words three to five are device, root and mount point, the first one behind the
/// dash is the kind.
fn read_mount(line: &[u8]) -> Option<Mount> {
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(unescape(word)));
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let mut words = line.split(|byte| *byte == b' ');
    let (device, root, point) = (text(words.nth(2)?), path(words.next()?), path(words.next()?));
    let kind = text(words.skip_while(|word| *word != b"-").nth(1)?);
    Some(Mount { point, device, root, kind })
}

/// Space, tabulator, line feed and backslash stand as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(meant) => {
                plain.push(meant);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

/// Changes every mount at and beneath a path (Linux 5.12).
#[expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper yet")]
fn set_attributes(path: &Path, set: u64, clear: u64) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    let attributes = Attributes { set, clear, propagation: 0, user: 0 };
    // SAFETY: the path ends with a zero, the attributes are four 64-bit fields as the kernel has them
    // (`struct mount_attr`), and both outlive the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_all_that_its_path_may_hold() {
        let line = b"36 35 98:0 /mnt1 /mnt\\040two\\134 rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let mount = Mount {
            point: "/mnt two\\".into(),
            device: "98:0".to_owned(),
            root: "/mnt1".into(),
            kind: "ext3".to_owned(),
        };
        assert_eq!(read_mount(line), Some(mount));
        assert_eq!(read_mount(b""), None);
        assert!(list().unwrap().iter().any(|mount| mount.kind == "proc"));
    }
}
