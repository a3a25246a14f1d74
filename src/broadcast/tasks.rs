//! What tasks need beyond the readiness contract: spinning that gives way.

use super::receiver::Receiver;
use super::select::Select;
use super::sender::Sender;
use crate::wait::{Sliced, Slices, Wait};

impl Receiver {
    /// Looks for a moment whether anything has happened.
    pub(crate) fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        let mut spinner = self.spinner().clone();
        let sliced = spinner.spin_slice(slices, || self.is_ready());
        self.set_spinner(spinner);
        go_on(sliced, self.spinner().wait(), slices)
    }
}

impl Select {
    /// Looks for a moment whether anything has happened.
    pub(crate) fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        let Some(mut spinner) = self.take_spinner() else { return Sliced::Exhausted };
        let sliced = spinner.spin_slice(slices, || self.is_ready());
        let wait = spinner.wait();
        self.set_spinner(spinner);
        go_on(sliced, wait, slices)
    }
}

impl Sender {
    /// Looks for a moment whether there is room for a message of `len` bytes.
    pub(crate) fn spin_slice(&mut self, len: usize, slices: &mut Slices) -> Sliced {
        let mut spinner = self.spinner().clone();
        let sliced = spinner.spin_slice(slices, || self.is_worth_a_try(len, 1));
        self.set_spinner(spinner);
        go_on(sliced, self.spinner().wait(), slices)
    }
}

/// Who never sleeps begins anew; the control thread sees who goes.
fn go_on(sliced: Sliced, wait: Wait, slices: &mut Slices) -> Sliced {
    match sliced {
        Sliced::Exhausted if wait == Wait::Spin => {
            *slices = Slices::default();
            Sliced::Again
        }
        sliced => sliced,
    }
}
