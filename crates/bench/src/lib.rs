//! Scenarios that measure ringway and what it competes with, every message checked in the receiving process.

pub mod bars;
pub mod report;
pub mod row;
