//! Builds messages in place and reads them in place: nothing is copied. Run `cargo run --example zero_copy`.
//!
//! The process starts itself again as the other side.

use ringway::Config;
use std::env;
use std::error::Error;
use std::process::Command;

const READINGS: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(path) => produce(&path),
        None => consume(),
    }
}

/// Builds each message in the ring itself, aligned for its type.
fn produce(path: &str) -> Result<(), Box<dyn Error>> {
    let (mut sender, _receiver) = ringway::connect(path)?.split();
    for batch in 0_u32..100 {
        let mut claim = loop {
            match sender.try_claim_aligned(4 * READINGS, 4) {
                Ok(claim) => break claim,
                Err(ringway::TrySendError::Full) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        };
        for (index, reading) in claim.chunks_exact_mut(4).enumerate() {
            reading.copy_from_slice(&(batch * 1000 + index as u32).to_le_bytes());
        }
        claim.commit();
    }
    Ok(())
}

/// Reads each message where it lies.
fn consume() -> Result<(), Box<dyn Error>> {
    let path = format!("{}/zero-copy-{}.sock", ringway::runtime_directory().display(), std::process::id());
    // SAFETY: the peer is this very program, which does not touch a message once it is committed.
    let config = unsafe { Config::new().trust_peer() };
    let mut listener = config.bind(&path)?;
    let mut child = Command::new(env::current_exe()?).arg(&path).spawn()?;
    let (_sender, mut receiver) = listener.accept()?.split();
    let mut sum = 0_u64;
    while let Ok(message) = receiver.recv() {
        assert!(message.is_borrowed());
        let readings =
            message.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        sum += readings.map(u64::from).sum::<u64>();
    }
    child.wait()?;
    println!("the sum of {} readings is {sum}", 100 * READINGS);
    Ok(())
}
