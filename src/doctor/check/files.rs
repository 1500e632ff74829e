//! Files and folders: the configuration, audit targets, dnstap sockets, profiles of resolvers.
//!
//! Must not know what is written there.

use std::path::Path;

use crate::doctor::facts::{Facts, Place};
use crate::doctor::finding::{Code, Finding};
use crate::settings::Settings;

use super::known;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    if let Some((path, mode)) = &facts.files.configuration {
        let path = path.display().to_string();
        if let Some(mode) = known(mode, &path, found).filter(|mode| **mode & OTHERS_WRITE != 0) {
            let what = format!("{path} may be written by others than its owner (mode {:04o})", mode & 0o7777);
            found.push(Finding::new(Code::ConfigurationWritable, &path, what, format!("chmod go-w {path}")));
        }
    }
    for (path, place) in &facts.files.audit {
        if let Some(place) = known(place, &path.display().to_string(), found) {
            audit(facts, path, place, found);
        }
    }
    for (path, place) in &facts.files.taps {
        if let Some(Place::NoFolder) = known(place, &path.display().to_string(), found) {
            let what = format!("the folder of {} is not there", path.display());
            found.push(Finding::new(
                Code::TapFolderMissing,
                path.display().to_string(),
                what,
                make_folder(path),
            ));
        }
        profiles(settings, facts, path, found);
    }
}

fn audit(facts: &Facts, path: &Path, place: &Place, found: &mut Vec<Finding>) {
    let subject = path.display().to_string();
    match place {
        Place::NoFolder => {
            let what = format!("the folder of {subject} is not there");
            found.push(Finding::new(Code::AuditFolderMissing, subject, what, make_folder(path)));
        }
        Place::Folder { writable, free, room_for_files } => {
            // Another user than the one that serves may well be kept out.
            if !writable && facts.looker.root {
                let what = format!("{subject} cannot be written");
                let fix = "let the user that serves write there: ReadWritePaths= in its unit, or another [audit] to";
                found.push(Finding::new(Code::AuditNotWritable, &subject, what, fix));
            }
            if *free < LITTLE_SPACE || !room_for_files {
                let what = format!("{} kB are left on the disk of {subject}", free / 1_000);
                let fix = format!("df -h {subject}: free some, and let logrotate bound the log by size");
                found.push(Finding::new(Code::AuditDiskFull, subject, what, fix));
            }
        }
    }
}

fn profiles(settings: &Settings, facts: &Facts, socket: &Path, found: &mut Vec<Finding>) {
    if settings.tap.listen.is_empty() {
        return;
    }
    let (path, folder) =
        (socket.display().to_string(), socket.parent().unwrap_or(socket).display().to_string());
    for (local, text) in &facts.files.profiles {
        let named = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .any(|line| line.contains(&folder));
        if !named {
            let profile = local.display().to_string();
            let what = format!("the AppArmor profile with {profile} does not name {path}");
            let fix = format!("echo '{path} rw,' >> {profile} && systemctl reload apparmor");
            found.push(Finding::new(Code::TapNotInProfile, profile, what, fix));
        }
    }
}

fn make_folder(path: &Path) -> String {
    format!("mkdir -p {}", path.parent().unwrap_or(path).display())
}

/// Group and others.
const OTHERS_WRITE: u32 = 0o022;

/// Bytes; a busy gate writes a line of 1 kB for each of some thousand connections a second: a minute of that.
const LITTLE_SPACE: u64 = 256 << 20;
