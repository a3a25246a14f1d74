//! Scenarios that measure ringway and what it competes with, every message checked in the receiving process.

pub mod content;
pub mod lines;
pub mod row;
pub mod tally;
