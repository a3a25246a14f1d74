//! Values that serde knows, in the form of postcard.

use super::{Decode, Encode};
use crate::error::call::BodyError;
use serde::{Serialize, de::DeserializeOwned};

/// A value that [`serde`](https://docs.rs/serde) knows, in the form of [`postcard`](https://docs.rs/postcard): small, and
/// without names of fields, so both sides must have the same types.
///
/// # Examples
/// ```
/// use ringway::rpc::{Decode, Encode, Postcard};
/// let body = Postcard(("temperature".to_owned(), vec![20.5, 21.0]));
/// let mut buffer = Vec::new();
/// let bytes = body.encode(&mut buffer)?;
/// assert_eq!(Postcard::<(String, Vec<f64>)>::decode(bytes)?, body);
/// assert!(Postcard::<(String, Vec<f64>)>::decode(&bytes[1..]).is_err());
/// # Ok::<(), ringway::rpc::BodyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postcard<T>(pub T);

impl<T: Serialize> Encode for Postcard<T> {
    fn encode<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        buffer.clear();
        *buffer = postcard::to_extend(&self.0, std::mem::take(buffer)).map_err(unusable)?;
        Ok(buffer)
    }
}

impl<T: DeserializeOwned> Decode for Postcard<T> {
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        match postcard::take_from_bytes(body).map_err(unusable)? {
            (value, []) => Ok(Self(value)),
            (_, rest) => Err(BodyError::new(format!("{} bytes behind the value", rest.len()))),
        }
    }
}

fn unusable(error: postcard::Error) -> BodyError {
    BodyError::new(error.to_string())
}
