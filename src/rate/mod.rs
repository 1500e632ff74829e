//! How often: budgets of one client each, kept in bounded memory however many clients there seem to be.
//!
//! Must not know what is counted, nor what is refused to whom has used up his budget. Reads no clock.

mod budgets;
mod names;

pub use budgets::{Budgets, Rate};
pub use names::NewNames;
