//! Rings in segments: our own to write, a peer's to read.

use super::talk::Trouble;
use crate::config::Config;
use crate::error::Refusal;
use crate::proto::handshake::Terms;
use crate::ring::{Consumer, ConsumerParts, Mode, Producer, ProducerParts};
use crate::shm::layout::{self, feature, producer};
use crate::shm::{Own, PeerSegment, Segment, SharedWord};
use crate::sys::Suspect;
use std::os::fd::AsFd;

/// Creates a segment with a ring.
pub(crate) fn create_segment(config: &Config, mode: Mode) -> Result<Segment, Trouble> {
    let os = |error| Trouble::Os("create the segment", error);
    let mut segment = Segment::connection(config.ring_bytes, features(mode)).map_err(os)?;
    if config.prefault {
        segment.prefault().map_err(os)?;
    }
    Ok(segment)
}

/// Returns the feature bits of a segment whose ring is written in this mode.
pub(crate) fn features(mode: Mode) -> u64 {
    match mode {
        Mode::Lossless => 0,
        Mode::Checked => feature::CUTS,
        Mode::Overwrite => feature::OVERWRITE,
    }
}

/// Returns the mode in which a ring is written whose segment has these feature bits.
pub(crate) fn mode(features: u64) -> Result<Mode, Refusal> {
    match features {
        0 => Ok(Mode::Lossless),
        feature::CUTS => Ok(Mode::Checked),
        feature::OVERWRITE => Ok(Mode::Overwrite),
        _ => Err(Refusal::Features),
    }
}

/// Makes the writing end of our own ring.
pub(crate) fn producer(own: Segment, mode: Mode) -> Producer {
    let ring_bytes = own.ring_bytes();
    let parts = |allocate| ProducerParts {
        ring: own.ring(),
        published: own.word(producer::PUBLISHED),
        intent: own.word(producer::INTENT),
        close: own.word(producer::CLOSE),
        messages: own.word(producer::MESSAGES),
        messages_after: own.word(producer::MESSAGES_AFTER),
        mode,
        record_bytes_max: ring_bytes / layout::RECORD_SHARE,
        allocate,
    };
    if own.is_prefaulted() {
        return Producer::new(parts(None));
    }
    let segment = own.share();
    let mut done = 0;
    Producer::new(parts(Some(Box::new(move |end| {
        segment
            .allocate(layout::HEADER_BYTES as u64 + done, end - done)
            .map_err(|error| error.raw_os_error().unwrap_or(0))?;
        done = end;
        Ok(())
    }))))
}

/// Makes the reading end of a peer's ring; `consumed` is our word that says how far we are.
pub(crate) fn consumer(
    theirs: &PeerSegment,
    consumed: SharedWord<Own>,
    mode: Mode,
    ring_bytes: u64,
    start: u64,
) -> Consumer {
    Consumer::new(ConsumerParts {
        ring: theirs.ring(),
        published: theirs.word(producer::PUBLISHED),
        intent: theirs.word(producer::INTENT),
        close: theirs.word(producer::CLOSE),
        messages: theirs.word(producer::MESSAGES),
        messages_after: theirs.word(producer::MESSAGES_AFTER),
        consumed,
        mode,
        record_bytes_max: ring_bytes / layout::RECORD_SHARE,
        start,
    })
}

/// Verifies and maps a segment with a peer's ring.
pub(crate) fn map_ring(file: Suspect, terms: &Terms, config: &Config) -> Result<PeerSegment, Trouble> {
    // Looking at its pages gives them memory, at our expense too.
    if terms.ring_bytes > config.peer_ring_bytes_max.max(config.ring_bytes) {
        return Err(Refusal::Limit.into());
    }
    let segment =
        PeerSegment::connection(file.as_fd(), terms.ring_bytes, terms.segment_features, config.trust_peer)
            .map_err(|_| Refusal::Descriptors)?;
    // It is a memfd, which closes at once.
    drop(file.into_trusted());
    Ok(segment)
}
