//! Guards the floor plan of the house: which room may import which, headers, and sizes.
//!
//! Reads `src/` as text; what it forbids is written in docs/design.md.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Floor of each room. A room imports only from floors below its own, never a neighbour.
const FLOORS: &[(&str, u8)] = &[
    ("facts", 0),
    ("wire", 1),
    ("gate", 1),
    ("rate", 1),
    ("sys", 1),
    ("record", 2),
    ("who", 2),
    ("props", 2),
    ("proxy", 3),
    ("dns", 3),
    ("nft", 3),
    ("sandbox", 3),
    ("docker", 3),
    ("admin", 3),
    ("settings", 4),
    ("daemon", 5),
    ("doctor", 5),
    ("demo", 6),
    ("conformance", 6),
    ("cli", 7),
];

/// Lines of a file without its tests.
const MAX_LINES: usize = 400;
/// Lines of a function.
const MAX_FUNCTION: usize = 80;

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 30, "src/ was not found");
    found.sort();
    found
}

fn room(path: &Path) -> &str {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    inside.components().next().unwrap().as_os_str().to_str().unwrap()
}

/// Whether a file holds nothing but tests.
fn is_all_tests(path: &Path) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    name == "tests" || name.ends_with("_tests")
}

/// The part of a file before its test module.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\n").map_or(text, |at| &text[..at])
}

/// Rooms named in `crate::room` paths and in `use crate::{room, ...}` groups.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with('$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            let mut head = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 1 && (c == ',' || c == '}') {
                    rooms.push(std::mem::take(&mut word));
                    head = true;
                } else if depth == 1 && c == ':' {
                    head = false;
                } else if depth == 1 && head && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                }
                if depth == 0 {
                    rooms.push(std::mem::take(&mut word));
                    break;
                }
            }
        } else {
            rooms.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn no_room_imports_a_neighbour_or_climbs() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = room(&path);
        let Some(&own) = floors.get(from) else {
            assert!(matches!(from, "lib.rs" | "main.rs"), "{from} has no floor");
            continue;
        };
        for to in imports(without_tests(&text)) {
            let Some(&other) = floors.get(to.as_str()) else { continue };
            // The decision is what `record` keeps; `settings` fills the gate's and the rooms' own configurations.
            if to != from && other >= own {
                wrong.push(format!("{} imports {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_those_who_join_rooms_see_several_corridors() {
    for (path, text) in sources() {
        let from = room(&path);
        if matches!(from, "settings" | "daemon" | "doctor" | "cli" | "lib.rs" | "main.rs") {
            continue;
        }
        for to in imports(without_tests(&text)) {
            let corridor = matches!(to.as_str(), "proxy" | "dns" | "nft");
            assert!(!corridor || to == from, "{} imports {to}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

#[test]
fn files_and_functions_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if is_all_tests(&path) {
            continue;
        }
        let body = without_tests(&text);
        let lines = body.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in body.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let is_fn = word.split('(').next().unwrap_or("").split_whitespace().any(|word| word == "fn");
            if open.is_none() && is_fn && !word.starts_with("//") && !word.ends_with(';') {
                open = Some((number, indent, word.to_owned()));
            }
            if let Some((from, depth, name)) = &open
                && indent == *depth
                && word.starts_with('}')
            {
                if number - from > MAX_FUNCTION {
                    wrong.push(format!("{}:{}: {} lines: {name}", path.display(), from + 1, number - from));
                }
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_stays_in_the_kernel_room() {
    for (path, text) in sources() {
        if room(&path) == "sys" {
            continue;
        }
        let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe "));
        assert!(!used, "{} uses unsafe", path.display());
    }
}

#[test]
fn the_guard_sees_grouped_imports() {
    assert_eq!(imports("use crate::{facts::Name, gate::{Gate, Policy}, dns};"), ["facts", "gate", "dns"]);
    assert_eq!(imports("let x = crate::proxy::Proxy; use crate::nft::Plan;"), ["proxy", "nft"]);
}
