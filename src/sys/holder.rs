//! Which process has a socket open, and what program it is: for people, after the fact.
//!
//! Found by looking through `/proc`, which costs more than a decision may: within a time and a number of
//! descriptors, and no more often than a few at once. Nothing is a fine answer. Needs the same user or
//! `CAP_SYS_PTRACE`. Must not know what is decided.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::facts::{Process, Tick};

use super::clock;
use super::owner::Owner;

/// Finds the processes of sockets, and remembers where it looked last.
#[derive(Debug)]
pub struct Holders {
    known: Arc<Mutex<Known>>,
    looking: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Known {
    found: HashMap<Owner, (Tick, Arc<Process>)>,
    /// Where the last socket of a user was found: the next one is likely there too.
    last: HashMap<u32, u32>,
}

impl Default for Holders {
    fn default() -> Self {
        Self { known: Arc::default(), looking: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Holders {
    /// Returns the process that has this socket open, if it is found within this time.
    pub async fn of(&self, owner: Owner, within: Duration) -> Option<Arc<Process>> {
        let now = clock::tick();
        let last = {
            let known = self.known.lock();
            match known.found.get(&owner) {
                Some((at, process)) if now.since(*at) < FRESH => return Some(Arc::clone(process)),
                Some(_) | None => known.last.get(&owner.uid).copied(),
            }
        };
        let place = Arc::clone(&self.looking).try_acquire_owned().ok()?;
        let known = Arc::clone(&self.known);
        let search = tokio::task::spawn_blocking(move || {
            let _place = place;
            let process = Arc::new(Search { owner, began: now, within, left: DESCRIPTORS }.run(last)?);
            known.lock().remember(owner, now, Arc::clone(&process));
            Some(process)
        });
        timeout(within, search).await.ok()?.ok()?
    }
}

impl Known {
    fn remember(&mut self, owner: Owner, now: Tick, process: Arc<Process>) {
        if self.found.len() >= REMEMBERED {
            self.found.retain(|_, (at, _)| now.since(*at) < FRESH);
        }
        if self.last.len() >= REMEMBERED {
            self.last.clear();
        }
        self.last.insert(owner.uid, process.pid);
        if self.found.len() < REMEMBERED {
            self.found.insert(owner, (now, process));
        }
    }
}

struct Search {
    owner: Owner,
    began: Tick,
    within: Duration,
    /// Descriptors that may still be looked at.
    left: usize,
}

impl Search {
    fn run(mut self, last: Option<u32>) -> Option<Process> {
        if let Some(pid) = last.filter(|&pid| self.holds(pid)) {
            return Some(self.describe(pid));
        }
        let pids = std::fs::read_dir("/proc").ok()?.flatten();
        // Newest first, as far as the kernel lists them in order: who connects has mostly just begun.
        let mut pids: Vec<u32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable_by(|one, other| other.cmp(one));
        let pid = pids.into_iter().find(|&pid| self.holds(pid))?;
        Some(self.describe(pid))
    }

    fn is_over(&self) -> bool {
        self.left == 0 || clock::tick().since(self.began) >= self.within
    }

    fn holds(&mut self, pid: u32) -> bool {
        let folder = format!("/proc/{pid}");
        let is_theirs = std::fs::metadata(&folder).is_ok_and(|found| found.uid() == self.owner.uid);
        if self.is_over() || !is_theirs {
            return false;
        }
        let wanted = format!("socket:[{}]", self.owner.inode);
        let Ok(descriptors) = std::fs::read_dir(format!("{folder}/fd")) else { return false };
        for descriptor in descriptors.flatten() {
            if self.is_over() {
                return false;
            }
            self.left -= 1;
            if std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()) {
                return true;
            }
        }
        false
    }

    fn describe(&self, pid: u32) -> Process {
        let executable = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let user = nix::unistd::User::from_uid(self.owner.uid.into()).ok().flatten();
        Process { pid, executable, user: user.map(|user| user.name.into()) }
    }
}

/// How long what was found is good: a descriptor may be handed on.
const FRESH: Duration = Duration::from_secs(5);

/// Looks that may go on at once; each keeps a thread busy.
const AT_ONCE: usize = 4;

/// Descriptors looked at in one search: about 2 µs each.
const DESCRIPTORS: usize = 16_384;

/// Sockets, and users, that are remembered.
const REMEMBERED: usize = 4_096;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn own(socket: &UdpSocket) -> Owner {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let inode = link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        Owner { uid: rustix::process::getuid().as_raw(), inode }
    }

    #[tokio::test]
    async fn the_process_that_has_a_socket_open_is_found() {
        let (first, second) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let holders = Holders::default();
        for socket in [&first, &second, &first] {
            let found = holders.of(own(socket), Duration::from_secs(5)).await.unwrap();
            assert_eq!(found.pid, std::process::id());
            assert_eq!(found.executable, std::env::current_exe().ok());
        }
    }

    #[tokio::test]
    async fn a_socket_of_nobody_of_somebody_else_and_a_late_answer_are_none() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let holders = Holders::default();
        let soon = Duration::from_secs(5);
        assert_eq!(holders.of(Owner { uid: own(&socket).uid, inode: u32::MAX }, soon).await, None);
        assert_eq!(holders.of(Owner { uid: 4_294_000_000, ..own(&socket) }, soon).await, None);
        assert_eq!(holders.of(own(&socket), Duration::ZERO).await, None);
    }
}
