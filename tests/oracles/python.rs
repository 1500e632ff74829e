//! One Python process that gives second opinions, thousands a second.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// Asks `second_opinion.py` about every case. `None`: what it needs is not installed; that is said loudly, and with
/// `NAMEGATE_TEST_ALL=1` it is a failure.
pub(crate) fn opinions<T: DeserializeOwned>(of: &str, package: &str, cases: &[Vec<u8>]) -> Option<Vec<T>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/second_opinion.py");
    // The packages are those of the system.
    let system = Path::new("/usr/bin/python3");
    let mut command = Command::new(if system.exists() { system } else { Path::new("python3") });
    command.arg("-I").arg(script).arg(of).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let skipped = |why: &str| {
        let notice = format!("SKIPPED: no second opinion on {of} ({package} is needed): {why}");
        eprintln!("{notice}");
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "{notice}");
    };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            skipped(&error.to_string());
            return None;
        }
    };
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    if answers.next().is_none() {
        let failed = child.wait_with_output().unwrap();
        let last = String::from_utf8_lossy(&failed.stderr).lines().last().unwrap_or_default().to_owned();
        assert!(last.contains("ModuleNotFoundError"), "second_opinion.py {of}: {last}");
        skipped(&last);
        return None;
    }
    let mut input = child.stdin.take().unwrap();
    let views = std::thread::scope(|scope| {
        scope.spawn(move || {
            for case in cases {
                input.write_all(&u32::try_from(case.len()).unwrap().to_be_bytes()).unwrap();
                input.write_all(case).unwrap();
            }
        });
        answers.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<T>>()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(views.len(), cases.len());
    Some(views)
}
