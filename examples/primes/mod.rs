//! What the examples `call_server` and `call_client` agree on, and the arithmetic.
#![allow(dead_code, reason = "each uses a part of it")]

use ringway::rpc::{BodyError, Decode, Encode};

/// Is this number prime? 1 or 0.
pub const IS_PRIME: u16 = 1;
/// The smallest factor of this number.
pub const FACTOR: u16 = 2;
/// The primes from this number on, one by one, without end.
pub const PRIMES: u16 = 3;
/// How many factors were asked for?
pub const ASKED: u16 = 4;

/// Travels as 8 bytes, little-endian.
#[derive(Debug, PartialEq)]
pub struct Number(pub u64);

impl Encode for Number {
    fn encode<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        buffer.clear();
        buffer.extend_from_slice(&self.0.to_le_bytes());
        Ok(buffer)
    }
}

impl Decode for Number {
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        let bytes = body.try_into().map_err(|_| BodyError::new("a number has 8 bytes"))?;
        Ok(Self(u64::from_le_bytes(bytes)))
    }
}

/// Returns the smallest factor beside 1; nothing if `stop` says so before it is found.
pub fn factor(number: u64, stop: impl Fn() -> bool) -> Option<u64> {
    for candidate in (2..).take_while(|candidate: &u64| *candidate <= number / candidate) {
        if number % candidate == 0 {
            return Some(candidate);
        }
        if candidate % (1 << 16) == 0 && stop() {
            return None;
        }
    }
    Some(number)
}

/// Says whether a number is prime.
pub fn is_prime(number: u64) -> bool {
    number > 1 && factor(number, || false) == Some(number)
}
