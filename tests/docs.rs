//! The documents are true: every test they name exists, every reason is explained, every link leads somewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use namegate::doctor::{Code, Severity};
use namegate::gate::Reason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Names of all test functions.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let text = fs::read_to_string(path).expect("readable");
        let mut marked = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some((_, rest)) =
                line.split_once("fn ").filter(|_| marked && !line.starts_with("//"))
            {
                names.insert(rest.split(['(', '<']).next().unwrap_or("").to_owned());
                marked = false;
            } else if line.starts_with("proptest!") {
                marked = false;
            }
        }
    }
    names
}

#[test]
fn every_test_behind_a_promise_exists() {
    let tests = tests();
    let text = read("docs/promises.md");
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() >= 3 && !word.contains([' ', '.']))
        .collect();
    assert!(named.len() > 20, "promises.md names its tests");
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_reason_is_explained() {
    let text = read("docs/reasons.md");
    for reason in Reason::ALL {
        assert!(text.contains(&format!("| `{reason}` |")), "{reason}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Reason::ALL.len());
}

#[test]
fn every_finding_of_the_doctor_is_explained() {
    let text = read("docs/doctor.md");
    for code in Code::ALL {
        let row = format!("| `{code}` | {} | {} |", code.severity().as_str(), code.why());
        assert!(text.contains(&row), "{row}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Code::ALL.len() + Severity::ALL.len());
}

#[test]
fn every_link_leads_somewhere() {
    let documents = [
        "README.md",
        "docs/design.md",
        "docs/from-on-his-name.md",
        "docs/gaps.md",
        "docs/promises.md",
        "docs/reasons.md",
        "docs/doctor.md",
        "docs/out-of-scope.md",
    ];
    for document in documents {
        let folder = root().join(document).parent().expect("a folder").to_owned();
        for target in read(document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let outside = target.starts_with("http") || target.starts_with('#');
            assert!(outside || folder.join(target).exists(), "{document}: {target}");
        }
    }
}

#[test]
fn the_configuration_in_the_readme_is_accepted() {
    let readme = read("README.md");
    let toml =
        readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("readme.toml");
    fs::write(&file, toml).expect("written");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_namegate"))
        .arg("check")
        .arg(&file)
        .output()
        .expect("runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
