//! The door for one command: the real binary and real programs in its sandbox, an Internet of our own around it.
//! Each test runs in namespaces of its own, once for each kind of user that it is about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may panic and print"
)]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod feel;
mod hostile;
mod life;
mod odd;
mod terminal;
mod world;
