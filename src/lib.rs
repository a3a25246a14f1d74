//! Shared-memory messaging between processes on one machine.
#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod crash;
mod error;
mod primitive;
mod ring;
mod shm;
#[cfg(not(loom))]
mod sys;
mod wait;
