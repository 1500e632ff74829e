//! Files and folders that a configuration names, and AppArmor profiles of resolvers.
//!
//! Must not judge. Makes and opens nothing for writing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::dns::TapAddress;
use crate::doctor::facts::{Files, Place, Seen};
use crate::record::Target;
use crate::settings::Settings;

use super::{aside, told};

pub(super) async fn look(settings: &Settings) -> Files {
    let mut files = Files::default();
    if let Some(path) = settings.path.clone() {
        let mode = {
            let path = path.clone();
            aside(move || {
                fs::metadata(path).map(|file| file.permissions().mode()).map_err(|error| told(&error))
            })
            .await
        };
        files.configuration = Some((path, mode));
    }
    for target in &settings.record.to {
        match target {
            Target::Stdout => {}
            Target::File(path) => files.audit.push((path.clone(), place(path).await)),
        }
    }
    for address in &settings.tap.listen {
        match address {
            TapAddress::Tcp(_) => {}
            TapAddress::Unix(path) => files.taps.push((path.clone(), place(path).await)),
        }
    }
    if !files.taps.is_empty() {
        files.profiles = aside(|| Ok(profiles())).await.unwrap_or_default();
    }
    files
}

async fn place(path: &Path) -> Seen<Place> {
    let path = path.to_owned();
    aside(move || look_at(&path)).await
}

fn look_at(path: &Path) -> Seen<Place> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Ok(Place::NoFolder),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Place::NoFolder),
        Err(error) => return Err(told(&error)),
    }
    let may = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    let disk = rustix::fs::statvfs(folder).map_err(|error| told(&error))?;
    Ok(Place::Folder {
        writable: if path.exists() { may(path) } else { may(folder) },
        free: disk.f_bavail.saturating_mul(disk.f_frsize),
        // Some file systems count no files, and say zero of zero.
        room_for_files: path.exists() || disk.f_files == 0 || disk.f_favail > 0,
    })
}

/// The profiles of the resolvers that Debian ships with one, where AppArmor is on.
fn profiles() -> Vec<(PathBuf, String)> {
    let on = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.trim() == "Y");
    let folder = Path::new("/etc/apparmor.d");
    let read = |name: &str| {
        let local = folder.join("local").join(name);
        let shipped = fs::read_to_string(folder.join(name)).ok()?;
        let added = fs::read_to_string(&local).unwrap_or_default();
        Some((local, shipped + "\n" + &added))
    };
    ["usr.sbin.named", "usr.sbin.unbound"].into_iter().filter(|_| on).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_and_one_that_is_none_are_told_from_one_that_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for missing in ["nowhere/audit.jsonl", "file/audit.jsonl"] {
            let seen = look_at(&folder.path().join(missing));
            assert!(matches!(seen, Ok(Place::NoFolder)) || seen.is_err(), "{missing}: {seen:?}");
        }
        for there in ["audit.jsonl", "file"] {
            let seen = look_at(&folder.path().join(there)).unwrap();
            assert!(matches!(seen, Place::Folder { writable: true, free: 1.., .. }), "{seen:?}");
        }
        assert!(!folder.path().join("audit.jsonl").exists(), "looking makes nothing");
    }
}
