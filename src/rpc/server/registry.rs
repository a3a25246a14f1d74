//! Which handler serves which message type.

use super::request::{OwnedRequest, Reply, Request};
use crate::error::call::Failure;
use crate::proto::call::TYPE_RESERVED;
use futures_core::Stream;
use std::pin::Pin;

/// A response that takes its time.
pub(super) type Pending = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>;
/// A response in parts.
pub(super) type Parts = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Failure>> + Send>>;

type Immediate<S> = dyn Fn(&Request<'_, S>, &mut Reply<'_>) -> Result<(), Failure> + Send + Sync;
type Deferred<S> = dyn Fn(OwnedRequest<S>) -> Pending + Send + Sync;
type Streamed<S> = dyn Fn(OwnedRequest<S>) -> Parts + Send + Sync;

/// A handler, by the way in which it answers.
pub(super) enum Handler<S> {
    Immediate(Box<Immediate<S>>),
    Deferred(Box<Deferred<S>>),
    Streamed(Box<Streamed<S>>),
}

/// The handlers of a server.
pub(super) struct Registry<S> {
    /// For each message type 0, or one more than the place of its handler. Untouched pages of it have no memory.
    places: Vec<u16>,
    handlers: Vec<Handler<S>>,
}

impl<S> Registry<S> {
    pub(super) fn new() -> Self {
        Self { places: vec![0; TYPE_RESERVED.into()], handlers: Vec::new() }
    }

    /// Adds a handler.
    ///
    /// # Panics
    /// If the type is reserved, or has a handler: a bug of the program that registers.
    pub(super) fn add(&mut self, message_type: u16, handler: Handler<S>) {
        assert!(
            message_type < TYPE_RESERVED,
            "message type {message_type:#06x} is reserved; use one below {TYPE_RESERVED:#06x}"
        );
        let place = &mut self.places[usize::from(message_type)];
        assert!(*place == 0, "message type {message_type} has a handler already");
        self.handlers.push(handler);
        *place = self.handlers.len() as u16;
    }

    /// Finds the handler of a type. Cost: two loads.
    #[inline]
    pub(super) fn get(&self, message_type: u16) -> Option<&Handler<S>> {
        let place = *self.places.get(usize::from(message_type))?;
        self.handlers.get(usize::from(place).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn immediate() -> Handler<()> {
        Handler::Immediate(Box::new(|_, _| Ok(())))
    }

    #[test]
    fn each_type_has_its_handler_or_none() {
        let mut registry = Registry::new();
        for message_type in [0, 7, TYPE_RESERVED - 1] {
            registry.add(message_type, immediate());
        }
        for (message_type, known) in
            [(0, true), (1, false), (7, true), (0xFEFF, true), (0xFF00, false), (0xFFFF, false)]
        {
            assert_eq!(registry.get(message_type).is_some(), known, "{message_type:#06x}");
        }
    }

    #[test]
    #[should_panic(expected = "has a handler already")]
    fn a_second_handler_for_a_type_is_refused() {
        let mut registry = Registry::new();
        registry.add(7, immediate());
        registry.add(7, immediate());
    }

    #[test]
    #[should_panic(expected = "is reserved")]
    fn reserved_types_are_refused() {
        Registry::new().add(TYPE_RESERVED, immediate());
    }
}
