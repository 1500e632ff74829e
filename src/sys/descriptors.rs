//! The descriptors that a process was given: what they are, and closing those that must not be passed on.
//!
//! Must not know who gave them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What may be passed on, and what may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pipe or a regular file: leads nowhere but to its bytes.
    Plain,
    /// A character device: a terminal, `/dev/null`.
    Device,
    /// A socket: can be turned to another peer, in the network namespace that it was made in.
    Socket,
    /// A folder, which shows paths as they were when it was opened, or something that the kernel has no file type for.
    Other,
}

/// Says what a descriptor is.
///
/// # Errors
/// It is not open.
pub fn kind(descriptor: BorrowedFd<'_>) -> io::Result<Kind> {
    let mode = rustix::fs::fstat(descriptor)?.st_mode;
    // Epoll sets, pidfds, rings and their like have no type at all.
    Ok(match FileType::from_raw_mode(mode) {
        FileType::RegularFile | FileType::Fifo => Kind::Plain,
        FileType::CharacterDevice => Kind::Device,
        FileType::Socket => Kind::Socket,
        FileType::Directory | FileType::Symlink | FileType::BlockDevice | FileType::Unknown => Kind::Other,
    })
}

/// Makes every descriptor from 3 on end at exec(2), but for pipes and regular files that were meant to be inherited.
///
/// # Errors
/// They cannot be listed.
pub fn keep_plain_ones() -> io::Result<()> {
    for number in open_ones()? {
        let Some(descriptor) = borrow(number) else { continue };
        // One that is closed is the one that listed the folder.
        let closes = fcntl_getfd(descriptor).map_or(true, |flags| flags.contains(FdFlags::CLOEXEC));
        if closes || (kind(descriptor).is_ok_and(|kind| kind == Kind::Plain) && !is_the_kernels(descriptor)) {
            continue;
        }
        fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    Ok(())
}

/// Whether a file is a handle on the kernel: a namespace, a setting.
fn is_the_kernels(descriptor: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(descriptor)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| KERNEL_FILE_SYSTEMS.contains(&kind)))
}

/// nsfs, proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, configfs (linux/magic.h).
const KERNEL_FILE_SYSTEMS: [u64; 10] = [
    0x6e73_6673,
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
];

/// Closes every descriptor from 3 on that is not meant to be inherited, but for these: in a copy of a process that
/// goes on by itself, what belonged to the original must not stay open.
///
/// # Errors
/// They cannot be listed.
#[expect(unsafe_code, reason = "a descriptor is closed behind the back of its owner")]
pub fn close_private_ones_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    for number in open_ones()? {
        let Some(descriptor) = borrow(number) else { continue };
        let private = fcntl_getfd(descriptor).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
        if private && !kept.iter().any(|kept| kept.as_raw_fd() == number) {
            // SAFETY: the owners of these are the original's; the copy never gets back to where they live.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// Puts `source` in the place of one of the three standard streams.
///
/// # Errors
/// Those of the system.
pub fn replace(stream: Stream, source: BorrowedFd<'_>) -> io::Result<()> {
    match stream {
        Stream::Input => rustix::stdio::dup2_stdin(source)?,
        Stream::Output => rustix::stdio::dup2_stdout(source)?,
        Stream::Error => rustix::stdio::dup2_stderr(source)?,
    }
    Ok(())
}

/// Puts `/dev/null` in the place of a standard stream.
///
/// # Errors
/// Those of the system.
pub fn silence(stream: Stream) -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    replace(stream, nothing.as_fd())
}

/// Whether somebody takes a few words on standard error just now, so that writing them waits for nobody.
pub fn error_is_heard() -> bool {
    let mut awaited = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
    poll(&mut awaited, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Lets a task wait until there is something to read from the descriptor. Must be called inside a runtime.
///
/// # Errors
/// It is of a kind that is always ready, or there are no descriptors left.
#[expect(unsafe_code, reason = "the runtime cannot check that a descriptor stays open")]
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, and so open for as long as it is watched.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// One of the three streams that every program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Error];

    /// Makes a descriptor of our own for what the stream is now.
    ///
    /// # Errors
    /// It is closed, or there are no descriptors left.
    pub fn duplicate(self) -> io::Result<OwnedFd> {
        let stream = match self {
            Self::Input => rustix::stdio::stdin(),
            Self::Output => rustix::stdio::stdout(),
            Self::Error => rustix::stdio::stderr(),
        };
        stream.try_clone_to_owned()
    }
}

fn open_ones() -> io::Result<Vec<RawFd>> {
    let numbers = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    Ok(numbers)
}

#[expect(unsafe_code, reason = "a descriptor is known by its number alone here")]
fn borrow(number: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: the number is not -1; the calls made with it fail when the descriptor is closed meanwhile, as the one that
    // listed the folder is.
    (number > 2).then(|| unsafe { BorrowedFd::borrow_raw(number) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_folders_are_told_from_what_may_be_passed_on() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(kind(reader.as_fd()).unwrap(), Kind::Plain);
        assert_eq!(kind(File::open("/proc/self/exe").unwrap().as_fd()).unwrap(), Kind::Plain);
        assert_eq!(kind(File::open("/dev/null").unwrap().as_fd()).unwrap(), Kind::Device);
        assert_eq!(kind(File::open("/").unwrap().as_fd()).unwrap(), Kind::Other);
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(kind(socket.as_fd()).unwrap(), Kind::Socket);
        let set = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        assert_eq!(kind(set.as_fd()).unwrap(), Kind::Other);
    }
}
