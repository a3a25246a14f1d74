//! What the tests of tasks share: runtimes, and futures that are dropped halfway.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

use super::common::hang_guard;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Runs a test in a runtime of one thread, then in one of two.
pub fn in_each_runtime<F: Future<Output = ()>>(test: impl Fn() -> F) {
    let _guard = hang_guard();
    block_on(test());
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    many.block_on(test());
}

/// Runs a future in a runtime of one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Polls a future at most so many times, each time after it was woken, then drops it.
pub async fn poll_at_most<T>(times: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
