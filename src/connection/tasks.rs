//! What tasks need of the halves beyond the readiness contract: spinning that gives way.

use super::receiver::Receiver;
use super::sender::{Sender, is_worth_a_try};
use crate::wait::{Sliced, Slices, Wait};

impl Receiver {
    /// Looks for a moment whether something has come.
    pub(crate) fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        let Self { consumer, link, parts, .. } = self;
        match parts.spinner.spin_slice(slices, || consumer.is_ready() || consumer.is_closed()) {
            Sliced::Exhausted if parts.spinner.wait() == Wait::Spin => {
                link.look_after_peer();
                *slices = Slices::default();
                Sliced::Again
            }
            sliced => sliced,
        }
    }
}

impl Sender {
    /// Looks for a moment whether there is room for a message of `len` bytes.
    pub(crate) fn spin_slice(&mut self, len: usize, slices: &mut Slices) -> Sliced {
        let Self { producer, link, parts, .. } = self;
        match parts.spinner.spin_slice(slices, || is_worth_a_try(producer, &parts.waker, len, 1)) {
            // The reader may have closed, which an attempt by itself does not see.
            Sliced::Ready => {
                let _ = self.check_room();
                Sliced::Ready
            }
            Sliced::Exhausted if parts.spinner.wait() == Wait::Spin => {
                link.look_after_peer();
                *slices = Slices::default();
                Sliced::Again
            }
            sliced => sliced,
        }
    }
}
