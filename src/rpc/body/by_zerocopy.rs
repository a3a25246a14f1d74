//! Values whose bytes in memory are their form.

use super::{Decode, Encode};
use crate::error::call::BodyError;
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

/// A value that travels as it lies in memory, with [`zerocopy`](https://docs.rs/zerocopy).
///
/// Both sides are of one machine, so byte order and layout agree when both were built with the same types. Making the
/// bytes costs nothing; of those that come, length and every value that is not free are checked.
///
/// # Examples
/// ```
/// use ringway::rpc::{Decode, Encode, Zerocopy};
/// # use zerocopy::{Immutable, IntoBytes, TryFromBytes};
/// #[derive(IntoBytes, TryFromBytes, Immutable, Debug, PartialEq)]
/// #[repr(C)]
/// struct Point { x: i32, y: i32 }
/// let body = Zerocopy(Point { x: 1, y: -1 });
/// let mut unused = Vec::new();
/// let bytes = body.encode(&mut unused)?;
/// assert_eq!(Zerocopy::<Point>::decode(bytes)?.0, body.0);
/// assert!(Zerocopy::<Point>::decode(&bytes[1..]).is_err());
/// # Ok::<(), ringway::rpc::BodyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zerocopy<T>(pub T);

impl<T: IntoBytes + Immutable> Encode for Zerocopy<T> {
    fn encode<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        Ok(self.0.as_bytes())
    }
}

impl<T: TryFromBytes> Decode for Zerocopy<T> {
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        T::try_read_from_bytes(body).map(Self).map_err(|error| {
            let what = match error {
                zerocopy::ConvertError::Size(_) => {
                    format!("{} bytes instead of {}", body.len(), size_of::<T>())
                }
                _ => "a field has a value that its type does not have".to_owned(),
            };
            BodyError::new(what)
        })
    }
}
