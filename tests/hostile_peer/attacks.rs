//! What attackers do once they are in.

use crate::common;
use crate::support::{
    ABANDON, CLOSE, CONSUMED, DATA, DATA_SLEEP, FIRST, INTENT, LAST, MIDDLE, PADDING, PUBLISHED, RING,
    RING_BYTES, Random, Raw, SPACE_SLEEP, send_flagged,
};
use std::os::fd::AsRawFd;

/// Places to scribble on: single words, the first headers of the ring, or all of it.
const TARGETS: [&[usize]; 8] = [
    &[RING],
    &[PUBLISHED],
    &[INTENT],
    &[CLOSE],
    &[CONSUMED],
    &[DATA_SLEEP],
    &[SPACE_SLEEP],
    &[RING, RING + 8, RING + 16, PUBLISHED, INTENT, CONSUMED, DATA_SLEEP, SPACE_SLEEP],
];
const PATTERNS: u64 = 8;
pub const COMBINATIONS: u64 = TARGETS.len() as u64 * PATTERNS;

/// Header words that no sender may write, by the rule that they break.
pub const ILLEGAL: &[(&str, &[u64])] = &[
    ("Header", &[1]),
    ("Header", &[u64::MAX]),
    ("Header", &[7 << 32]),
    ("Header", &[DATA | 1 << 41]),
    ("Header", &[DATA | 1 << 63]),
    ("Header", &[PADDING | 1 << 40]),
    ("Header", &[ABANDON | 1]),
    ("Length", &[DATA | 0xffff_ffff]),
    ("Length", &[DATA | (RING_BYTES / 4 - 7)]),
    ("Length", &[DATA | 1 << 40 | (RING_BYTES / 4 - 8)]),
    ("Length", &[PADDING | (RING_BYTES - 7)]),
    ("Padding", &[PADDING, PADDING, PADDING, PADDING]),
    ("Fragment", &[MIDDLE | 8]),
    ("Fragment", &[LAST | 8]),
    ("Fragment", &[ABANDON]),
    ("Fragment", &[FIRST]),
    ("Fragment", &[FIRST | 8, 0, FIRST | 8]),
    ("Fragment", &[FIRST | 8, 0, DATA | 8]),
    ("Fragment", &[FIRST | 8, 0, MIDDLE]),
    ("Fragment", &[FIRST | 8, 0, LAST]),
];

/// Role: scribbles on one place after the other, in one pattern after the other, each on a connection of its own, at
/// full speed until it is thrown out.
pub fn storm() {
    let socket = common::variable("SOCKET");
    for round in 0..common::number_variable("ROUNDS") {
        for number in 0..COMBINATIONS {
            let raw = Raw::connect(&socket);
            scribble(&raw, TARGETS[(number / PATTERNS) as usize], number % PATTERNS, round + number + 1);
        }
    }
}

fn scribble(raw: &Raw, target: &[usize], pattern: u64, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // What an honest peer would have there: a short record, or how much it was sent.
    let sound = |offset: usize| match offset {
        RING.. => DATA | 8,
        _ => random_boundary(raw),
    };
    for step in 0_u64.. {
        for &offset in target {
            let own = sound(offset);
            let value = match pattern {
                0 => 0,
                1 => u64::MAX,
                2 => own.wrapping_add(1),
                3 => own.wrapping_sub(1),
                4 => own + 8,
                5 => own.wrapping_sub(8),
                6 => random.next() >> (random.next() % 64),
                _ if step.is_multiple_of(2) => own,
                _ => random.next(),
            };
            raw.own.set(offset, value);
        }
        if step.is_multiple_of(16) {
            raw.ring();
        }
        if step.is_multiple_of(64) && (raw.is_hung_up() || step > 1 << 20) {
            return;
        }
    }
}

/// How much the other side has sent: the first empty header of its ring.
fn random_boundary(raw: &Raw) -> u64 {
    let mut position = 0;
    for _ in 0..8 {
        let word = raw.theirs.get(RING + position);
        let next = position + 8 + (word as u32 as usize).next_multiple_of(8);
        if word == 0 || next >= RING_BYTES as usize {
            break;
        }
        position = next;
    }
    position as u64
}

/// Role: one attack, by its name.
pub fn attack() {
    let socket = common::variable("SOCKET");
    match common::variable("ATTACK").as_str() {
        "flip" => flip(&Raw::connect(&socket)),
        "flip to huge" => loop {
            flip_to_huge(&Raw::connect(&socket));
        },
        "position" => {
            let raw = Raw::connect(&socket);
            loop {
                raw.own.set(CONSUMED, common::hear().parse().unwrap());
                common::say("written");
            }
        }
        "illegal headers" => {
            for (_, words) in ILLEGAL {
                let raw = Raw::connect(&socket);
                for (index, word) in words.iter().enumerate() {
                    raw.own.set(RING + 8 * index, *word);
                }
                raw.ring();
                raw.wait_for_hang_up();
            }
        }
        "huge length" => {
            let raw = Raw::connect(&socket);
            raw.own.set(RING, DATA | 0xffff_ffff);
            raw.ring();
            raw.wait_for_hang_up();
        }
        "fragments" => fragments(&Raw::connect(&socket)),
        "publish for ever" => {
            let raw = Raw::connect(&socket);
            for at in (0..RING_BYTES as usize).step_by(8) {
                raw.own.set(RING + at, DATA);
            }
            raw.ring();
            raw.wait_for_hang_up();
        }
        "first and abandon" => {
            let raw = Raw::connect(&socket);
            fill_with_abandoned_messages(&raw);
            raw.ring();
            raw.wait_for_hang_up();
        }
        "flood" => {
            let raw = Raw::connect(&socket);
            raw.socket.set_nonblocking(true).unwrap();
            raw.space.set_nonblocking(true).unwrap();
            while !raw.is_hung_up() {
                flood(&raw);
            }
        }
        "never drain" => never_drain(&Raw::connect(&socket)),
        other => panic!("unknown attack {other}"),
    }
}

/// Eight blocks go round the ring for ever. Each begins with a header that flips between a short and a long record; the
/// short one ends at a record of 1 byte, the long one at a record of 2 bytes, and padding leads on to the next block.
fn flip(raw: &Raw) {
    const BLOCK: usize = 8192;
    let blocks = || (0..RING_BYTES as usize).step_by(BLOCK).map(|block| RING + block);
    for block in blocks() {
        raw.own.set(block + 16, DATA | 1);
        raw.own.set(block + 32, PADDING | (BLOCK - 32 - 8) as u64);
        raw.own.set(block + 4088, DATA | 2);
        raw.own.set(block + 4104, PADDING | (BLOCK - 4104 - 8) as u64);
        raw.own.set(block, DATA | 8);
    }
    raw.ring();
    while !raw.is_hung_up() {
        for _ in 0..1000 {
            blocks().for_each(|block| raw.own.set(block, DATA | 8));
            blocks().for_each(|block| raw.own.set(block, DATA | 4080));
        }
    }
}

fn flip_to_huge(raw: &Raw) {
    for at in (0..RING_BYTES as usize).step_by(16) {
        raw.own.set(RING + at, DATA | 8);
    }
    raw.ring();
    while !raw.is_hung_up() {
        for step in 0..1000 {
            let huge = if step % 2 == 0 { DATA | 0xffff_ffff } else { DATA | (1 << 20) };
            for at in (0..RING_BYTES as usize).step_by(1024) {
                raw.own.set(RING + at, huge);
                raw.own.set(RING + at, DATA | 8);
            }
        }
    }
}

/// A message that begins and never ends; the ring goes round without waiting for the reader.
pub fn fragments(raw: &Raw) {
    const PART: usize = 8192;
    let middle = MIDDLE | (PART - 8) as u64;
    for at in (PART..RING_BYTES as usize - PART).step_by(PART) {
        raw.own.set(RING + at, middle);
    }
    raw.own.set(RING, FIRST | (PART - 8) as u64);
    raw.ring();
    // The first header is passed once; then it is a part in the middle like the others, and the ring is closed.
    while raw.theirs.get(CONSUMED) == 0 && !raw.is_hung_up() {
        std::thread::yield_now();
    }
    raw.own.set(RING, middle);
    raw.own.set(RING + RING_BYTES as usize - PART, middle);
    raw.ring();
    raw.wait_for_hang_up();
}

/// A ring full of messages that are begun and given up, round and round.
pub fn fill_with_abandoned_messages(raw: &Raw) {
    let mut at = 0;
    while at + 24 <= RING_BYTES as usize {
        raw.own.set(RING + at + 16, ABANDON);
        raw.own.set(RING + at, FIRST | 8);
        at += 24;
    }
    raw.own.set(RING + at, PADDING | 8);
}

/// Rings both doorbells as often as fits.
pub fn flood(raw: &Raw) {
    let bells = [1; 16 << 10];
    for socket in [&raw.socket, &raw.space] {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        while send_flagged(socket.as_raw_fd(), &bells, &[], flags).is_ok() {}
    }
}

/// Wants to be woken for every message and never reads a doorbell; makes the one that it shares with the other side
/// blocking, and small.
fn never_drain(raw: &Raw) {
    for socket in [&raw.space, &raw.their_space, &raw.socket] {
        socket.set_nonblocking(false).unwrap();
        for option in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
            let least = 1_i32;
            // SAFETY: the option's value is a number of 4 bytes, alive during the call.
            let set = unsafe {
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const least).cast(), 4)
            };
            assert_eq!(set, 0);
        }
    }
    for at in (0..RING_BYTES as usize).step_by(8192) {
        raw.own.set(RING + at, DATA | 8184);
    }
    let _ = send_flagged(raw.socket.as_raw_fd(), &[1], &[], libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
    let mut read = 0_u64;
    for generation in 1_u64.. {
        raw.own.set(DATA_SLEEP, generation << 2 | 1);
        raw.own.set(SPACE_SLEEP, generation << 2 | 1);
        // Reads on, so that the other side can send on: its messages have one byte, and pad nothing.
        let header = raw.theirs.get(RING + (read % RING_BYTES) as usize);
        if header == DATA | 1 {
            read += 16;
            raw.own.set(CONSUMED, read);
        }
        if generation.is_multiple_of(4096) && raw.is_hung_up() {
            return;
        }
    }
}
