//! One connection from end to end: real gate, real sockets on loopback, scripted way out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod bodies;
mod carried;
mod corpus;
mod edges;
mod h2;
mod h2_clients;
mod h2_corpus;
mod held;
mod judged;
mod kin;
mod postgres;
mod programs;
mod real_postgres;
mod real_tls;
mod requests;
mod world;
