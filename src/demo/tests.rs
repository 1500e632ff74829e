//! The whole demo with no gate in it: what it measures must show that.

use std::io::{BufReader, pipe};
use std::process::Command;

use rustix::process::Pid;

use super::map::Map;
use super::*;

/// A client program that nothing stands in front of.
fn free_client() -> Client {
    let (orders, answers) = (pipe().unwrap(), pipe().unwrap());
    std::thread::spawn(move || act(BufReader::new(orders.0), answers.1));
    Client::new(orders.1.into(), answers.0.into())
}

/// A process that stands for a gate and does nothing.
#[expect(clippy::zombie_processes, reason = "the gate is waited for where it is ended")]
fn idle_gate() -> Gate {
    let process = Command::new("sleep").arg("60").spawn().unwrap();
    Gate::new(Pid::from_child(&process), [free_client(), free_client()])
}

#[tokio::test]
async fn without_a_gate_every_bypass_is_seen_to_come_through() {
    let prepared = prepare_on(Map::on_loopback()).unwrap();
    let folder = prepared.folder().to_path_buf();
    let outcome = perform(&prepared, idle_gate(), Duration::from_millis(20)).await.unwrap();
    drop(prepared);
    assert!(!folder.exists());

    assert!(!outcome.as_expected());
    assert_eq!(outcome.rows.iter().filter(|row| !row.bypass).count(), 2);
    for row in &outcome.rows {
        let fault = row.fault.as_deref().unwrap_or_else(|| panic!("{row:?}"));
        let seen = ["arrived", "travelled", "was asked"].into_iter().any(|word| fault.contains(word));
        match row.tried {
            // Without a gate the private address is in the answer.
            "allowed name, private address" => assert!(fault.contains("look-up"), "{row:?}"),
            _ if row.bypass => assert!(seen, "{row:?}"),
            // They came through as they should, but no gate said so.
            _ => assert_eq!((row.heard.as_str(), fault), ("passed", "no audit line"), "{row:?}"),
        }
    }
    assert!(outcome.table(false).contains("\n0 bypasses died, 0 connections passed, "));
}

#[test]
fn the_gate_can_be_forked_off_after_the_preparations() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    // Other tests start and end threads meanwhile: one round without a new one is enough.
    let steady = (0..50).any(|_| {
        let before = threads();
        drop(prepare().unwrap());
        threads() <= before
    });
    assert!(steady);
}

#[test]
fn the_policy_is_one_that_the_gate_takes() {
    let prepared = prepare().unwrap();
    let file = prepared.folder().join("namegate.toml");
    std::fs::write(&file, format!("[capture]\ninterfaces = [\"br-egress\"]\n{}", prepared.policy())).unwrap();
    let checked = crate::settings::load(&file, std::time::SystemTime::now()).unwrap();
    assert_eq!(checked.report.render(false), "");
    assert!(prepared.audit().starts_with(prepared.folder()));
}
