//! Where the host's unix sockets are, so that they can be covered.
//!
//! A path socket is reached through the file system, whatever the network namespace: it would be a way out. They are
//! looked for where the kernel lists them, where the environment points, where something is mounted, and in the
//! folders where programs put them. Must not know how they are covered.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::sys::mounts::{self, Mount};

/// Folders that are rebuilt without their sockets; what is made there later does not show.
pub(super) const REBUILT: [&str; 2] = ["/run", "/var/run"];

/// Folders that hold nothing but sockets of sessions.
const SESSION_FOLDERS: [&str; 2] = ["/tmp/.X11-unix", "/tmp/.ICE-unix"];

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// `net/unix` of `/proc`: that of the host's network namespace, and of every other that can be read.
    pub(super) tables: Vec<u8>,
    /// Sockets that were bound by a name that starts at a working folder.
    pub(super) relative: Vec<PathBuf>,
    /// Values of environment variables.
    pub(super) environment: Vec<Vec<u8>>,
    /// The user's home folder.
    pub(super) home: Option<PathBuf>,
}

impl Sources {
    /// Reads them, where `/proc` is the host's. `supervisor` is a process in the host's network namespace.
    ///
    /// # Errors
    /// The kernel's list of sockets cannot be read: then nothing is known.
    pub(super) fn read(supervisor: u32, relative: &[PathBuf]) -> io::Result<Self> {
        Ok(Self {
            tables: tables(supervisor)?,
            relative: relative.to_vec(),
            environment: std::env::vars_os().map(|(_, value)| value.as_bytes().to_vec()).collect(),
            home: std::env::var_os("HOME").map(PathBuf::from),
        })
    }
}

/// Finds sockets of this network namespace that were bound by a relative name, below the working folder of any process
/// that this one may look at. Must be called outside: the sandbox may look at none.
pub(super) fn relative() -> Vec<PathBuf> {
    let names = table_paths(&fs::read("/proc/self/net/unix").unwrap_or_default());
    let names: Vec<PathBuf> =
        names.into_iter().filter(|name| !name.is_absolute()).take(MOST_RELATIVE).collect();
    if names.is_empty() {
        return names;
    }
    let folders: BTreeSet<PathBuf> = processes()
        .filter_map(|process| fs::read_link(format!("/proc/{process}/cwd")).ok())
        .take(MOST_FOLDERS)
        .collect();
    let below = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
    below.filter(|path| is_socket(path)).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(MOST_PROCESSES)
}

/// Reads the sockets of every network namespace that a visible process is in. A path leads to a socket from any of them.
fn tables(supervisor: u32) -> io::Result<Vec<u8>> {
    let mut tables = fs::read(format!("/proc/{supervisor}/net/unix"))?;
    // The first entries tell two namespaces apart: they bear the numbers of their sockets.
    let mut known = vec![tables.get(..HEAD).unwrap_or(&tables).to_vec()];
    for process in processes() {
        let Ok(mut file) = File::open(format!("/proc/{process}/net/unix")) else { continue };
        let mut table = vec![0; HEAD];
        let Ok(read) = file.read(&mut table) else { continue };
        table.truncate(read);
        if known.contains(&table) {
            continue;
        }
        known.push(table.clone());
        if file.read_to_end(&mut table).is_ok() {
            tables.extend(table);
        }
    }
    Ok(tables)
}

/// Relative names that are looked for.
const MOST_RELATIVE: usize = 64;
/// Bytes that tell two lists apart: a heading and two entries.
const HEAD: usize = 256;
/// Processes that are looked at.
const MOST_PROCESSES: usize = 4_096;

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
    let mut listed = table_paths(&sources.tables);
    listed.retain(|path| path.is_absolute());
    listed.extend(sources.relative.iter().cloned());
    let mounts = mounts::list().unwrap_or_default();
    let mounted = mounts.iter().map(|mount| mount.point.clone());
    let named = sources.environment.iter().flat_map(|value| paths_in(value));
    let mut candidates: Vec<PathBuf> = listed.iter().cloned().chain(mounted).chain(named).collect();
    let folders: BTreeSet<&Path> = listed.iter().filter_map(|path| path.parent()).collect();
    // One that was renamed stands in the list under its first name.
    let near = folders.into_iter().take(MOST_FOLDERS).map(|folder| (folder.to_owned(), 1));
    let home = HOME_FOLDERS.iter().filter_map(|folder| Some((sources.home.as_ref()?.join(folder), 3)));
    let shared = [("/tmp".into(), 2), ("/var/tmp".into(), 2)];
    for (folder, depth) in near.chain(home).chain(shared) {
        // Each has a budget of its own: others fill them.
        Scan { budget: SCAN_BUDGET, found: &mut candidates }.folder(&folder, depth);
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
        .filter(|path| is_socket(path))
        // Where it really is: a link in place of a socket would be covered instead.
        .filter_map(|path| fs::canonicalize(path).ok())
        .flat_map(|path| everywhere(path, &mounts))
        .filter(elsewhere)
        .collect();
    found
}

/// The paths by which a socket is seen: another mount of the same file system may show it a second time.
fn everywhere(path: PathBuf, mounts: &[Mount]) -> Vec<PathBuf> {
    // Of several at one place the last one is seen.
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    let Some(home) = above.max_by_key(|mount| mount.point.as_os_str().len()) else { return vec![path] };
    let Ok(rest) = path.strip_prefix(&home.point) else { return vec![path] };
    let inside = home.root.join(rest);
    let others = mounts.iter().filter(|mount| mount.device == home.device && mount.point != home.point);
    let again = others.filter_map(|other| Some(other.point.join(inside.strip_prefix(&other.root).ok()?)));
    let again: Vec<PathBuf> = again.filter(|again| is_socket(again)).collect();
    [path].into_iter().chain(again).collect()
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

/// Paths in the kernel's list of unix sockets: the eighth column, where there is one, whatever bytes it holds. Abstract
/// ones begin with `@` and belong to a network namespace.
fn table_paths(table: &[u8]) -> Vec<PathBuf> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        match entries.last_mut() {
            // A line feed in a path: no entry begins so.
            Some(entry) if !is_entry(line) => entry.extend([b"\n", line].concat()),
            Some(_) | None => entries.push(line.to_vec()),
        }
    }
    let paths = entries.iter().filter(|entry| !entry.starts_with(HEADING)).filter_map(|entry| {
        let mut rest = entry.strip_suffix(b"\n").unwrap_or(entry);
        // Seven words, some of them padded.
        for _ in 0..7 {
            rest = rest.trim_ascii_start();
            rest = rest.get(rest.iter().position(|byte| *byte == b' ')?..)?;
        }
        rest.get(1..).filter(|path| !path.is_empty() && !path.starts_with(b"@"))
    });
    paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
}

/// How the list's first line begins.
const HEADING: &[u8] = b"Num ";

/// Whether a line of the list begins an entry: `0000000000000000: `, or the heading.
fn is_entry(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    line.starts_with(HEADING)
        || (digits >= 8 && line.get(digits..).is_some_and(|rest| rest.starts_with(b": ")))
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

/// Entries of one folder, and all beneath it, that are looked at.
const SCAN_BUDGET: u32 = 2_000;
/// Folders of listed sockets that are looked at.
const MOST_FOLDERS: usize = 256;

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
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
                     00000000aa: 00000002 00000000 00010000 0001 01    22 /run/a.sock\n\
                     00000000ab: 00000002 00000000 00010000 0001 01 23 @/abstract\n\
                     00000000ac: 00000002 00000000 00000000 0001 03 24\n\
                     00000000ad: 00000002 00000000 00010000 0001 01 25 /home/user/with space.sock\n\
                     00000000ae: 00000002 00000000 00010000 0001 01 26 /tmp/odd\xff\nsecond line: no entry\n\
                     00000000af: 00000002 00000000 00010000 0001 01 27 /tmp/last\n";
        let odd = OsStr::from_bytes(b"/tmp/odd\xff\nsecond line: no entry");
        let expected: Vec<PathBuf> =
            vec!["/run/a.sock".into(), "/home/user/with space.sock".into(), odd.into(), "/tmp/last".into()];
        assert_eq!(table_paths(table), expected);
    }

    #[test]
    fn the_list_of_this_process_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listening");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(table_paths(&tables(std::process::id()).unwrap()).contains(&path));
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
