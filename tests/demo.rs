//! `namegate demo`, as a newcomer runs it: every verdict as expected, in time, and nothing left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures the wall clock"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::namespace::inside;
use serde_json::Value;

/// Runs the program below a time limit.
fn run(program: &str, arguments: &[&str]) -> (Output, Duration) {
    let started = Instant::now();
    let output = Command::new("timeout").arg("30").arg(program).args(arguments).output().expect("timeout");
    (output, started.elapsed())
}

fn check(output: &Output, taken: Duration) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(value["as_expected"], true, "{said}");
    let rows = value["rows"].as_array().expect("rows");
    let reason = |tried: &str| {
        let row = rows.iter().find(|row| row["tried"] == tried).unwrap_or_else(|| panic!("no row: {tried}"));
        row["reason"].as_str().unwrap_or("-").to_owned()
    };
    for (tried, expected) in [
        ("HTTPS to an allowed name", "allowed"),
        ("HTTP to an allowed name", "allowed"),
        ("hard-coded address", "address_not_observed"),
        ("other SNI at a shared address", "name_not_allowed"),
        ("what only another client resolved", "address_not_observed"),
        ("Host swapped on keep-alive", "name_changed"),
        ("data in a DNS name", "name_not_allowed"),
        ("an address after its lease", "lease_expired"),
        ("the gate is killed", "-"),
    ] {
        assert_eq!(reason(tried), expected, "{tried}");
    }
    assert!(rows.iter().filter(|row| row["bypass"] == true).count() >= 9);
    assert!(taken < Duration::from_secs(10), "{taken:?}");
}

/// Processes of this test's process namespace.
fn processes() -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
}

#[test]
fn the_demo_shows_what_is_promised_and_leaves_nothing() {
    if !inside("the_demo_shows_what_is_promised_and_leaves_nothing") {
        return;
    }
    let processes_before = processes();
    // Of its own: other tests leave and enter the common one.
    let scratch = tempfile::tempdir_in("/tmp").unwrap();
    let words =
        [&format!("TMPDIR={}", scratch.path().display()), env!("CARGO_BIN_EXE_namegate"), "demo", "--json"];
    let (output, taken) = run("env", &words);
    check(&output, taken);
    assert_eq!(processes(), processes_before);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_runs_as_a_plain_user() {
    if !rustix::process::geteuid().is_root() {
        // The other test is run by a plain user then.
        return;
    }
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("namegate");
    fs::copy(env!("CARGO_BIN_EXE_namegate"), &program).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let program = program.to_str().unwrap();
    let arguments: Vec<&str> = nobody.into_iter().chain([program, "demo", "--json"]).collect();
    let (output, taken) = run("setpriv", &arguments);
    check(&output, taken);
}

#[test]
fn the_demos_table_is_for_people() {
    if !inside("the_demos_table_is_for_people") {
        return;
    }
    let (output, _) = run(env!("CARGO_BIN_EXE_namegate"), &["demo"]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}");
    assert!(table.contains("15 bypasses died, 2 connections passed"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours into a pipe: {table}");
}
