//! The gate's audit log, read while it grows.
//!
//! Must not know what should stand in it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

/// The lines that came so far.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    /// Bytes that were read.
    read: u64,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    lines: Vec<Value>,
    /// How long a line is waited for.
    patience: Duration,
}

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(5);

impl Audit {
    pub(super) fn new(path: &Path, patience: Duration) -> Self {
        Self { path: path.to_path_buf(), read: 0, rest: Vec::new(), lines: Vec::new(), patience }
    }

    /// Waits for a line.
    pub(super) async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let patience = self.patience;
        let search = async {
            let mut from = 0;
            loop {
                self.read_on();
                let found = self.lines.iter().skip(from).find(|line| wanted(line));
                if let Some(line) = found {
                    return line.clone();
                }
                from = self.lines.len();
                sleep(LOOK).await;
            }
        };
        timeout(patience, search).await.ok()
    }

    /// Reads what is new. A file that is not there yet has no lines.
    fn read_on(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        // What was read before an error counts, and the next look goes on behind it.
        let before = self.rest.len();
        let _ = file.read_to_end(&mut self.rest);
        let read = self.rest.len() - before;
        self.read += u64::try_from(read).unwrap_or(0);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in self.rest.drain(..whole).collect::<Vec<_>>().split(|byte| *byte == b'\n') {
            self.lines.extend(serde_json::from_slice::<Value>(line));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn lines_are_found_whole_and_one_that_never_comes_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut audit = Audit::new(&path, Duration::from_millis(30));
        let with = |id: u64| move |line: &Value| line["id"] == id;
        assert_eq!(audit.find(with(1)).await, None);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"{\"id\":1}\n{\"id\"").unwrap();
        assert_eq!(audit.find(with(1)).await, Some(serde_json::json!({ "id": 1 })));
        assert_eq!(audit.find(with(2)).await, None);
        file.write_all(b":2}\n").unwrap();
        assert!(audit.find(with(2)).await.is_some());
        assert!(audit.find(with(1)).await.is_some());
    }
}
