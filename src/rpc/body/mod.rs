//! Bodies: how values become bytes and bytes become values.

#[cfg(feature = "serde")]
mod by_postcard;
#[cfg(feature = "rkyv")]
mod by_rkyv;
#[cfg(feature = "zerocopy")]
mod by_zerocopy;

#[cfg(feature = "serde")]
pub use by_postcard::Postcard;
#[cfg(feature = "rkyv")]
pub use by_rkyv::Rkyv;
#[cfg(feature = "zerocopy")]
pub use by_zerocopy::Zerocopy;

use crate::error::call::BodyError;

/// A value that can be the body of a request or a response.
///
/// Byte slices, vectors and strings are bodies as they are and are copied once, into the ring.
///
/// # Examples
/// ```
/// use ringway::rpc::{BodyError, Encode};
/// struct Point(u32, u32);
/// impl Encode for Point {
///     fn encode<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
///         buffer.clear();
///         buffer.extend_from_slice(&self.0.to_le_bytes());
///         buffer.extend_from_slice(&self.1.to_le_bytes());
///         Ok(buffer)
///     }
/// }
/// assert_eq!(Point(1, 2).encode(&mut Vec::new())?, [1, 0, 0, 0, 2, 0, 0, 0]);
/// # Ok::<(), BodyError>(())
/// ```
pub trait Encode {
    /// Returns the bytes of the value: its own, or those that it wrote into `buffer`, whose content is arbitrary.
    ///
    /// # Errors
    /// [`BodyError`]: the value has no form in bytes.
    fn encode<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError>;
}

/// A value that can be made from the body of a request or a response.
///
/// # Examples
/// ```
/// use ringway::rpc::{BodyError, Decode};
/// struct Number(u32);
/// impl Decode for Number {
///     fn decode(body: &[u8]) -> Result<Self, BodyError> {
///         let bytes = body.try_into().map_err(|_| BodyError::new("a number has 4 bytes"))?;
///         Ok(Self(u32::from_le_bytes(bytes)))
///     }
/// }
/// assert_eq!(Number::decode(&[7, 0, 0, 0])?.0, 7);
/// assert!(Number::decode(b"seven").is_err());
/// # Ok::<(), BodyError>(())
/// ```
pub trait Decode: Sized {
    /// Makes a value from bytes in private memory, which the other side chose: check all of them.
    ///
    /// # Errors
    /// [`BodyError`]: these bytes are no such value.
    fn decode(body: &[u8]) -> Result<Self, BodyError>;
}

macro_rules! encode_as_bytes {
    ($([$($generic:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generic)*> Encode for $type {
            fn encode<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
                Ok(self.as_ref())
            }
        }
    )*};
}

encode_as_bytes!([] [u8], [] Vec<u8>, [] str, [] String, [const N: usize] [u8; N]);

impl<T: Encode + ?Sized> Encode for &T {
    fn encode<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        (**self).encode(buffer)
    }
}

impl Encode for () {
    fn encode<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        Ok(&[])
    }
}

impl Decode for Vec<u8> {
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        Ok(body.to_vec())
    }
}

impl Decode for String {
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        std::str::from_utf8(body).map(str::to_owned).map_err(|error| BodyError::new(error.to_string()))
    }
}

impl Decode for () {
    fn decode(body: &[u8]) -> Result<Self, BodyError> {
        if body.is_empty() {
            Ok(())
        } else {
            Err(BodyError::new(format!("{} bytes instead of none", body.len())))
        }
    }
}
