//! The file that learned rules go to: found to be writable before, replaced at once after.
//!
//! Must not know rules.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A place where a file can be put.
#[derive(Debug)]
pub(super) struct RulesFile {
    /// Where links lead.
    path: PathBuf,
}

impl RulesFile {
    /// Finds out whether the file could be written. Nothing is left there.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        // What is renamed onto a link would take its place, and not that of the file.
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error).with_context(failed),
        };
        if fs::metadata(&real).is_ok_and(|metadata| !metadata.is_file()) || real.file_name().is_none() {
            return Err(anyhow::anyhow!("not a regular file")).with_context(failed);
        }
        let file = Self { path: real };
        let (trial, _) = file.beside().with_context(failed)?;
        fs::remove_file(trial).with_context(failed)?;
        Ok(file)
    }

    /// Writes the file, or leaves the old one as it was.
    pub(super) fn write(&self, text: &str) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let (temporary, mut file) = self.beside().with_context(failed)?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| match fs::metadata(&self.path) {
                Ok(old) => file.set_permissions(old.permissions()),
                Err(_) => Ok(()),
            })
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.with_context(failed)
    }

    /// Makes a file in the same directory, under a name that nobody else has.
    fn beside(&self) -> io::Result<(PathBuf, File)> {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{:016x}", rand::random::<u64>()));
        let path = self.path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((path, file))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_written_whole_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.toml");
        let file = RulesFile::prepare(&path).unwrap();
        assert!(names(directory.path()).is_empty());
        file.write("first").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        RulesFile::prepare(&path).unwrap().write("second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), ["rules.toml"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (link, real) = (directory.path().join("link"), directory.path().join("real"));
        fs::write(&real, "old").unwrap();
        symlink(&real, &link).unwrap();
        RulesFile::prepare(&link).unwrap().write("new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    #[test]
    fn what_cannot_be_written_is_found_out_before() {
        let directory = tempfile::tempdir().unwrap();
        for path in [
            directory.path().to_owned(),
            directory.path().join("no/such/place"),
            "/dev/null".into(),
            "".into(),
        ] {
            assert!(RulesFile::prepare(&path).is_err(), "{}", path.display());
        }
        assert!(names(directory.path()).is_empty());
    }
}
