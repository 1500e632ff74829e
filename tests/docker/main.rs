//! The door of containers: a Docker daemon of our own, the image, and the Compose files as they stand, with an Internet
//! of our own around them. What is tried is tried from inside the containers.
//!
//! One daemon serves all tests, one after the other; see `world`.
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

mod alone;
mod apart;
mod host;
mod project;
mod shared;
mod sidecar;
mod walk;
mod world;
