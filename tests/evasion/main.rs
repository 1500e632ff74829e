//! Every attack of the catalogue that a world of namespaces can try, one test each, by its name.
//!
//! [`rows`] are the suite that `namegate conformance` runs on any filter: it is run once, and each test looks at its
//! own rows. [`clients`] are attacks by real programs. What cannot be tried here stands in docs/conformance.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may panic and print"
)]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod rows;
