//! Atomics, chosen once: the standard library's, or loom's under `--cfg loom`.
//!
//! Every shared word of the ring and of the sleep/wake protocol goes through these names, so that the code
//! which loom explores is the code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Runs a model and asserts that loom tried more than a handful of interleavings.
#[cfg(all(test, loom))]
pub(crate) fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_by(&loom::model::Builder::new(), model);
}

/// [Explores](explore) a model with at most so many preemptions, for what has too many threads for more.
#[cfg(all(test, loom))]
pub(crate) fn explore_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none_or(|bound| bound > preemptions) {
        builder.preemption_bound = Some(preemptions);
    }
    explore_by(&builder, model);
}

#[cfg(all(test, loom))]
fn explore_by(builder: &loom::model::Builder, model: impl Fn() + Sync + Send + 'static) {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&count);
    builder.check(move || {
        // Relaxed: a number for the assertion below, after everything has ended.
        seen.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let explored = count.load(Ordering::Relaxed);
    assert!(explored > 10, "loom explored only {explored} interleavings");
}
