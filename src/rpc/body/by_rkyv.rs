//! Values that rkyv archives.

use super::{Decode, Encode};
use crate::error::call::BodyError;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator, to_bytes_in};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// A value that [`rkyv`](https://docs.rs/rkyv) archives.
///
/// What comes is copied to aligned memory of this process and checked there, never in memory that the other side writes.
///
/// # Examples
/// ```
/// use ringway::rpc::{Decode, Encode, Rkyv};
/// let body = Rkyv(vec!["one".to_owned(), "two".to_owned()]);
/// let mut buffer = Vec::new();
/// let bytes = body.encode(&mut buffer)?;
/// assert_eq!(Rkyv::<Vec<String>>::decode(bytes)?, body);
/// assert!(Rkyv::<Vec<String>>::decode(&bytes[4..]).is_err());
/// # Ok::<(), ringway::rpc::BodyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rkyv<T>(pub T);

impl<T> Encode for Rkyv<T>
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>>,
{
    fn encode<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        buffer.clear();
        *buffer = to_bytes_in(&self.0, std::mem::take(buffer)).map_err(unusable)?;
        Ok(buffer)
    }
}

impl<T> Decode for Rkyv<T>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        let mut aligned = AlignedVec::<16>::with_capacity(body.len());
        aligned.extend_from_slice(body);
        rkyv::from_bytes(&aligned).map(Self).map_err(unusable)
    }
}

fn unusable(error: rancor::Error) -> BodyError {
    BodyError::new(error.to_string())
}
