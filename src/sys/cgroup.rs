//! Control groups (version 2), held open and watched: a group that is made anew under its old path is another.
//!
//! The kernel numbers groups and never uses a number twice; sockets remember the group they were made in, also
//! when it is gone. So a group is told by number, and its folder is kept open to name it by. Must not know why
//! anybody is interested in a group.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::{descriptors, mounts};

mod watched;

pub use watched::Watched;

/// Why a group cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// This mount namespace shows no whole hierarchy of version 2.
    #[error("no cgroup2 file system is mounted here")]
    NoHierarchy,
    /// Not the path of a group below the root.
    #[error("{path:?} is not the path of a control group below the root")]
    Path {
        /// As given.
        path: String,
    },
    /// Something else is there.
    #[error("{path} is no control group")]
    Other {
        /// As given.
        path: String,
    },
    /// This process itself is in it.
    #[error("the gate itself runs in control group {path}")]
    Own {
        /// As given.
        path: String,
    },
    /// The kernel refuses.
    #[error("control groups cannot be watched")]
    Watch(#[from] io::Error),
}

/// A group as a rule can name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The kernel's number for it.
    pub id: u64,
    /// How many folders it is below the root.
    pub level: u8,
    /// The descriptor of this process that holds its folder.
    pub descriptor: RawFd,
}

/// What became of a watched group.
#[derive(Debug)]
pub enum Change {
    /// It was removed. What was made in it is still told by its number.
    Gone {
        /// Its path, as given.
        path: String,
    },
    /// There is a new one under its path.
    Anew {
        /// Its path, as given.
        path: String,
        /// Keeps the processes in it from running, where that is permitted.
        stillness: Option<Stillness>,
    },
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Gone { path } | Self::Anew { path, .. } => path,
        }
    }
}

/// A group whose processes do not run until this is dropped.
#[derive(Debug)]
pub struct Stillness(Arc<OwnedFd>);

impl Drop for Stillness {
    fn drop(&mut self) {
        if let Err(error) = set_frozen(&self.0, false) {
            tracing::error!(%error, "a control group cannot be thawed: write 0 to its cgroup.freeze");
        }
    }
}

/// A group, and what keeps its descriptor open.
type Open = (Group, Arc<OwnedFd>);

/// Groups that are held.
#[derive(Debug)]
pub struct Groups {
    root: PathBuf,
    held: Vec<Held>,
    /// Tells of folders that come and go.
    watch: AsyncFd<OwnedFd>,
    /// Whether the last look failed, which is told once.
    troubled: bool,
}

#[derive(Debug)]
struct Held {
    /// As given.
    path: String,
    /// The one there is now last, before it those that are gone.
    lives: Vec<Life>,
    gone: bool,
}

#[derive(Debug)]
struct Life {
    id: u64,
    folder: Arc<OwnedFd>,
}

impl Groups {
    /// Takes hold of groups, by their paths below the root of the hierarchy that this process sees. One that is not
    /// there yet is waited for, as one that was removed is.
    ///
    /// # Errors
    /// [`CgroupError`] says which path cannot be a group's, or is that of this process's own.
    pub fn hold(paths: &[String]) -> Result<Self, CgroupError> {
        let mounts = mounts::list()?;
        let whole = mounts.iter().rfind(|mount| mount.kind == "cgroup2" && mount.root == Path::new("/"));
        let root = whole.ok_or(CgroupError::NoHierarchy)?.point.clone();
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io::Error::from)?;
        let mut held = Vec::new();
        for path in paths {
            let relative = relative(path)?;
            if Path::new(own).starts_with(relative) {
                return Err(CgroupError::Own { path: path.clone() });
            }
            let lives = match Life::at(&root.join(relative)) {
                Ok(life) => vec![life],
                Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
                    return Err(CgroupError::Other { path: path.clone() });
                }
                Err(error) if is_absence(&error) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            held.push(Held { path: path.clone(), gone: lives.is_empty(), lives });
        }
        let groups = Self { root, held, watch: descriptors::readable(watch)?, troubled: false };
        groups.watch_folders()?;
        Ok(groups)
    }

    fn open(&self) -> Vec<Open> {
        let of = |held: &Held| {
            let level = u8::try_from(depth(&held.path)).unwrap_or(u8::MAX);
            let open = |life: &Life| {
                let group = Group { id: life.id, level, descriptor: life.folder.as_raw_fd() };
                (group, Arc::clone(&life.folder))
            };
            held.lives.iter().map(open).collect::<Vec<_>>()
        };
        self.held.iter().flat_map(of).collect()
    }

    /// As [`Watched::changes`].
    async fn changes(&mut self) -> Vec<Change> {
        loop {
            let changes = self.look();
            if !changes.is_empty() {
                return changes;
            }
            // A folder may have come before it was watched, or cannot be watched: look again in a second in any case.
            match timeout(SAFETY_NET, self.watch.readable()).await {
                Ok(Ok(mut ready)) if self.drain().is_ok() => ready.clear_ready(),
                Ok(_) => sleep(SAFETY_NET).await,
                Err(_) => {}
            }
        }
    }

    /// Looks at every group, whatever becomes of the others.
    fn look(&mut self) -> Vec<Change> {
        let mut failed = None;
        let mut changes = Vec::new();
        for held in &mut self.held {
            match held.look(&self.root) {
                Ok(change) => changes.extend(change),
                Err(error) => failed = Some(error),
            }
        }
        let failed = failed.or(self.watch_folders().err());
        match &failed {
            Some(error) if !self.troubled => {
                tracing::error!(%error, "control groups cannot be watched as they should: they are looked at every second");
            }
            None if self.troubled => tracing::info!("control groups are watched again"),
            Some(_) | None => {}
        }
        self.troubled = failed.is_some();
        changes
    }

    /// Reads what the kernel tells; which folder it was is found out by looking.
    fn drain(&self) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.watch.get_ref(), &mut space);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Watches every folder in which one on the way to a group could be made. One that is watched already stays
    /// so.
    fn watch_folders(&self) -> io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        for held in &self.held {
            let mut folder = self.root.clone();
            let names = Path::new(held.path.trim_start_matches('/')).components();
            for name in names {
                match inotify::add_watch(self.watch.get_ref(), &folder, flags) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => break,
                    Err(error) => return Err(error.into()),
                }
                folder.push(name);
            }
        }
        Ok(())
    }
}

impl Held {
    fn look(&mut self, root: &Path) -> io::Result<Option<Change>> {
        let there = match Life::at(&root.join(self.path.trim_start_matches('/'))) {
            Ok(life) => Some(life),
            Err(error) if is_absence(&error) => None,
            Err(error) => return Err(error),
        };
        let known = self.lives.last().map(|life| life.id);
        match there {
            Some(life) if Some(life.id) == known => Ok(None),
            Some(life) => {
                let stillness = life.stop();
                self.lives.push(life);
                if self.lives.len() > LIVES {
                    self.lives.remove(0);
                }
                self.gone = false;
                Ok(Some(Change::Anew { path: self.path.clone(), stillness }))
            }
            None if self.gone => Ok(None),
            None => {
                self.gone = true;
                Ok(Some(Change::Gone { path: self.path.clone() }))
            }
        }
    }
}

impl Life {
    fn at(path: &Path) -> io::Result<Self> {
        let folder = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let id = rustix::fs::fstat(&folder)?.st_ino;
        Ok(Self { id, folder: Arc::new(folder) })
    }

    /// Stops what runs in the group, unless somebody else has, or this process may not.
    fn stop(&self) -> Option<Stillness> {
        let folder = Arc::clone(&self.folder);
        match frozen(&folder)
            .and_then(|frozen| if frozen { Ok(false) } else { set_frozen(&folder, true).map(|()| true) })
        {
            Ok(true) => Some(Stillness(folder)),
            Ok(false) => None,
            Err(error) => {
                tracing::debug!(%error, "a new control group cannot be held still");
                None
            }
        }
    }
}

fn frozen(folder: &impl AsFd) -> io::Result<bool> {
    let file = rustix::fs::openat(folder, FREEZER, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text)?;
    Ok(text.trim() != "0")
}

fn set_frozen(folder: &impl AsFd, frozen: bool) -> io::Result<()> {
    match rustix::fs::openat(folder, FREEZER, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => match std::fs::File::from(file).write_all(if frozen { b"1" } else { b"0" }) {
            Err(error) if !frozen && error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            written => written,
        },
        // A group that is gone has nothing in it to thaw.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) if !frozen => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The path below the root, without the slash in front.
fn relative(path: &str) -> Result<&Path, CgroupError> {
    let relative = Path::new(OsStr::from_bytes(path.trim_start_matches('/').as_bytes()));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let fits = plain && (1..usize::from(u8::MAX)).contains(&depth(path)) && !path.contains('\0');
    if fits { Ok(relative) } else { Err(CgroupError::Path { path: path.to_owned() }) }
}

fn depth(path: &str) -> usize {
    Path::new(path.trim_start_matches('/')).components().count()
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ENODEV))
}

/// Stops and starts everything in a group (Linux 5.2, "Core Interface Files" of cgroup-v2.rst).
const FREEZER: &str = "cgroup.freeze";

/// How long a change may go unseen that the kernel did not tell of.
const SAFETY_NET: Duration = Duration::from_secs(1);

/// Groups of one path whose sockets are still told: a service that is restarted more often than that while an
/// old socket lives in another group loses the oldest.
const LIVES: usize = 4;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(super) mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_taken() {
        for path in ["", "/", ".", "..", "a/../b", "a\0b", "../a"] {
            assert!(matches!(relative(path), Err(CgroupError::Path { .. })), "{path:?}");
        }
        for (path, level) in
            [("a", 1), ("/a", 1), ("system.slice/app.service", 2), ("a//b/", 2), ("a\\x2db", 1)]
        {
            relative(path).unwrap();
            assert_eq!(depth(path), level, "{path}");
        }
    }

    pub(super) fn watching(root: &Path, paths: &[&str]) -> Groups {
        let hold = |path: &&str| Held {
            path: (*path).to_owned(),
            lives: vec![Life::at(&root.join(path)).unwrap()],
            gone: false,
        };
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        Groups {
            root: root.to_owned(),
            held: paths.iter().map(hold).collect(),
            watch: descriptors::readable(watch).unwrap(),
            troubled: false,
        }
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_looked_at_is_looked_at_again_and_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["one", "two"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let mut groups = watching(root.path(), &["one", "two"]);
        // A loop is no absence, and ends like any trouble.
        std::fs::remove_dir(at("one")).unwrap();
        std::os::unix::fs::symlink("one", at("one")).unwrap();
        std::fs::remove_dir(at("two")).unwrap();
        std::fs::create_dir(at("two")).unwrap();
        let changes = groups.changes().await;
        assert!(matches!(&changes[..], [Change::Anew { path, .. }] if path == "two"), "{changes:?}");
        assert!(groups.troubled);
        timeout(SAFETY_NET * 2, groups.changes()).await.expect_err("nothing to tell");

        std::fs::remove_file(at("one")).unwrap();
        std::fs::create_dir(at("one")).unwrap();
        let changes = timeout(SAFETY_NET * 5, groups.changes()).await.expect("it is not deaf");
        assert!(matches!(&changes[..], [Change::Anew { path, .. }] if path == "one"), "{changes:?}");
        assert!(!groups.troubled);
        let known: Vec<u64> = groups.open().iter().map(|(group, _)| group.id).collect();
        assert_eq!(known.len(), 4, "those that were there before stay known: {known:?}");
    }

    #[tokio::test]
    async fn a_group_that_is_not_there_is_waited_for_and_a_file_is_none() {
        match Groups::hold(&["no/such/group".to_owned()]) {
            Ok(groups) => {
                let watched = groups.watch();
                assert_eq!(watched.absent().collect::<Vec<_>>(), ["no/such/group"]);
                assert_eq!(watched.all().count(), 0);
            }
            Err(CgroupError::NoHierarchy) => return,
            other => panic!("{other:?}"),
        }
        for path in ["cgroup.procs", "cgroup.procs/app"] {
            match Groups::hold(&[path.to_owned()]) {
                Err(CgroupError::Other { path: told }) => assert_eq!(told, path),
                other => panic!("{other:?}"),
            }
        }
    }
}
