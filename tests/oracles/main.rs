//! Other people's parsers over the corpus and thousands of its mutations: where both give a name it is
//! the same name, and what they take for their protocol we never call foreign.
//!
//! rustls, httparse and hickory are libraries; OpenSSL, h11 and dnspython answer from one Python process each.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and print")]

#[path = "../corpus/cases.rs"]
#[allow(dead_code, reason = "names and segments are the corpus test's matter")]
mod cases;
mod dns;
mod http;
mod python;
mod tls;

use std::collections::HashSet;

use cases::{Dice, family};

/// Distinct openings of these families.
fn openings(families: [&str; 2]) -> Vec<Vec<u8>> {
    let mut seen = HashSet::new();
    let cases = families.into_iter().flat_map(family);
    cases.map(|case| case.bytes).filter(|bytes| bytes.len() < 20_000 && seen.insert(bytes.clone())).collect()
}

/// One to three small changes: a byte replaced, put in or taken out, or a piece doubled.
fn mutate(bytes: &[u8], dice: &mut Dice, favourites: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        // Half of the changes are near the start, where the lengths and the names are.
        let reach = if dice.below(2) == 0 { bytes.len() } else { bytes.len().min(160) };
        let at = dice.below(reach);
        let byte =
            if dice.below(3) == 0 { dice.below(256) as u8 } else { favourites[dice.below(favourites.len())] };
        match dice.below(8) {
            0 => bytes.insert(at, byte),
            1 if !bytes.is_empty() => _ = bytes.remove(at),
            2 => {
                let end = (at + 1 + dice.below(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(1),
            4 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_sub(1),
            _ if !bytes.is_empty() => bytes[at] = byte,
            _ => {}
        }
    }
    bytes
}

/// These, and so many mutations of each.
fn with_mutations(openings: &[Vec<u8>], each: usize, seed: u64, favourites: &[u8]) -> Vec<Vec<u8>> {
    let mut dice = Dice(seed);
    let mut all = Vec::new();
    for bytes in openings {
        all.push(bytes.clone());
        all.extend((0..each).map(|_| mutate(bytes, &mut dice, favourites)));
    }
    all
}
