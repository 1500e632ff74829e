//! A folder of the play's own, gone when the play is over, however it ends.
//!
//! Must not know what is kept in it.

use std::fs::{DirBuilder, remove_dir_all};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Error;

#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// The process that removes it. One that was forked off meanwhile only looks on.
    owner: u32,
}

impl Scratch {
    /// Makes a folder that only this user reads.
    pub(crate) fn new(play: &str) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("namegate-{play}-{:016x}", rand::random::<u64>()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path, owner: std::process::id() }),
            Err(source) => Err(Error::Scratch { path, source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // What cannot be removed now cannot be removed by anybody here.
            let _ = remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_gone_afterwards_even_when_the_play_panics() {
        let scratch = Scratch::new("props").unwrap();
        let path = scratch.path().to_path_buf();
        std::fs::write(path.join("audit.jsonl"), "{}\n").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let panic = std::thread::spawn(move || {
            let _kept = scratch;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panic.join().is_err());
        assert!(!path.exists());
    }
}
