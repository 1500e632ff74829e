//! Where lines end up: the seam between the writer and a file.
//!
//! A sink takes bytes. It knows no events, no lines and no queue.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Takes bytes for good.
///
/// Owned by the one writer thread, where it may block.
pub trait Sink: Send + fmt::Debug {
    /// Writes a beginning of `bytes` and returns how much, as write(2) does.
    ///
    /// # Errors
    /// Nothing of `bytes` was taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Starts anew at the place that the sink is named after, which may be another file by now.
    ///
    /// # Errors
    /// The sink goes on where it was.
    fn reopen(&mut self) -> io::Result<()>;
}

/// A file that is appended to, or standard output.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    path: Option<PathBuf>,
}

impl FileSink {
    /// Opens a file at its end; one that is not there is made, readable by owner and group (0640).
    ///
    /// # Errors
    /// As open(2).
    pub fn append(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open(path)?, path: Some(path.to_owned()) })
    }

    /// Takes standard output, without a buffer in between.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, path: None })
    }
}

/// A named pipe would block until somebody reads it, here and at every line.
fn open(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file =
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(nonblocking).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a named pipe cannot hold a log"));
    }
    Ok(file)
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = open(path)?;
        }
        Ok(())
    }
}

/// A sink that does what a script says, call by call, and keeps what it took. For tests.
#[derive(Debug, Clone, Default)]
pub struct ScriptedSink {
    state: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Result<usize, io::ErrorKind>>,
    files: Vec<Vec<u8>>,
    writes: usize,
}

impl ScriptedSink {
    /// Makes the next call take at most so many bytes, or fail. Without a script everything is taken.
    pub fn script(&self, step: Result<usize, io::ErrorKind>) {
        self.state.lock().steps.push_back(step);
    }

    /// Returns everything taken so far.
    pub fn taken(&self) -> String {
        self.files().concat()
    }

    /// Returns what was taken between one reopening and the next.
    pub fn files(&self) -> Vec<String> {
        self.state.lock().files.iter().map(|file| String::from_utf8_lossy(file).into_owned()).collect()
    }

    /// Returns how often it was written to.
    pub fn writes(&self) -> usize {
        self.state.lock().writes
    }
}

impl Sink for ScriptedSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.writes += 1;
        let room = state.steps.pop_front().unwrap_or(Ok(bytes.len()))?;
        let (taken, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        match state.files.last_mut() {
            Some(file) => file.extend_from_slice(taken),
            None => state.files.push(taken.to_vec()),
        }
        Ok(taken.len())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.state.lock().files.push(Vec::new());
        Ok(())
    }
}
