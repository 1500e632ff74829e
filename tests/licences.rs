//! What is linked: licences and sources of every dependency, read from cargo's own metadata.
//!
//! The list is the one of deny.toml; this test works where cargo-deny is not installed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::Command;

/// The licences that deny.toml allows.
fn allowed() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).expect("readable");
    let deny: toml::Table = text.parse().expect("TOML");
    let list = deny["licenses"]["allow"].as_array().expect("a list");
    list.iter().map(|licence| licence.as_str().expect("text").to_owned()).collect()
}

fn packages() -> Vec<serde_json::Value> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// Whether one licence of each alternative group may be chosen from the list.
fn acceptable(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    let allowed = allowed();
    let one = |licence: &str| allowed.iter().any(|one| one == licence.trim());
    // `A AND B` needs both sides; within a side one of the alternatives is enough.
    plain.split(" AND ").all(|side| side.split(" OR ").any(one))
}

#[test]
fn every_dependency_may_be_linked() {
    let refused: Vec<_> = packages()
        .iter()
        .filter(|package| !acceptable(package["license"].as_str().unwrap_or("none")))
        .map(|package| format!("{} {}", package["name"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn every_dependency_comes_from_the_registry() {
    for package in packages() {
        let source = package["source"].as_str();
        let own = package["name"] == "namegate";
        assert!(own || source.is_some_and(|source| source.starts_with("registry+")), "{}", package["name"]);
    }
}

#[test]
fn the_judge_of_licences_says_no() {
    for refused in ["GPL-3.0", "GPL-2.0-only AND MIT", "GPL-2.0 AND (MIT OR Zlib)", "none", "SSPL-1.0"] {
        assert!(!acceptable(refused), "{refused}");
    }
    for fine in
        ["MIT OR Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT/Apache-2.0", "GPL-2.0 OR MIT"]
    {
        assert!(acceptable(fine), "{fine}");
    }
}
