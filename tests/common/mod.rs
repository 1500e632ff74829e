//! What the tests share.
#![allow(unreachable_pub, dead_code, reason = "shared by several test binaries, each using its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and print"
)]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

pub mod dockerd;
pub mod far;
pub mod namespace;
pub mod world;

/// A captured browser hello with an ECH extension, and the name in it.
pub fn ech_capture() -> (String, &'static str) {
    (
        format!("{}/tests/corpus/tls-real/tls-chromium-login.0.bin", env!("CARGO_MANIFEST_DIR")),
        "login.example.com",
    )
}
