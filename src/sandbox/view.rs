//! What the command sees of the file system: the host's, without its sockets, devices and switches.
//!
//! Must not know where sockets are found, nor what runs inside.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::sys::mounts::{self, Folder, Mount};

use super::layers::{Layer, Layers};
use super::sockets::{self, Found, REBUILT, Sources};

/// What is to be seen in spite of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exceptions<'a> {
    /// Canonical paths of sockets.
    pub(super) sockets: &'a [PathBuf],
    /// Paths below `/dev`.
    pub(super) devices: &'a [PathBuf],
    /// Files that are nothing inside: the gate's own.
    pub(super) hidden: &'a [PathBuf],
    /// The terminal that the command's streams are, if any.
    pub(super) terminal: Option<&'a Path>,
}

/// Changes the view, and notes which layers could be had. `supervisor` is a process in the
/// host's network namespace, `relative` are sockets that only it could find.
pub(super) fn change(
    exceptions: Exceptions<'_>,
    (supervisor, relative): (u32, &[PathBuf]),
    layers: &mut Layers,
) -> io::Result<()> {
    mounts::part()?;
    let sources = Sources::read(supervisor, relative);
    let before = mounts::list()?;
    layers.note(Layer::Processes, mounts::processes(Path::new("/proc")));
    layers.note(Layer::Devices, devices(exceptions));
    layers.note(Layer::HostSockets, sources.and_then(|sources| cover_sockets(exceptions.sockets, &sources)));
    layers.note(Layer::KernelSettings, protect_settings(&before));
    exceptions.hidden.iter().try_for_each(|path| hide(path))
}

/// Mounts a `/dev` of the standard devices.
fn devices(exceptions: Exceptions<'_>) -> io::Result<()> {
    let dev = Path::new("/dev");
    let old = Folder::hold(dev)?;
    mounts::empty(dev, 0o755)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        show_if_there(&old.path().join(name), &dev.join(name))?;
    }
    mounts::folder(&dev.join("pts"), 0o755)?;
    mounts::terminals(&dev.join("pts"))?;
    mounts::folder(&dev.join("shm"), 0o1777)?;
    mounts::shared_memory(&dev.join("shm"))?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(name))?;
    }
    // Under this name ttyname(3) finds it.
    if let Some(terminal) = exceptions.terminal.and_then(|terminal| terminal.strip_prefix(dev).ok()) {
        show_if_there(&old.path().join(terminal), &dev.join("console"))?;
    }
    for device in exceptions.devices {
        if let Ok(name) = device.strip_prefix(dev) {
            show_again(&old.path().join(name), device)?;
        }
    }
    Ok(())
}

fn show_if_there(from: &Path, to: &Path) -> io::Result<()> {
    if from.exists() { mounts::show_file(from, to) } else { Ok(()) }
}

/// Shows a file or folder of an old view at its place, and makes the place.
fn show_again(from: &Path, at: &Path) -> io::Result<()> {
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    if from.is_dir() {
        fs::create_dir_all(at)?;
        mounts::show(from, at)
    } else {
        mounts::show_file(from, at)
    }
}

/// Covers every unix socket of the host that is not among the exceptions.
fn cover_sockets(open: &[PathBuf], sources: &Sources) -> io::Result<()> {
    // Before anything is covered: what lies in a folder that will be is found anyway.
    let Found { sockets, folders } = sockets::find(sources);
    for folder in REBUILT.map(Path::new) {
        // `/var/run` is a link to `/run` nearly everywhere.
        if fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir()) {
            rebuild(folder, open)?;
        }
    }
    for (folder, mode) in folders {
        if open.iter().any(|socket| socket.starts_with(&folder)) {
            cover_all_in(&folder, open)?;
        } else {
            mounts::empty(&folder, mode)?;
        }
    }
    let mut covered = sockets.iter().filter(|socket| !open.contains(socket));
    covered.try_for_each(|socket| cover(socket))
}

/// Makes a socket nothing that could be connected to.
fn cover(socket: &Path) -> io::Result<()> {
    match mounts::show(Path::new("/dev/null"), socket) {
        // Gone meanwhile, or behind a folder that is closed to this user and so to the command.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            if sockets::is_socket(socket) {
                Err(error)
            } else {
                Ok(())
            }
        }
        covered => covered,
    }
}

fn cover_all_in(folder: &Path, open: &[PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if sockets::is_socket(&path) && !open.contains(&path) {
            cover(&path)?;
        }
    }
    Ok(())
}

/// Replaces a folder by one that holds the same entries but for sockets, pipes and devices. It is a picture: what is
/// made there later, a socket say, does not show.
fn rebuild(folder: &Path, open: &[PathBuf]) -> io::Result<()> {
    let old = Folder::hold(folder)?;
    mounts::empty(folder, 0o755)?;
    draw(&old.path(), folder)?;
    own_runtime_folder(&folder.join("user"))?;
    for socket in open {
        if let Ok(name) = socket.strip_prefix(folder) {
            show_again(&old.path().join(name), socket)?;
        }
    }
    Ok(())
}

/// Entries of one folder, and folders, that are copied: somebody else fills them. A host in use has some hundred small
/// files there, most of them in one folder that nobody misses.
const PICTURE_ENTRIES: usize = 200;
const PICTURE_FOLDERS: usize = 300;
/// The largest file that is copied, bytes.
const PICTURE_FILE: u64 = 64 << 10;

/// Copies a folder, the nearest folders first. What is gone meanwhile is left out.
fn draw(from: &Path, to: &Path) -> io::Result<()> {
    let mut folders = VecDeque::from([(from.to_owned(), to.to_owned())]);
    for _ in 0..PICTURE_FOLDERS {
        let Some((from, to)) = folders.pop_front() else { return Ok(()) };
        // A folder that this user may not read is empty here.
        let (Ok(entries), Ok(own)) = (fs::read_dir(&from), fs::metadata(&from)) else { continue };
        for entry in entries.flatten().take(PICTURE_ENTRIES) {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let Ok(metadata) = fs::symlink_metadata(&from) else { continue };
            if metadata.is_symlink() {
                if let Ok(target) = fs::read_link(&from) {
                    std::os::unix::fs::symlink(target, &to)?;
                }
            } else if metadata.is_file() {
                if metadata.dev() == own.dev() && metadata.len() <= PICTURE_FILE && may_read(&metadata) {
                    let _ = fs::copy(&from, &to);
                }
            } else if metadata.is_dir() {
                mounts::folder(&to, metadata.mode() & 0o7777)?;
                if metadata.dev() == own.dev() || mounts::is_in_memory(&from) {
                    folders.push_back((from, to));
                } else if !sockets::holds_socket(&from) {
                    // A drive: shown as it is.
                    mounts::show(&from, &to)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether the command may read a file: this process can read more.
fn may_read(metadata: &fs::Metadata) -> bool {
    let mode = metadata.mode();
    if metadata.uid() == geteuid().as_raw() {
        return mode & 0o400 != 0;
    }
    let group = metadata.gid();
    let groups = rustix::process::getgroups().unwrap_or_default();
    let ours = group == getegid().as_raw() || groups.iter().any(|ours| ours.as_raw() == group);
    mode & if ours { 0o040 } else { 0o004 } != 0
}

/// An empty `XDG_RUNTIME_DIR`, where it is by convention, for programs that make sockets of their own there.
fn own_runtime_folder(users: &Path) -> io::Result<()> {
    if users.is_dir() {
        mounts::empty(users, 0o755)?;
    } else {
        mounts::folder(users, 0o755)?;
    }
    mounts::folder(&users.join(geteuid().as_raw().to_string()), 0o700)
}

/// Where the kernel takes orders by its files.
const SETTINGS: [&str; 10] = [
    "/proc/sys",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/scsi",
    "/proc/acpi",
    "/proc/driver",
    "/proc/asound",
    "/proc/mtrr",
    "/proc/dynamic_debug",
];

/// File systems by which the kernel takes orders, or that hold its devices.
const KERNEL_KINDS: [&str; 12] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "bpf",
    "efivarfs",
    "pstore",
    "devtmpfs",
];

/// Takes the switches of the machine away: files there may belong to this user, and to root by number, whatever its
/// capabilities. `before` are the mounts from before anything was changed.
fn protect_settings(before: &[Mount]) -> io::Result<()> {
    if Path::new("/sys").exists() {
        mounts::write_protect(Path::new("/sys"))?;
    }
    if geteuid().is_root() {
        for path in SETTINGS.map(Path::new).into_iter().filter(|path| path.exists()) {
            mounts::write_protect(path)?;
        }
        for path in ["/proc/sysrq-trigger", "/proc/kcore"].map(Path::new) {
            if path.exists() {
                mounts::show(Path::new("/dev/null"), path)?;
            }
        }
    }
    // The same under another path, as a chroot has it.
    let usual = |mount: &&Mount| ["/proc", "/sys", "/dev"].iter().any(|path| mount.point.starts_with(path));
    let kernels = before.iter().filter(|mount| KERNEL_KINDS.contains(&mount.kind.as_str()));
    for mount in kernels.filter(|mount| !usual(mount)) {
        hide(&mount.point)?;
    }
    mounts::forbid_devices_but(Path::new("/dev"))
}

/// Covers a file or folder by nothing. One that cannot be reached need not be.
fn hide(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if metadata.is_dir() { mounts::empty(path, 0o555) } else { mounts::show(Path::new("/dev/null"), path) }
}
