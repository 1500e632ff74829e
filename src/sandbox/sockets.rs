//! Where the host's unix sockets are, so that they can be covered.
//!
//! A path socket is reached through the file system, whatever the network namespace: it would be a way out. They are
//! looked for where the kernel lists them, where the environment points, where something is mounted, and in the
//! folders where programs put them. Must not know how they are covered.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Folders that are rebuilt without their sockets; what is made there later does not show.
pub(super) const REBUILT: [&str; 2] = ["/run", "/var/run"];

/// Folders that hold nothing but sockets of sessions.
const SESSION_FOLDERS: [&str; 2] = ["/tmp/.X11-unix", "/tmp/.ICE-unix"];

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// `/proc/net/unix` of the host's network namespace.
    pub(super) table: String,
    /// `/proc/self/mountinfo`.
    pub(super) mounts: String,
    /// Values of environment variables.
    pub(super) environment: Vec<Vec<u8>>,
    /// The user's home folder.
    pub(super) home: Option<PathBuf>,
}

impl Sources {
    /// Reads them; must be called in the host's network namespace.
    pub(super) fn read() -> Self {
        Self {
            table: fs::read("/proc/net/unix").map_or_else(|_| String::new(), |bytes| lossy(&bytes)),
            mounts: fs::read("/proc/self/mountinfo").map_or_else(|_| String::new(), |bytes| lossy(&bytes)),
            environment: std::env::vars_os().map(|(_, value)| value.as_bytes().to_vec()).collect(),
            home: std::env::var_os("HOME").map(PathBuf::from),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is to be covered outside the folders that are rebuilt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Sockets.
    pub(super) sockets: BTreeSet<PathBuf>,
    /// Folders that are replaced by an empty one, with its permission bits.
    pub(super) folders: Vec<(PathBuf, u32)>,
}

/// Finds the sockets that this process could reach.
pub(super) fn find(sources: &Sources) -> Found {
    let mut found = Found::default();
    for folder in SESSION_FOLDERS.iter().map(PathBuf::from).chain(tmux_folders()) {
        if let Ok(metadata) = fs::symlink_metadata(&folder)
            && metadata.is_dir()
        {
            found.folders.push((folder, metadata.mode() & 0o7777));
        }
    }
    let named = table_paths(&sources.table).chain(mount_points(&sources.mounts));
    let named = named.chain(sources.environment.iter().flat_map(|value| paths_in(value)));
    let mut candidates: Vec<PathBuf> = named.collect();
    let mut look = Scan { budget: SCAN_BUDGET, found: &mut candidates };
    look.folder(Path::new("/tmp"), 2);
    look.folder(Path::new("/var/tmp"), 2);
    for folder in HOME_FOLDERS {
        if let Some(home) = &sources.home {
            look.folder(&home.join(folder), 3);
        }
    }
    let elsewhere = |path: &PathBuf| {
        let covered = |folder: &&str| path.starts_with(folder);
        !REBUILT.iter().any(covered)
            && !path.starts_with("/dev")
            && !path.starts_with("/proc")
            && !found.folders.iter().any(|(folder, _)| path.starts_with(folder))
    };
    found.sockets = candidates
        .into_iter()
        // Where it really is: a link in place of a socket would be covered instead.
        .filter_map(|path| fs::canonicalize(path).ok())
        .filter(|path| is_socket(path))
        .filter(elsewhere)
        .collect();
    found
}

/// Whether a path leads to a unix socket.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Whether a folder holds a socket somewhere. Where it cannot be told, it does.
pub(super) fn holds_socket(folder: &Path) -> bool {
    fn look(folder: &Path, depth: u32, budget: &mut u32) -> bool {
        let Ok(entries) = fs::read_dir(folder) else { return true };
        entries.flatten().any(|entry| {
            *budget = budget.saturating_sub(1);
            match entry.file_type() {
                _ if *budget == 0 => true,
                Ok(kind) if kind.is_dir() => depth == 0 || look(&entry.path(), depth - 1, budget),
                Ok(kind) => kind.is_socket(),
                Err(_) => true,
            }
        })
    }
    look(folder, 5, &mut 2_000)
}

/// Paths in the kernel's list of unix sockets: the eighth column, where there is one. Abstract ones begin with `@`
/// and belong to a network namespace.
fn table_paths(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().skip(1).filter_map(|line| {
        let path = line.get(line.find('/')?..)?;
        Some(PathBuf::from(path))
    })
}

/// Mount points: a socket that is mounted by itself is one (proc_pid_mountinfo(5), fifth column).
fn mount_points(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| {
        PathBuf::from(
            point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"),
        )
    })
}

/// Paths in the value of an environment variable: `/a`, `unix:///a`, `unix:path=/a,guid=1`, `/a,1,0`.
fn paths_in(value: &[u8]) -> Vec<PathBuf> {
    let ends = |byte: &u8| matches!(byte, b',' | b';' | b':' | b'=' | b' ' | b'\n');
    let words = value.split(ends).filter_map(|word| {
        let start = word.iter().position(|byte| *byte == b'/')?;
        let rest = word.get(start..)?;
        // `unix:///run/x` leaves `///run/x`.
        let extra = rest.iter().take_while(|byte| **byte == b'/').count().saturating_sub(1);
        Some(PathBuf::from(OsStr::from_bytes(rest.get(extra..)?)))
    });
    words.collect()
}

fn tmux_folders() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/tmp") else { return Vec::new() };
    let names = entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(b"tmux-"));
    names.map(|entry| entry.path()).collect()
}

/// A look through folders that is bounded: somebody else may fill them.
struct Scan<'a> {
    budget: u32,
    found: &'a mut Vec<PathBuf>,
}

impl Scan<'_> {
    fn folder(&mut self, folder: &Path, depth: u32) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_socket() {
                self.found.push(entry.path());
            } else if kind.is_dir() && depth > 1 {
                self.folder(&entry.path(), depth - 1);
            }
        }
    }
}

/// Entries that are looked at in all.
const SCAN_BUDGET: u32 = 5_000;

/// Folders of the home folder where programs that run as the user have their sockets.
const HOME_FOLDERS: [&str; 6] =
    [".docker", ".colima", ".gnupg", ".ssh", ".local/share/containers", ".podman"];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_kernels_list_gives_paths_and_no_abstract_names() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000: 00000002 00000000 00010000 0001 01 22 /run/a.sock\n\
                     0000: 00000002 00000000 00010000 0001 01 23 @/abstract is not told apart by the slash\n\
                     0000: 00000002 00000000 00000000 0001 03 24\n\
                     0000: 00000002 00000000 00010000 0001 01 25 /home/user/with space.sock\n";
        let paths: Vec<_> = table_paths(table).collect();
        assert!(
            paths.contains(&"/run/a.sock".into()) && paths.contains(&"/home/user/with space.sock".into())
        );
    }

    #[test]
    fn paths_are_found_in_every_spelling_that_programs_use() {
        for (value, path) in [
            ("/tmp/agent.1", "/tmp/agent.1"),
            ("unix:///run/docker.sock", "/run/docker.sock"),
            ("unix:path=/run/user/1000/bus,guid=12", "/run/user/1000/bus"),
            ("/tmp/tmux-0/default,123,0", "/tmp/tmux-0/default"),
        ] {
            assert!(
                paths_in(value.as_bytes()).contains(&path.into()),
                "{value}: {:?}",
                paths_in(value.as_bytes())
            );
        }
    }

    #[test]
    fn a_socket_is_found_where_the_environment_points_and_where_it_lies() {
        let folder = tempfile::Builder::new().prefix("namegate-").tempdir_in("/tmp").unwrap();
        let named = folder.path().join("deep/deeper/deepest/named");
        fs::create_dir_all(named.parent().unwrap()).unwrap();
        let _first = UnixListener::bind(&named).unwrap();
        let _second = UnixListener::bind(folder.path().join("lying")).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&named, &link).unwrap();
        let sources =
            Sources { environment: vec![link.as_os_str().as_bytes().to_vec()], ..Sources::default() };
        let found = find(&sources);
        assert!(found.sockets.contains(&named), "{found:?}");
        assert!(found.sockets.contains(&folder.path().join("lying")), "{found:?}");
        assert!(holds_socket(folder.path()));
        let empty = tempfile::tempdir().unwrap();
        assert!(!holds_socket(empty.path()));
    }

    #[test]
    fn a_folder_that_cannot_be_read_to_its_end_counts_as_holding_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("1/2/3/4/5/6/7")).unwrap();
        assert!(holds_socket(folder.path()));
        assert!(holds_socket(Path::new("/nowhere")));
    }
}
