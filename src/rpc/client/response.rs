//! Responses.

use crate::error::call::{CallError, Code, Failure};
use crate::rpc::body::Decode;
use std::ops::Deref;

/// The response to a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    bytes: Vec<u8>,
}

impl Response {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns the bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// Makes a value of the bytes.
    ///
    /// # Errors
    /// [`CallError::Body`]: the server sent something else. The call has run.
    pub fn decode<T: Decode>(&self) -> Result<T, CallError> {
        T::decode(&self.bytes).map_err(|error| CallError::Body(error.of_response()))
    }
}

impl Deref for Response {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Response {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Makes an error of what the server said; it chose these bytes.
#[cold]
pub(super) fn failure(code: u32, text: &[u8]) -> CallError {
    // It is chance which side notices first that the time is up.
    if Code(code) == Code::DEADLINE_EXCEEDED {
        return CallError::Timeout { sent: true };
    }
    let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]);
    CallError::Failed(Failure::new(Code(code), text))
}

const TEXT_BYTES_MAX: usize = 4 << 10;
