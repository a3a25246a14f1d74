//! How the writer of a ring treats readers that do not keep up.

/// What becomes of readers that do not keep up; fixed when the ring is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The writer waits for all of them: what they look at cannot change under them.
    Lossless,
    /// The writer waits for those that it lists. One that was removed finds out before it takes anything overwritten.
    Checked,
    /// The writer waits for nobody. Who was overrun finds out, and goes on behind what was lost.
    Overwrite,
}
